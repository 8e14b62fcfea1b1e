"""The openai SDK as its users write it: so many tasks that ask again when they have their answer.

`python sdk.py URL MODEL STREAMS REQUESTS OUT` writes a line per whole answer: its time to first token in ms.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from openai import AsyncOpenAI


async def ask(client: AsyncOpenAI, model: str, number: int) -> float | None:
    """One answer's time to first token in ms; None if it was not whole."""
    began = time.perf_counter()
    first: float | None = None
    is_whole = False
    stream = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": f"question {number}"}], stream=True
    )
    async for chunk in stream:
        if first is None and chunk.choices and chunk.choices[0].delta.content:
            first = time.perf_counter() - began
        is_whole = is_whole or bool(chunk.choices and chunk.choices[0].finish_reason)
    return 1000 * first if first is not None and is_whole else None


async def main(url: str, model: str, streams: int, requests: int, out: Path) -> None:
    """Ask all of them."""
    numbers = iter(range(requests))
    found: list[float | None] = []
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:

        async def user() -> None:
            for number in numbers:
                found.append(await ask(client, model, number))

        await asyncio.gather(*(user() for _ in range(streams)))
    out.write_text("".join(f"{ttft_ms}\n" for ttft_ms in found if ttft_ms is not None))


if __name__ == "__main__":
    url, model, streams, requests, out = sys.argv[1:]
    asyncio.run(main(url, model, int(streams), int(requests), Path(out)))

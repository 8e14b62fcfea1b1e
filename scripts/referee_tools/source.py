"""The model that all referees hear: an answer of words at a steady pace, and a line with its stamps when it is over.

For `tokenderby serve sse --source scripts.referee_tools.source:tokens`. REFEREE_STAMPS names the file of the stamps:
when the question reached the model, when its first and its last token came (CLOCK_MONOTONIC ns).
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic_ns

TOKENS = 50
GAP_S = 0.02
TTFT_S = (0.2, 0.6)  # evenly between these: users who start at once do not stay in step

_random = random.Random(1)
_STAMPS = Path(os.environ.get("REFEREE_STAMPS", os.devnull))


async def tokens(_: str) -> AsyncIterator[str]:
    """An answer."""
    began_ns = monotonic_ns()
    await asyncio.sleep(_random.uniform(*TTFT_S))
    first_ns = monotonic_ns()
    yield "word"
    for k in range(1, TOKENS):
        await asyncio.sleep(max(0.0, first_ns / 1e9 + k * GAP_S - monotonic_ns() / 1e9))
        yield " word"
    _note(began_ns, first_ns, monotonic_ns())


def _note(*stamps_ns: int) -> None:
    with _STAMPS.open("a") as file:
        file.write(" ".join(map(str, stamps_ns)) + "\n")

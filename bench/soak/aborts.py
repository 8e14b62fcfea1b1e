"""Questions whose users leave: half of them straight after asking, half when the answer has begun."""

from __future__ import annotations

import asyncio

from bench.soak.bounds import ANSWER_S, MemoryBound
from bench.soak.scenario import Scenario
from bench.soak.scripts import SoakScript, question_script
from bench.soak.subject import Subject
from bench.soak.users import not_served
from bench.soak.visitors import in_turn, visit

_SHORT: dict[str, object] = {"profile": "fast", "tokens": 20, "ttft_ms": 20, "ttft_sigma": 0, "gap_ms": 10}
_LONG: dict[str, object] = {"profile": "fast", "tokens": 4_000, "ttft_ms": 20, "gap_ms": 10}


class StartAndAbort(Scenario):
    """What they asked is produced to its end all the same, kept for its time, and forgotten."""

    name = "abort"
    connections, quick = 10_000, 200
    expected_s = 18.0
    bound = MemoryBound(held_kib_each=24, held_mib=64, kept_mib=64)

    async def load(self, under: Subject, connections: int, *, is_quick: bool) -> list[str]:
        """Ask and leave, 200 at once."""

        async def ask_and_leave(number: int) -> None:
            body: dict[str, object] = {"message": "x", "stream_id": f"abort-{number}", "stream": _SHORT, "seed": number}
            visitor = await visit(under.address, question_script(under.transport, body))
            try:
                async with asyncio.timeout(ANSWER_S):
                    await (visitor.answered if number % 2 else visitor.asked)
            finally:
                visitor.reset()
                await visitor.ended

        loading = asyncio.create_task(in_turn(connections, ask_and_leave))
        try:
            broken = await not_served(under, "beside users who leave")
            failures = await loading
        finally:
            loading.cancel()
        return broken + [f"{count} users were not answered: {word}" for word, count in failures.items()]

    def parting(self, transport: str, number: int) -> SoakScript:
        """Answers that go on for longer than the server may."""
        return question_script(transport, {"message": "x", "stream_id": f"long-{number}", "stream": _LONG})

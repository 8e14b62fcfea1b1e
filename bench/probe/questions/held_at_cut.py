"""Is what is held back lost when a silence is cut? Then a client has less than the server has sent."""

from __future__ import annotations

import asyncio

from bench.probe.asking import Asking
from bench.probe.channel import Talk
from bench.probe.finding import NO_CUT, Finding
from bench.probe.question import ProbeQuestion
from bench.probe.shape_streams import LIMIT_S, TIMES, UNHINTED
from bench.probe.streams import silent

HOLD_BEYOND = 1.5
"""Times the limit on silence that was found: so long is the silence."""


async def _ask(asking: Asking) -> Finding:
    held, idle = await asking.known("buffering"), await asking.known("idle")
    if held is None or held.value not in ("bytes", "bytes_or_time", "first_bytes"):
        return _finding(asking, None, 0, "nothing is held that could be lost")
    if idle is None or not isinstance(idle.value, int | float):
        return _finding(asking, None, 0, "no silence is cut")
    talk = Talk(silent(HOLD_BEYOND * idle.value), LIMIT_S + HOLD_BEYOND * idle.value, headers=UNHINTED)
    heard = await asyncio.gather(*(asking.talk(talk) for _ in range(TIMES)))
    cut = [each for each in heard if each.ending != NO_CUT and each.status == 200]
    lost = {not each.tokens for each in cut}
    if len(lost) != 1:
        return _finding(asking, None, len(cut), "not the same each time" if lost else "no silence was cut")
    words = "what was held is lost" if lost == {True} else "what was held comes with the end"
    return _finding(asking, lost == {True}, len(cut), words)


def _finding(asking: Asking, value: bool | None, seen: int, words: str) -> Finding:
    return Finding(question="held_at_cut", transport=asking.transport, value=value, seen=seen, words=words)


QUESTIONS = (
    ProbeQuestion(
        *("held_at_cut", "Is what is held lost when a silence is cut?", "shape", ("sse", "chunked"), TIMES),
        lambda up_to_s: up_to_s,
        _ask,
        needs=("buffering", "idle"),
    ),
)

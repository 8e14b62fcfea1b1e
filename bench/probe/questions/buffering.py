"""Is a stream held back, and until when? By what our servers say of it, by its type, and by the request's method."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from bench.probe.asking import Asking
from bench.probe.channel import Talk
from bench.probe.finding import Finding
from bench.probe.held import held_finding
from bench.probe.holding import NOTHING, Holding, holding, is_held
from bench.probe.question import ProbeQuestion
from bench.probe.shape_streams import LARGE, LIMIT_S, STEADY, TIMES, UNHINTED, slow
from bench.probe.streams import Stream
from bench.probe.trace import Trace, aligned

STREAMING = ("sse", "chunked", "websocket")


async def repeated_traces(
    asking: Asking, stream: Stream, says_enough: Callable[[list[Trace]], bool] = lambda _: False, **how: Any
) -> list[Trace]:
    """The same stream, asked for `TIMES` times, one after the other: a machine that stands still delays only one.

    says_enough: of those that came whole so far, whether no other is needed
    how: more of a Talk
    """
    talk, whole = Talk(stream, LIMIT_S + asking.up_to_s / 60, **how), list[Trace]()
    for _ in range(TIMES):
        trace = Trace.of(await asking.talk(talk))
        whole += [trace] * trace.is_complete
        if whole and says_enough(whole):
            break
    return whole


async def look(asking: Asking, **how: Any) -> Holding | None:
    """What is done to streams that are asked for in this way; who seems to hold them is looked at a second time."""
    found = await _look(asking, **how)
    if found in (None, NOTHING):
        return found
    again = await _look(asking, **how)
    return found if again is None or again.kind == found.kind else again


async def _look(asking: Asking, **how: Any) -> Holding | None:
    """What is done to streams that are asked for in this way; the others only where the steady one is held."""
    steady = await repeated_traces(asking, STEADY, _is_free, **how)
    if not steady or _is_free(steady):
        return NOTHING if steady else None
    others = await asyncio.gather(*(repeated_traces(asking, stream, **how) for stream in (slow(asking.up_to_s), LARGE)))
    return holding(others[0], steady, others[1])


def _is_free(steady: list[Trace]) -> bool:
    """Whether nothing holds these back: what holds streams holds each of them, so that a single free one says it."""
    return not is_held(aligned([steady])[0])


async def _ask(asking: Asking) -> Finding:
    """First without the hint, since a hint makes nobody hold more than without; with it only where that is held."""
    if asking.transport == "websocket":
        return held_finding("buffering", asking.transport, await look(asking), None)
    unhinted = await look(asking, headers=UNHINTED)
    hinted = await look(asking) if unhinted not in (None, NOTHING) else unhinted
    return held_finding("buffering", asking.transport, unhinted, hinted)


async def _ask_get(asking: Asking) -> Finding:
    how: Mapping[str, Any] = {"method": "GET", "headers": UNHINTED}
    return held_finding("buffering_get", asking.transport, await look(asking, **how), None)


def _expected_s(up_to_s: float) -> float:
    return TIMES * (max(0.6, up_to_s / 60) + 2 * 0.6)


def _question(
    name: str, title: str, transports: tuple[str, ...], ask: Callable[[Asking], Awaitable[Finding]]
) -> ProbeQuestion:
    return ProbeQuestion(name, title, "shape", transports, 2 * TIMES, _expected_s, ask)


QUESTIONS = (
    _question("buffering", "What is held back, and until when?", STREAMING, _ask),
    _question("buffering_get", "The same where it is asked by GET", ("sse",), _ask_get),
)

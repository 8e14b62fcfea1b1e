"""How old may a connection become that is used all the time?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from bench.probe.asking import Asking
from bench.probe.channel import Channel, Heard
from bench.probe.finding import BLACK_HOLE, NO_CUT, Finding
from bench.probe.question import ProbeQuestion
from bench.probe.words import seconds
from clients.core.http1 import Request
from servers.transport import TRANSPORTS

ANSWER_S = 10.0
REQUESTS = 200  # of the quickest connection; the paces differ, so that a limit on their number shows
PACES = (1.0, 1.4, 1.8)
_LEAST = 2  # connections that say something: one alone shows no limit
_ASK = Request("GET", "/healthz")
_CUTS = ("fin", "rst", BLACK_HOLE)
"""How a connection ends; whatever else went wrong (refused, tls, timeout, a status) says nothing of its age."""
_SLACK = 1.05, 0.1
"""A connection that lives longer than another one's end by this factor, and so many seconds, contradicts it."""


@dataclass(frozen=True)
class Old:
    """A connection that was used until it was closed, or the time was over.

    fine_s: its age at the last response after which it could be used
    closed_s: at the response, or the end, from which on it could not; None if that did not come
    announced: whether a response said so (Connection: close)
    ended_ns: when that was
    is_void: whether it says nothing: it was disturbed, or could not be made
    """

    fine_s: float
    closed_s: float | None
    requests: int
    ending: str
    announced: bool
    last: Heard
    ended_ns: int = 0
    is_void: bool = False


async def ask(asking: Asking) -> Finding:
    """Connections that are used all the time until they are closed."""
    return concluded(
        asking, await asyncio.gather(*(_watched(asking, pace * asking.up_to_s / REQUESTS) for pace in PACES))
    )


def concluded(asking: Asking, tried: list[Old]) -> Finding:
    """What these connections say together."""
    old = [each for each in tried if not each.is_void]
    if len(old) < _LEAST:
        return asking.finding(f"not seen: {len(tried) - len(old)} of {len(tried)} connections say nothing")
    ages = [each.closed_s for each in old if each.closed_s is not None]
    if not ages:
        low_s = min(each.fine_s for each in old)
        return asking.finding(f"no connection was closed within {seconds(low_s)} of use", seen=len(old), low=low_s)
    return _closed(asking, old, ages)


def _closed(asking: Asking, old: list[Old], ages: list[float]) -> Finding:
    """What connections say of which some were closed."""
    first = next(each for each in old if each.closed_s is not None)
    facts: dict[str, Any] = {"announced": first.announced}
    if max(each.requests for each in old) == 1:
        is_kept = any(each.fine_s for each in old)
        words = "not seen: a connection is closed before its second request" if is_kept else "connections are not kept"
        return asking.finding(words, ending=first.ending, seen=len(old), facts=facts)
    if len(ages) >= _LEAST and _is_by_number(old):
        words = f"a connection is closed after {first.requests} requests, whatever its age"
        facts["requests"] = first.requests
        return asking.finding(words, ending=first.ending, seen=len(ages), facts=facts)
    if len(ages) < _LEAST:
        words = f"no limit on age: 1 of {len(old)} connections was closed, at the age of {seconds(ages[0])}"
        words += f" and request {first.requests}, which no other reached" * _is_by_number(old)
        return asking.finding(words, ending=first.ending, seen=len(old), facts=facts)
    fine_s = max(each.fine_s for each in old)
    if fine_s > min(ages) * _SLACK[0] + _SLACK[1]:
        words = (
            f"no limit on age: one connection was closed at {seconds(min(ages))}, another was fine at {seconds(fine_s)}"
        )
        return asking.finding(words, ending=first.ending, seen=len(old), facts=facts)
    low_s, high_s = sorted((fine_s, min(ages)))
    value_s = (low_s + high_s) / 2
    how = "its last response says so (Connection: close)" if first.announced else "no response says so"
    words = (
        f"a connection is closed at the age of {seconds(value_s)} (from {seconds(low_s)} to {seconds(high_s)}); {how}"
    )
    return asking.finding(
        words, value_s, unit="s", low=low_s, high=high_s, seen=len(ages), ending=first.ending, facts=facts
    )


def _is_by_number(old: list[Old]) -> bool:
    """Whether those that were closed had made so many requests as no other: their paces and so their ages differ."""
    closed = {each.requests for each in old if each.closed_s is not None}
    return len(closed) == 1 and all(each.requests < max(closed) for each in old if each.closed_s is None)


async def _watched(asking: Asking, every_s: float) -> Old:
    async with asking.channel() as channel:
        old = await _use(channel, every_s, min(asking.up_to_s, asking.left_s()))
    void = ""
    if old.closed_s is not None and old.ending not in _CUTS:
        void = old.last.detail or old.ending
    elif old.closed_s is not None and await asking.was_disturbed(old.ended_ns, old.ended_ns):
        void = "the control stream was disturbed"
    facts = {"requests": old.requests, "announced": old.announced}
    asking.note(old.last, f"a request every {seconds(every_s)}", old.closed_s, old.ending, void, **facts)
    return replace(old, is_void=bool(void))


async def _use(channel: Channel, every_s: float, for_s: float) -> Old:
    """Ask again and again over one connection."""
    fine_s, requests = 0.0, 0
    while True:
        heard = await channel.ask(_ASK, ANSWER_S)
        requests += 1
        age_s = (heard.ended_ns - channel.opened_ns) / 1e9
        if not heard.is_fit:
            announced = heard.ending == NO_CUT
            ending = "fin" if announced else heard.ending
            return Old(fine_s, age_s, requests, ending, announced, heard, heard.ended_ns)
        fine_s = age_s
        if age_s >= for_s:
            return Old(fine_s, None, requests, NO_CUT, announced=False, last=heard)
        if ending := await channel.wait_for_end(every_s):
            assert channel.connection is not None
            ended_ns = channel.connection.ended_ns
            return Old(fine_s, (ended_ns - channel.opened_ns) / 1e9, requests, ending, False, heard, ended_ns)


QUESTIONS = (
    ProbeQuestion(
        id="age",
        title="How old may a connection become that is used all the time?",
        group="time",
        transports=tuple(TRANSPORTS),
        connections=len(PACES),
        expected_s=lambda up_to_s: up_to_s,
        ask=ask,
        requests=sum(round(REQUESTS / pace) for pace in PACES),
        once=True,
    ),
)

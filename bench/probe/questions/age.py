"""How old may a connection become that is used all the time, and how many requests may it carry?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from time import monotonic_ns
from typing import Any

from bench.probe.asking import Asking
from bench.probe.channel import Channel, Heard
from bench.probe.finding import BLACK_HOLE, NO_CUT, Finding
from bench.probe.question import ProbeQuestion
from bench.probe.trial import LEAST_S
from bench.probe.words import rounded_seconds
from clients.core.http1 import Request
from servers.transport import TRANSPORTS

ANSWER_S = 10.0
PACES = (1.0, 1.4, 1.8)
"""From one request to the next, relatively: they differ, so that a limit on the number of requests shows. The first is
the leader: when it has made n requests, another has made n / pace, however late this machine is."""
FEWEST, MOST = 200, 2100
"""Requests of the quickest connection: at most so many that nginx's 1000 are reached at every pace."""
QUICKEST_S = 0.15
"""Between two requests, where that leaves the fewest."""
_LEAST = 2  # connections that say something: one alone shows no limit
_ASK = Request("GET", "/healthz")
_CUTS = ("fin", "rst", BLACK_HOLE)
"""How a connection ends; whatever else went wrong (refused, tls, timeout, a status) says nothing of its age."""
_FEW = 3  # requests at most: so many may be the same by chance
_APART = 1.25  # then their ages differ by this factor, on a machine that is not late
_SLACK = 1.05, 0.1
"""A connection that lives longer than another one's end by this factor, and so many seconds, contradicts it."""


@dataclass(frozen=True)
class Old:
    """A connection that was used until it was closed, or the time was over.

    fine_s: so old it was at least when it was last seen to be fit for another request
    closed_s: so old at most when it was seen that it was not; None if that did not come
    requests: how many were answered
    announced: whether a response said so (Connection: close)
    ended_ns: when that was
    is_void: whether it says nothing: it was disturbed, or could not be made
    is_punctual: whether this machine was never late meanwhile
    """

    fine_s: float
    closed_s: float | None
    requests: int
    ending: str
    announced: bool
    last: Heard
    ended_ns: int = 0
    is_void: bool = False
    is_punctual: bool = True


@dataclass
class Leader:
    """How far the quickest connection is: whether others keep their pace is counted, since time may be late."""

    answered: int = 0
    is_over: bool = False

    def is_ahead(self, answered: int, pace: float) -> bool:
        """Whether a connection that has had so many answers may ask again."""
        return self.is_over or pace * (answered + 1) <= self.answered + 1


async def ask(asking: Asking) -> Finding:
    """Connections that are used all the time until they are closed."""
    leader = Leader()
    return concluded(asking, await asyncio.gather(*(_watched(asking, leader, pace) for pace in PACES)))


async def ask_number(asking: Asking) -> Finding:
    """The same connections say it: they are closed after so many requests as well, at whatever pace."""
    age = await asking.known("age")
    if age is None or not age.seen:
        return asking.finding(age.words if age else "not known: the age of connections was not asked for")
    number, carried = age.facts.get("requests"), int(age.facts.get("carried", 0))
    if number is None and carried > _FEW:
        return asking.finding(f"no limit was found: a connection carried {carried} requests")
    if number is None:
        return asking.finding(age.words)
    words = f"a connection is closed after {number} requests, whatever its age" if number > 1 else age.words
    return asking.finding(words, int(number), unit="requests", seen=age.seen, ending=age.ending, facts=age.facts)


def every_s(up_to_s: float) -> float:
    """From one request of the quickest connection to the next."""
    return up_to_s / min(MOST, max(FEWEST, up_to_s / QUICKEST_S))


def requests(up_to_s: float) -> int:
    """How many all connections send."""
    return sum(round(up_to_s / (pace * every_s(up_to_s))) for pace in PACES)


def concluded(asking: Asking, tried: list[Old]) -> Finding:
    """What these connections say together."""
    old = [each for each in tried if not each.is_void]
    if len(old) < _LEAST:
        return asking.finding(f"not seen: {len(tried) - len(old)} of {len(tried)} connections say nothing")
    facts: dict[str, Any] = {"carried": max(each.requests for each in old)}
    ages = [each.closed_s for each in old if each.closed_s is not None]
    if ages:
        return _closed(asking, old, ages, facts)
    low_s = min(each.fine_s for each in old)
    return asking.finding(
        f"no connection was closed within {rounded_seconds(low_s)} of use", seen=len(old), low=low_s, facts=facts
    )


def _closed(asking: Asking, old: list[Old], ages: list[float], facts: dict[str, Any]) -> Finding:
    """What connections say of which some were closed."""
    first = next(each for each in old if each.closed_s is not None)
    facts["announced"] = first.announced
    if facts["carried"] == 1:
        return _at_once(asking, old, first, facts)
    if len(ages) >= _LEAST and _is_by_number(old):
        words = f"not seen: a connection is closed after {first.requests} requests before"
        facts["requests"] = first.requests
        return asking.finding(words, ending=first.ending, seen=len(ages), facts=facts)
    if len(ages) >= _LEAST and _are_as_many(old):
        words = "not seen: closed after so few requests that either their number or the age may be the reason"
        return asking.finding(words, ending=first.ending, seen=len(ages), facts=facts)
    if why_not := _contradiction(old, ages):
        return asking.finding(f"no limit on age: {why_not}", ending=first.ending, seen=len(old), facts=facts)
    low_s, high_s = sorted((max(each.fine_s for each in old), min(ages)))
    value_s = (low_s + high_s) / 2
    how = "its last response says so (Connection: close)" if first.announced else "no response says so"
    span = f"from {rounded_seconds(low_s)} to {rounded_seconds(high_s)}"
    words = f"a connection is closed at the age of {rounded_seconds(value_s)} ({span}); {how}"
    return asking.finding(
        words, value_s, unit="s", low=low_s, high=high_s, seen=len(ages), ending=first.ending, facts=facts
    )


def _at_once(asking: Asking, old: list[Old], first: Old, facts: dict[str, Any]) -> Finding:
    """What connections say that carried one request each."""
    if any(each.fine_s for each in old):  # its first response left it open
        return asking.finding(
            "not seen: a connection is closed before its second request",
            ending=first.ending,
            seen=len(old),
            facts=facts,
        )
    facts["requests"] = 1
    return asking.finding("connections are not kept", ending=first.ending, seen=len(old), facts=facts)


def _contradiction(old: list[Old], ages: list[float]) -> str:
    """Why these ends show no limit on age; "" if nothing contradicts it."""
    fine_s = max(each.fine_s for each in old)
    if len(ages) < _LEAST:
        first = next(each for each in old if each.closed_s is not None)
        number = f" and request {first.requests}, which no other reached" * _is_by_number(old)
        return f"1 of {len(old)} connections was closed, at the age of {rounded_seconds(ages[0])}{number}"
    if fine_s > min(ages) * _SLACK[0] + _SLACK[1]:
        return (
            f"one connection was closed at {rounded_seconds(min(ages))}, another was fine at {rounded_seconds(fine_s)}"
        )
    return ""


def _is_by_number(old: list[Old]) -> bool:
    """Whether their number is why connections were closed: all made as many, though none kept up with another.

    Of few requests that may be chance, unless one was fine at an age at which another was closed.
    """
    ages = [each.closed_s for each in old if each.closed_s is not None]
    is_older_fine = max(each.fine_s for each in old) >= min(ages)
    is_apart = max(ages) > _APART * min(ages) and all(each.is_punctual for each in old)
    is_many = max(each.requests for each in old) > _FEW
    return _are_as_many(old) and (is_many or is_older_fine or is_apart)


def _are_as_many(old: list[Old]) -> bool:
    """Whether those that were closed had made so many requests as no other."""
    closed = {each.requests for each in old if each.closed_s is not None}
    return len(closed) == 1 and all(each.requests < max(closed) for each in old if each.closed_s is None)


async def _watched(asking: Asking, leader: Leader, pace: float) -> Old:
    wait_s = pace * every_s(asking.up_to_s)
    wait_s = max(wait_s / 2, wait_s - asking.clock.rtt_s)
    try:
        async with asking.channel() as channel:
            old = await _use(channel, leader, pace, wait_s, min(asking.up_to_s, asking.left_s()))
    finally:
        leader.is_over |= pace == PACES[0]  # whatever became of it: the others wait for it
    void = ""
    if old.closed_s is not None and old.ending not in _CUTS:
        void = old.last.detail or old.ending
    elif old.closed_s is not None and await asking.was_disturbed(old.ended_ns, old.ended_ns):
        void = "the control stream was disturbed"
    facts = {"requests": old.requests, "announced": old.announced}
    asking.note(old.last, f"a request every {rounded_seconds(wait_s)}", old.closed_s, old.ending, void, **facts)
    late_s = asking.lateness.late_s(old.last.opened_ns, old.ended_ns)
    return replace(old, is_void=bool(void), is_punctual=not late_s)


async def _use(channel: Channel, leader: Leader, pace: float, wait_s: float, for_s: float) -> Old:
    """Ask again and again over one connection, every `wait_s`, as soon as the leader is far enough ahead.

    Whoever is late, here or there, leaves the interval wider, and never wrong: what counts is when a request was sent
    whose response leaves the connection open, and when a response that does not had come.
    """
    fine_s, answered, began_ns = 0.0, 0, monotonic_ns()
    while True:
        heard = await channel.ask(_ASK, ANSWER_S)
        if heard.ending == NO_CUT:
            answered += 1
        if pace == PACES[0]:
            leader.answered = answered
        if not heard.is_fit:
            announced = heard.ending == NO_CUT
            ending = "fin" if announced else heard.ending
            closed_s = (heard.ended_ns - began_ns) / 1e9
            return Old(fine_s, closed_s, answered, ending, announced, heard, heard.ended_ns)
        fine_s = max(LEAST_S, (heard.asked_ns - channel.opened_ns) / 1e9)
        if fine_s >= for_s:
            return Old(fine_s, None, answered, NO_CUT, announced=False, last=heard)
        ending = await channel.wait_for_end(wait_s)
        while not ending and not leader.is_ahead(answered, pace):
            ending = await channel.wait_for_end(wait_s)
        if ending:
            assert channel.connection is not None
            ended_ns = channel.connection.ended_ns
            return Old(fine_s, (ended_ns - began_ns) / 1e9, answered, ending, False, heard, ended_ns)


QUESTIONS = (
    ProbeQuestion(
        id="age",
        title="How old may a connection become that is used all the time?",
        group="time",
        transports=tuple(TRANSPORTS),
        connections=len(PACES),
        expected_s=lambda up_to_s: up_to_s,
        ask=ask,
        requests=requests,
        once=True,
    ),
    ProbeQuestion(
        id="requests",
        title="How many requests may a connection carry?",
        group="time",
        transports=tuple(TRANSPORTS),
        connections=0,
        expected_s=lambda up_to_s: up_to_s,
        ask=ask_number,
        needs=("age",),
        once=True,
    ),
)

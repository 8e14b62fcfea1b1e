"""For every profile that ships: what is recommended gets through it, if anything does, by a simulated clock."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from itertools import count
from typing import NamedTuple

import pytest

from bench.analysis.findings.recommendation import NEAR_S, Candidate, SeenWay, choose
from bench.analysis.findings.survival import Way, settings_of
from bench.analysis.measures.situations import Situation
from bench.decide.matrix import ExpectedTraffic, heartbeat_s, matrix
from bench.plan import Cell
from bench.probe.rehearsal import Scene, rehearse
from bench.proxy import profile as profiles
from bench.proxy.behaviours import (
    FirstByteTimeout,
    IdleTimeout,
    KeepaliveTimeout,
    MaxDuration,
    MaxRequests,
    ResponseBuffering,
    Upgrade,
    WebsocketClose,
)
from bench.proxy.profile import Profile
from bench.proxy.rule import Rule

SILENCE_S, THINK_S, FIRST_S, PATIENCE_S = 70.0, 300.0, 1.0, 115.0
ATTEMPTS = 8
TRAFFIC = ExpectedTraffic(silence_s=SILENCE_S, think_s=THINK_S)


class Sent(NamedTuple):
    """What a server has to say on one connection, in seconds from its opening."""

    tokens_s: tuple[float, ...]
    beats_s: tuple[float, ...]


def fate(rules: tuple[Rule, ...], cell: Cell) -> bool:
    """Whether a message, or two of a conversation, come through whole."""
    if cell.transport == "polling":
        scene = Scene("polls", "short", 30.0, asks_s=(0.0, 10.0, 20.0))
        return rehearse(rules, scene).status == 200
    tokens_s: tuple[float, ...] = (FIRST_S, FIRST_S + SILENCE_S) if cell.load == "silence" else (FIRST_S, 15.0)
    if cell.transport == "blocking":
        return comes_whole(rules, cell, Sent(tokens_s[-1:], ()))[0]
    if cell.transport == "websocket" and cell.load != "silence":  # one connection for the whole conversation
        tokens_s += (15.0 + THINK_S, 30.0 + THINK_S)
    return arrives(rules, cell, tokens_s)


def arrives(rules: tuple[Rule, ...], cell: Cell, tokens_s: tuple[float, ...]) -> bool:
    """Whether all tokens come, over as many connections as the cell's recovery may open."""
    began_s, without_progress = 0.0, 0
    for attempt in count():
        left = tuple(max(0.0, at_s - began_s) for at_s in tokens_s)
        whole, came, cut_s = comes_whole(rules, cell, Sent(left, tuple(beats(cell, left))))
        if whole:
            return True
        without_progress = 0 if came else without_progress + 1
        if cell.recovery == "none" or without_progress >= ATTEMPTS or attempt > 100:
            return False
        tokens_s, began_s = tokens_s[came:], began_s + cut_s
    raise AssertionError


def beats(cell: Cell, tokens_s: tuple[float, ...]) -> Iterator[float]:
    at_s = cell.heartbeat
    while cell.heartbeat and at_s < tokens_s[-1]:
        yield at_s
        at_s += cell.heartbeat


def comes_whole(rules: tuple[Rule, ...], cell: Cell, sent: Sent) -> tuple[bool, int, float]:
    """Whether one connection brings all, else how many tokens it brought, and when the client knew of its end."""
    is_socket = cell.transport == "websocket"
    times_s = tuple(sorted((*sent.tokens_s, *sent.beats_s)))
    scene = Scene(
        "answer",
        "websocket" if is_socket else "stream",
        times_s[-1] + 2 * PATIENCE_S,
        head_s=times_s[-1] if cell.transport == "blocking" else 0.0,
        tokens_s=times_s,
        ends=not is_socket,
        client_s=sent.beats_s if is_socket else (),
        content_type="application/x-ndjson" if cell.transport == "chunked" else "text/event-stream",
    )
    seen, direct = rehearse(rules, scene), rehearse((), scene)
    brought = seen.arrivals[-1][1] if seen.arrivals else 0
    if seen.status in (101, 200) and brought >= direct.arrivals[-1][1]:
        return True, len(sent.tokens_s), 0.0
    cut_s = seen.at_s if seen.at_s is not None else times_s[-1]
    came = 0 if seen.status not in (101, 200) else sum(at_s < cut_s for at_s in sent.tokens_s)
    late_s = PATIENCE_S if seen.ending == "black_hole" else 0.0
    return False, came, cut_s + late_s + 0.1


def candidates(fates: Mapping[Cell, bool]) -> list[Candidate]:
    """What a run in which each message met its fate would have shown."""
    seen: dict[Way, list[SeenWay]] = {}
    for cell, whole in fates.items():
        words = tuple(f"{key}={value}" for key, value in cell.variant.items() if key not in ("load", "stream"))
        situation = Situation((cell.load,), cell.load, cell.load)
        outcome_of = SeenWay(situation, int(whole), 1, "" if whole else "lost it", 0.0 if whole else math.inf)
        seen.setdefault(Way(cell.transport, words, cell.recovery), []).append(outcome_of)
    return [Candidate(way, tuple(each), (), NEAR_S) for way, each in seen.items()]


def made(number: int) -> Profile:
    """One that nobody ships: a few limits of any size, and whatever else a balancer may do."""
    draw = random.Random(number)
    limits = (10.0, 25.0, 60.0, 100.0, 350.0)
    possible: list[Rule] = [
        IdleTimeout(
            idle_timeout_s=draw.choice(limits),
            reset_by=draw.choice(["either", "up", "down", "each"]),
            scope=draw.choice(["connection", "request", "response", "websocket"]),
            action=draw.choice(["fin", "rst", "black_hole"]),
        ),
        MaxDuration(max_duration_s=draw.choice(limits), scope=draw.choice(["request", "websocket", "connection"])),
        FirstByteTimeout(first_byte_timeout_s=draw.choice(limits)),
        KeepaliveTimeout(keepalive_timeout_s=draw.choice(limits)),
        MaxRequests(max_requests=draw.choice([1, 2, 50])),
        WebsocketClose(idle_timeout_s=draw.choice(limits)),
        Upgrade(action=draw.choice(["strip", "refuse"])),
        ResponseBuffering(until_complete=True),
    ]
    rules = draw.sample(possible, draw.randint(1, 4))
    return Profile(
        name=f"made {number}", rules=tuple(sorted(rules, key=lambda rule: rule.name == "response_buffering"))
    )


@pytest.mark.parametrize("number", range(20))
def test_so_does_what_is_recommended_behind_one_that_nobody_ships(number: int) -> None:
    recommended(made(number))


@pytest.mark.parametrize("name", profiles.names())
def test_what_is_recommended_gets_through(name: str) -> None:
    recommended(profiles.load_profile(name))


def recommended(profile: Profile) -> None:
    """The recommendation is one that comes through, if any does, and the simplest of those."""
    plan = matrix("aws-alb", heartbeat_s(profile), TRAFFIC, {}, 1)
    every = candidates({cell: fate(profile.rules, cell) for cell in plan.cells})
    found = choose(profile.name, every)
    assert found.chosen.is_whole == any(each.is_whole for each in every)
    simpler = [each for each in every if len(settings_of(each.way)) < len(settings_of(found.chosen.way))]
    assert not any(each.is_whole for each in simpler), "fewer settings would do"


# As `tokenderby decide NAME --silence 70 --think 300` has measured it, with real connections.
MEASURED = {
    "aws-alb": Way("sse", ("heartbeat=15",)),
    "corporate-proxy": Way("chunked"),
    "gcp-alb": Way("websocket"),
    "mobile-nat": Way("sse"),
}


@pytest.mark.parametrize("name", MEASURED)
def test_what_was_measured_comes_through_here_too(name: str) -> None:
    profile = profiles.load_profile(name)
    plan = matrix(name, heartbeat_s(profile), TRAFFIC, {}, 1)
    every = candidates({cell: fate(profile.rules, cell) for cell in plan.cells})
    assert MEASURED[name] in {each.way for each in every if each.is_whole}

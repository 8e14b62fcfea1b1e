"""The few cells that decide: every way that may work behind one intermediary, under what it will carry (pure).

Ways: each transport as it is; those that push also with a heartbeat, with resuming, and with both; polling also held
open. Situations: conversations of today's typical answers, with time to think in between; answers in which the model
falls silent once; and a trace of one's own, if there is one. Limits hold for the typical answers and for the trace.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from bench.plan import Plan, parse
from bench.proxy.behaviours.idle_timeout import IdleTimeout
from bench.proxy.behaviours.latency import Latency
from bench.proxy.behaviours.websocket_close import WebsocketClose
from bench.proxy.profile import Profile
from servers.transport import PUSHED, TRANSPORTS

BLOCKS = 3
MESSAGES = 24  # per cell and block: three blocks have the 72 that a p95 takes
CELL_S = 30.0  # of the clock, that the longest cell of a block may take: the time scale sees to it
ANSWER_S = 15.0  # a long answer of the stream profile `hosted`, for reckoning
START_S = 10.0  # within which a cell's messages start
HEARTBEATS_S = (15, 10, 5, 2, 1, 0.5, 0.2)
WAIT_S = 20  # that a long poll is held open

_VALIDITY = {  # many cells share the machine; what is decided here is whether messages arrive, and tenths of seconds
    "generator_lag_ms_p99": 1000,
    "emit_lag_ms_p99": 1000,
    "loop_lag_ms_p99": 1000,
    "loop_lag_ms_max": 2000,
    "request_lag_ms_p99": 1000,
    "foreign_cpu_ratio": 2,
    "steal_ratio": 0.5,
    "client_cpu_ratio": 1,
}


@dataclass(frozen=True)
class ExpectedTraffic:
    """What the intermediary will carry; times are real seconds. `trace` is a file that clients.traces reads."""

    silence_s: float = 20.0
    think_s: float = 90.0
    trace: str | None = None


def heartbeat_s(profile: Profile) -> float:
    """A usual heartbeat that is at most half of the shortest silence for which the profile ends a connection."""
    silent = (rule.idle_timeout_s for rule in profile.rules if isinstance(rule, IdleTimeout | WebsocketClose))
    limits = [limit_s for limit_s in silent if limit_s is not None]
    return next((each for each in HEARTBEATS_S if each <= min(limits, default=math.inf) / 2), HEARTBEATS_S[-1])


def fitting_time_scale(traffic: ExpectedTraffic) -> float:
    """By what to divide all times, so that no cell takes much longer than CELL_S; 1 for short silences."""
    longest_s = max(2 * ANSWER_S + traffic.think_s, ANSWER_S + traffic.silence_s) + START_S
    return float(max(1, math.ceil(longest_s / CELL_S)))


def matrix(profile: str, beat_s: float, traffic: ExpectedTraffic, limits: Mapping[str, Any], scale: float) -> Plan:
    """The plan that decides about `profile` (a name or a file). Raises PlanError."""
    situations = dict(_situations(traffic))
    cells = [
        {**way, **words, "profile": profile}
        for words in ({}, *({"load": name, "stream": each["stream"]} for name, each in situations.items()))
        for way in _ways(beat_s)
    ]
    return parse(
        {
            "name": "decide",
            "description": "which way to take behind one intermediary",
            "decision": True,
            "blocks": BLOCKS,
            "time_scale": scale,
            "parallel": 16,
            "control": "none",
            "stream": {"profile": "hosted"},
            "streams": {"silence": _silent(traffic.silence_s)},
            "load": _load(traffic),
            "loads": {name: each["load"] for name, each in situations.items()},
            "slos": {"traffic": dict(limits)},
            "validity": _VALIDITY,
            "cells": [cell if cell.get("load") == "silence" else cell | {"slo": "traffic"} for cell in cells],
        }
    )


def _ways(beat_s: float) -> Iterator[dict[str, Any]]:
    for transport, kind in TRANSPORTS.items():
        yield {"transport": transport}
        if transport in PUSHED:
            yield {"transport": transport, "heartbeat": beat_s}
            yield {"transport": transport, "recovery": "resume"}
            yield {"transport": transport, "heartbeat": beat_s, "recovery": "resume"}
        elif kind.pulls:
            yield {"transport": transport, "wait": WAIT_S}
            yield {"transport": transport, "recovery": "resume"}


def _load(traffic: ExpectedTraffic) -> dict[str, Any]:
    """Conversations of two messages. Without a limit to the clients' patience nobody notices a black hole."""
    return {
        "streams": MESSAGES,
        "turns": 2 if traffic.think_s else 1,
        "think_s": traffic.think_s,
        "rate_per_s": MESSAGES / 2 / START_S,
        "warmup_streams": 0,
        "silence_s": traffic.silence_s * 1.5 + 10,
        "timeout_s": 3 * traffic.silence_s + 10 * ANSWER_S,
    }


def _situations(traffic: ExpectedTraffic) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "silence", {"stream": "silence", "load": {"turns": 1, "think_s": 0, "rate_per_s": MESSAGES / START_S}}
    if traffic.trace:
        yield "trace", {"stream": "", "load": {"arrivals": "trace", "trace": traffic.trace, "trace_s": 60, "turns": 1}}


def _silent(silence_s: float) -> dict[str, Any]:
    """Half an answer, one silence, the other half."""
    quiet = {"ttft_ms": 1000, "ttft_sigma": 0, "gap_sigma": 0, "tokens": 48, "per_emission": 24}
    return quiet | {"gap_ms": max(silence_s * 1000, 1)}


def farther(profile: Profile, round_trip_ms: float) -> Profile:
    """The profile with a network of so long a round trip before it."""
    rules = (Latency(latency_ms=round_trip_ms / 2), *profile.rules) if round_trip_ms else profile.rules
    return msgspec.structs.replace(profile, rules=rules)

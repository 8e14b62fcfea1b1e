"""How many streams a core bears on a stack: the most whose p99 token delay stays within 50 ms, and what each costs.

Server and load on a core each, 30 tokens a second in each stream. The search halves what is left, in steps of 200
streams; for a stack that does not bear 200, in steps of 25, and of 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.selfcost.child_process import ChildError
from bench.selfcost.loaded_server import Loaded
from bench.selfcost.stream_capacity import find_capacity, load_with, steady_p99_ms

STACK_LIMIT_MS = 50.0
STEPS = (200, 25, 5)
MOST_STEPS = 7
RAMP_S, STEADY_S, LATE_S = 2.0, 3.0, 2.0
SECONDS_PER_STACK = 32  # about: three tries of 5 s, and their processes' beginnings and ends


@dataclass(frozen=True)
class Borne:
    """The most streams that held, with the server's CPU per token and memory per stream there; NaN where none did."""

    streams: int
    cpu_us_per_token: float = math.nan
    bytes_per_stream: float = math.nan


def most_streams(transport: str, stack: str, steps: tuple[int, ...] = STEPS, most_steps: int = MOST_STEPS) -> Borne:
    """Search the limit of that server (`stack` "" is ours)."""
    held: dict[int, Loaded] = {}

    def delay_ms(streams: int) -> float:
        try:
            options = ("--stack", stack) if stack else ()
            loaded = load_with(transport, streams, RAMP_S, STEADY_S, late_s=LATE_S, options=options)
        except ChildError:
            return math.inf
        held[streams] = loaded
        return steady_p99_ms(loaded.due_ns, loaded.received_ns, RAMP_S)

    for step in steps:
        if streams := find_capacity(delay_ms, lambda _: None, step, most_steps, STACK_LIMIT_MS):
            found = held[streams]
            return Borne(streams, found.cpu_us_per_token("server"), found.server_rss_bytes / streams)
    return Borne(0)

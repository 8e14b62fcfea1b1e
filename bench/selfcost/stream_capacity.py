"""How many streams × 30 tokens/s a transport bears: the largest number whose p99 delay stays within 20 ms.

Server and load process on a core each. A number is tried once, for as long as its ramp and ten seconds; the search
halves the numbers that are left (multiples of 250), so no search tries more than a handful.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.selfcost.child_process import ChildError
from bench.selfcost.loaded_server import Loaded, run_load
from clients.job import Load

TOKENS_PER_S = 30
LIMIT_MS = 20.0
STEP = 250
MOST_STEPS = 15
_RAMP_S = 4.0
_STEADY_S = 6.0  # the part that counts: all streams are under way
_LATE_S = 20.0  # an answer that is later than that has failed
SECONDS_PER_TRANSPORT = 80  # about: four tries of 10 s, and their processes' beginnings and ends


@dataclass(frozen=True)
class Try:
    """One number of streams, and the p99 delay in ms that it had (infinite: it broke down)."""

    streams: int
    delay_ms_p99: float
    limit_ms: float = LIMIT_MS

    @property
    def holds(self) -> bool:
        """Whether the delay stayed within the limit."""
        return self.delay_ms_p99 <= self.limit_ms


def find_capacity(
    measure: Callable[[int], float],
    on_try: Callable[[Try], object],
    step: int = STEP,
    most_steps: int = MOST_STEPS,
    limit_ms: float = LIMIT_MS,
) -> int:
    """The largest multiple of `step` that `measure` (streams to p99 delay in ms) holds; 0 if even one step is too much.

    Tries at most log2(most_steps + 1) numbers, rounded up.
    """
    held, broke = 0, most_steps + 1
    while broke - held > 1:
        middle = (held + broke) // 2
        tried = Try(middle * step, measure(middle * step), limit_ms)
        on_try(tried)
        if tried.holds:
            held = middle
        else:
            broke = middle
    return held * step


def measure_delay_ms(transport: str, streams: int, ramp_s: float = _RAMP_S, steady_s: float = _STEADY_S) -> float:
    """The p99 delay of so many streams at once, in ms; infinite if one of them, or a process, did not come through."""
    try:
        loaded = load_with(transport, streams, ramp_s, steady_s)
    except ChildError:
        return math.inf
    return steady_p99_ms(loaded.due_ns, loaded.received_ns, ramp_s)


def load_with(
    transport: str,
    streams: int,
    ramp_s: float,
    steady_s: float,
    *,
    late_s: float = _LATE_S,
    options: Sequence[str] = (),
) -> Loaded:
    """Load a server that has `options` with so many streams at once, for `steady_s` behind the ramp.

    Raises ChildError, also when an answer is over `late_s` late.
    """
    load = Load(
        arrivals="constant",
        streams=streams,
        rate_per_s=streams / ramp_s,
        warmup_streams=0,
        timeout_s=ramp_s + steady_s + late_s,
    )
    stream: dict[str, object] = {
        "profile": "fast", "tokens": round((ramp_s + steady_s) * TOKENS_PER_S), "ttft_ms": 200, "ttft_sigma": 0,
        "gap_ms": 1000 / TOKENS_PER_S, "gap_sigma": 0.1,
    }  # fmt: skip
    return run_load(transport, load, stream, options=options)


def steady_p99_ms(due_ns: NDArray[np.int64], received_ns: NDArray[np.int64], ramp_s: float) -> float:
    """The p99 delay of the tokens due when all streams were under way: after the ramp, and before the first ends."""
    if not len(due_ns):
        return math.inf
    ramp_ns = round(ramp_s * 1e9)
    steady = (due_ns >= due_ns.min() + ramp_ns) & (due_ns <= due_ns.max() - ramp_ns)
    return float(np.percentile((received_ns - due_ns)[steady], 99)) / 1e6 if steady.any() else math.inf

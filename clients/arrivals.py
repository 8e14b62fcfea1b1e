"""When each message starts and what it asks for, fixed before the run (pure but for reading a trace).

Every cell of a block gets the same messages at the same offsets, so that cells can be compared message by message;
another block gets others. The only randomness is `random.Random(str).random()`, whose values Python guarantees, and
offsets are whole microseconds, so that the last bit of a platform's `log` cannot show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, islice, repeat
from math import exp, log, sqrt
from pathlib import Path
from random import Random
from statistics import NormalDist

from clients.job import Load
from clients.traces import read_trace
from servers.stream import message_seed

WARMUP_TOKENS = 16  # enough to open connections and to run every line of code once
_WARMUP_K = 1_000_000_000  # warm-up messages are numbered from here, so that none has a measured message's seed
_TINY = 2.0**-53  # random() may return 0, whose quantile is not finite
_NORMAL = NormalDist()


@dataclass(frozen=True)
class PlannedMessage:
    """Message `k` of a cell. `offset_ns`: its intended start after the beginning of the measured phase.

    None: as soon as the turn before it is answered and `think_s` has passed.
    """

    k: int
    offset_ns: int | None
    seed: int
    stream: Mapping[str, object]
    conversation: int
    turn: int


def plan_messages(load: Load, stream: Mapping[str, object], seed: int, block: int) -> list[PlannedMessage]:
    """The measured messages of every cell in `block`, in the order of their numbers.

    `stream` is the plan's `[stream]` table. Raises TraceError.
    """
    if load.arrivals == "trace":
        arrivals = read_trace(Path(load.trace or ""), load.trace_s)
        return [
            PlannedMessage(k, _ns(at_s / load.speed_up), message_seed(seed, block, k), {**stream, "tokens": n}, k, 0)
            for k, (at_s, n) in enumerate(arrivals)
        ]
    turns = -(-load.streams // load.concurrency) if load.arrivals == "closed" else load.turns
    starts = _starts(load, Random(f"tokenderby/1/{seed}/{block}/arrivals"))
    return [
        PlannedMessage(k, start if turn == 0 else None, message_seed(seed, block, k), stream, conversation, turn)
        for k, (conversation, turn, start) in enumerate(_turns(load.streams, turns, starts))
    ]


def plan_warmup(load: Load, stream: Mapping[str, object], seed: int, block: int) -> list[PlannedMessage]:
    """The messages before the measured ones: short answers, started by the same process (a trace: evenly)."""
    starts = _starts(load, Random(f"tokenderby/1/{seed}/{block}/warm-up"))
    short = {**stream, "tokens": WARMUP_TOKENS}
    return [
        PlannedMessage(k, start, message_seed(seed, block, _WARMUP_K + k), short, k, 0)
        for k, start in enumerate(islice(starts, load.warmup_streams))
    ]


def _turns(streams: int, turns: int, starts: Iterator[int]) -> Iterator[tuple[int, int, int]]:
    """Conversation, turn and the conversation's start for each of `streams` messages; the last may be cut short."""
    for conversation in range(-(-streams // turns)):
        start = next(starts)
        for turn in range(min(turns, streams - conversation * turns)):
            yield conversation, turn, start


def _starts(load: Load, random: Random) -> Iterator[int]:
    """Intended starts in ns, without end."""
    process = _PROCESSES.get(load.arrivals, _PROCESSES["constant"])
    return map(_ns, accumulate(process(load, random.random)))


def _ns(seconds: float) -> int:
    return round(seconds * 1e6) * 1000


def _poisson(load: Load, uniform: Callable[[], float]) -> Iterator[float]:
    while True:
        yield -log(1 - uniform()) / load.rate_per_s


def _gamma(load: Load, uniform: Callable[[], float]) -> Iterator[float]:
    """Gaps of mean 1/rate and a coefficient of variation of 1/sqrt(shape): below 1, arrivals come in bursts."""
    shape = load.gamma_shape
    while True:
        yield gamma_variate(shape, uniform) / (shape * load.rate_per_s)


def _burst(load: Load, _: Callable[[], float]) -> Iterator[float]:
    """So many at one moment, and then nothing until the rate is right again."""
    yield 0.0
    while True:
        yield from repeat(0.0, load.concurrency - 1)
        yield load.concurrency / load.rate_per_s


_PROCESSES: dict[str, Callable[[Load, Callable[[], float]], Iterator[float]]] = {
    "poisson": _poisson,
    "constant": lambda load, _: repeat(1 / load.rate_per_s),
    "gamma": _gamma,
    "burst": _burst,
    "closed": lambda *_: repeat(0.0),  # all users start at once
}


def gamma_variate(shape: float, uniform: Callable[[], float]) -> float:
    """A draw from the Gamma distribution of scale 1, by Marsaglia and Tsang, ACM TOMS 26 (2000), section 8 included."""
    if shape < 1:
        return gamma_variate(shape + 1, uniform) * exp(log(max(uniform(), _TINY)) / shape)
    d = shape - 1 / 3
    c = 1 / sqrt(9 * d)
    while True:
        x = _NORMAL.inv_cdf(max(uniform(), _TINY))
        v: float = (1 + c * x) ** 3
        if v > 0 and log(max(uniform(), _TINY)) < 0.5 * x * x + d - d * v + d * log(v):
            return d * v

"""When each message starts and what it asks for, fixed before the run (pure but for reading a trace file).

Every cell of a block gets the same messages at the same offsets, so that cells can be compared message by message;
another block gets others. The only randomness is `random.Random(str).random()`, whose values Python guarantees, and
offsets are whole microseconds, so that the last bit of a platform's `log` cannot show.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache, partial
from itertools import accumulate, islice, takewhile
from math import exp, log, sqrt
from pathlib import Path
from random import Random
from statistics import NormalDist
from typing import TextIO

from clients.job import Load
from servers.messages import MAX_TOKENS
from servers.stream import message_seed
from servers.user_errors import InputError

WARMUP_TOKENS = 16  # enough to open connections and to run every line of code once
_WARMUP_K = 1_000_000_000  # warm-up messages are numbered from here, so that none has a measured message's seed
_TINY = 2.0**-53  # random() may return 0, whose quantile is not finite
_NORMAL = NormalDist()
_TRACE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
MAX_TRACE_ROWS = 100_000  # as many messages as a cell may have
_MAX_LINE = 4096
_MOST_DIGITS = 12
_LATEST_S = 10**15  # nanoseconds since 1970 would be above it: plain numbers are seconds
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TraceError(InputError):
    """The request trace cannot be used; the message names the file and the line."""


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

    `stream` is the plan's `[stream]` table. A trace determines by itself how many messages there are and how long each
    answer is; `streams`, `rate_per_s` and `turns` say nothing then. Raises TraceError.
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
    process = _PROCESSES.get(load.arrivals, _constant)
    gaps_s = process(load, random.random)
    return map(_ns, accumulate(gaps_s))


def _ns(seconds: float) -> int:
    return round(seconds * 1e6) * 1000


def _constant(load: Load, _: Callable[[], float]) -> Iterator[float]:
    while True:
        yield 1 / load.rate_per_s


def _poisson(load: Load, uniform: Callable[[], float]) -> Iterator[float]:
    while True:
        yield -log(1 - uniform()) / load.rate_per_s


def _gamma(load: Load, uniform: Callable[[], float]) -> Iterator[float]:
    """Gaps of mean 1/rate and a coefficient of variation of 1/sqrt(shape): below 1, arrivals come in bursts."""
    shape = load.gamma_shape
    while True:
        yield gamma_variate(shape, uniform) / (shape * load.rate_per_s)


def _closed(load: Load, _: Callable[[], float]) -> Iterator[float]:
    """All users start at once."""
    while True:
        yield 0.0


_PROCESSES: dict[str, Callable[[Load, Callable[[], float]], Iterator[float]]] = {
    "poisson": _poisson,
    "constant": _constant,
    "gamma": _gamma,
    "closed": _closed,
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


def read_trace(path: Path, trace_s: float) -> tuple[tuple[float, int], ...]:
    """Arrivals of a request trace in Azure's format: seconds since its first row, and tokens to generate.

    Only rows within the first `trace_s` seconds, and no others are read, so the rows have to ascend. An answer of 0
    tokens counts as one, a longer one than a stream may be is cut. Raises TraceError.
    """
    try:
        changed_ns = path.stat().st_mtime_ns
    except (OSError, ValueError) as error:
        raise TraceError(f"load.trace: {path}: {getattr(error, 'strerror', None) or error}") from None
    return _read_trace(path, trace_s, changed_ns)


@lru_cache(maxsize=16)  # a process asks for it again with each cell that has the load
def _read_trace(path: Path, trace_s: float, _changed_ns: int) -> tuple[tuple[float, int], ...]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            within = takewhile(lambda row: row[0] < trace_s, _trace_rows(path, file))
            arrivals = tuple(islice(within, MAX_TRACE_ROWS + 1))
    except (OSError, UnicodeError, csv.Error) as error:
        raise TraceError(f"load.trace: {path}: {getattr(error, 'strerror', None) or error}") from None
    if not arrivals:
        raise TraceError(f"{path}: no requests in it")
    if len(arrivals) > MAX_TRACE_ROWS:
        raise TraceError(f"{path}: more than {MAX_TRACE_ROWS} requests within {trace_s:g} s; lower trace_s")
    return arrivals


def _trace_rows(path: Path, file: TextIO) -> Iterator[tuple[float, int]]:
    """The rows one by one, as seconds since the first and tokens. Raises TraceError."""
    reader = csv.DictReader(_lines(path, file))
    missing = [column for column in _TRACE_COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise TraceError(f"{path}, line 1: no column {', '.join(missing)}; the columns are {','.join(_TRACE_COLUMNS)}")
    first_s = last_s = None
    for row in reader:
        try:
            at_s, tokens = _at_s(row["TIMESTAMP"]), _tokens(row["GeneratedTokens"])
            if last_s is not None and at_s < last_s:
                raise ValueError("earlier than the row before it; sort the rows by TIMESTAMP")
        except (TypeError, ValueError) as error:
            raise TraceError(f"{path}, line {reader.line_num}: {error}") from None
        first_s, last_s = at_s if first_s is None else first_s, at_s
        yield float(at_s - first_s), tokens


def _lines(path: Path, file: TextIO) -> Iterator[str]:
    for number, line in enumerate(iter(partial(file.readline, _MAX_LINE + 1), ""), 1):
        if len(line) > _MAX_LINE:
            raise TraceError(f"{path}, line {number}: longer than {_MAX_LINE} characters")
        yield line


def _at_s(text: str) -> Decimal:
    """A TIMESTAMP in seconds, from a date and time or a plain number of seconds; exact, as the text is."""
    try:
        seconds = Decimal(text)
    except InvalidOperation:
        at = datetime.fromisoformat(text)
        since = (at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH
        return since.days * 86_400 + since.seconds + Decimal(since.microseconds) / 1_000_000
    if not seconds.is_finite() or abs(seconds) > _LATEST_S:
        raise ValueError(f"TIMESTAMP takes a date and time or seconds, not {text[:64]!r}")
    return seconds


def _tokens(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"GeneratedTokens takes a number of tokens, not {text[:64]!r}")
    tokens = int(text)
    if tokens < 0:
        raise ValueError("GeneratedTokens is negative")
    return min(max(tokens, 1), MAX_TOKENS)

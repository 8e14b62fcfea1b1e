"""Request traces: when each request of a real service came, and how long its answer was (pure but for reading a file).

Read as they are published: Azure's CSV, BurstGPT's CSV and Mooncake's JSON lines. Nothing but times and the lengths of
answers is taken. All arithmetic is decimal, so that a time is exactly what the file says.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache, partial
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Any, TextIO

import msgspec

from servers.messages import MAX_TOKENS
from servers.user_errors import InputError, reason

MAX_TRACE_ROWS = 100_000  # as many messages as a cell may have
_MAX_LINE = 4096
_MAX_JSON_LINE = 1 << 20  # Mooncake's lines have a hash per block of the prompt
_MOST_DIGITS = 12
_LATEST_S = 10**15  # nanoseconds since 1970 would be above it: plain numbers are seconds
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TraceRow = Mapping[str, Any]


class TraceError(InputError):
    """The request trace cannot be used; the message names the file and the line."""


def _seconds(key: str, value: object) -> Decimal:
    """A time in seconds, from a date and time or a plain number of seconds."""
    try:
        seconds = _number_or_date(str(value))
    except ValueError:
        seconds = Decimal("nan")
    if not seconds.is_finite() or abs(seconds) > _LATEST_S:
        raise ValueError(f"{key} takes a date and time or seconds, not {str(value)[:64]!r}")
    return seconds


def _number_or_date(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        at = datetime.fromisoformat(text)
    since = (at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH
    return since.days * 86_400 + since.seconds + Decimal(since.microseconds) / 1_000_000


def _milliseconds(key: str, value: object) -> Decimal:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= _LATEST_S:
        raise ValueError(f"{key} takes milliseconds, not {str(value)[:64]!r}")
    return Decimal(str(value)) / 1000


@dataclass(frozen=True)
class TraceFormat:
    """Where a format has what is taken of it; `columns` are those of a CSV's header that tell it from others."""

    name: str
    time: str
    tokens: str
    columns: tuple[str, ...] = ()
    at_s: Callable[[str, object], Decimal] = _seconds

    def read(self, row: TraceRow) -> tuple[Decimal, int]:
        """The time in seconds and the tokens of a row. Raises TypeError, ValueError."""
        if missing := [key for key in (self.time, self.tokens) if row.get(key) in (None, "")]:
            raise ValueError(f"no {', '.join(missing)} in it")
        return self.at_s(self.time, row[self.time]), _tokens(self.tokens, row[self.tokens])


AZURE = TraceFormat("Azure", "TIMESTAMP", "GeneratedTokens", ("TIMESTAMP", "ContextTokens", "GeneratedTokens"))
BURSTGPT = TraceFormat("BurstGPT", "Timestamp", "Response tokens", ("Timestamp", "Request tokens", "Response tokens"))
MOONCAKE = TraceFormat("Mooncake", "timestamp", "output_length", at_s=_milliseconds)
_CSV = (AZURE, BURSTGPT)


def read_trace(path: Path, trace_s: float) -> tuple[tuple[float, int], ...]:
    """Arrivals of a request trace: seconds since its first row, and tokens to generate.

    Only rows within the first `trace_s` seconds, and no others are read, so the rows have to ascend. An answer of 0
    tokens counts as one, a longer one than a stream may be is cut. Raises TraceError.
    """
    try:
        changed_ns = path.stat().st_mtime_ns
    except (OSError, ValueError) as error:
        raise TraceError(f"load.trace: {path}: {reason(error)}") from None
    return _read_trace(path, trace_s, changed_ns)


@lru_cache(maxsize=16)  # a process asks for it again with each cell that has the load
def _read_trace(path: Path, trace_s: float, _changed_ns: int) -> tuple[tuple[float, int], ...]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            within = takewhile(lambda row: row[0] < trace_s, _arrivals(path, file))
            arrivals = tuple(islice(within, MAX_TRACE_ROWS + 1))
    except UnicodeError:
        raise TraceError(f"load.trace: {path}: not UTF-8 text") from None
    except (OSError, csv.Error) as error:
        raise TraceError(f"load.trace: {path}: {reason(error)}") from None
    if not arrivals:
        raise TraceError(f"{path}: no requests in it")
    if len(arrivals) > MAX_TRACE_ROWS:
        raise TraceError(f"{path}: more than {MAX_TRACE_ROWS} requests within {trace_s:g} s; lower trace_s")
    return arrivals


def _arrivals(path: Path, file: TextIO) -> Iterator[tuple[float, int]]:
    """The rows one by one, as seconds since the first and tokens. Raises TraceError."""
    trace, rows = _rows(path, file)
    first_s = last_s = None
    for number, row in rows:
        try:
            at_s, tokens = trace.read(row)
            if last_s is not None and at_s < last_s:
                raise ValueError(f"earlier than the row before it; sort the rows by {trace.time}")
        except (TypeError, ValueError) as error:
            raise TraceError(f"{path}, line {number}: {error}") from None
        first_s, last_s = at_s if first_s is None else first_s, at_s
        yield float(at_s - first_s), tokens


def _rows(path: Path, file: TextIO) -> tuple[TraceFormat, Iterator[tuple[int, TraceRow]]]:
    """Which format it is, and its rows with the numbers of their lines. Raises TraceError."""
    head = file.readline(_MAX_JSON_LINE)
    if head.lstrip().startswith("{"):
        return MOONCAKE, _json_rows(path, chain([head], _lines(path, file, _MAX_JSON_LINE, 2)))
    file.seek(0)
    reader = csv.DictReader(_lines(path, file, _MAX_LINE))
    names = reader.fieldnames or ()
    trace = next((each for each in _CSV if {*each.columns} <= {*names}), None)
    if trace is None:
        raise TraceError(f"{path}, line 1: {_unknown(names)}")
    return trace, ((reader.line_num, row) for row in reader)


def _unknown(names: Sequence[str]) -> str:
    """What is wrong with a CSV's header, and what would be right."""
    nearest = max(_CSV, key=lambda each: len({*names} & {*each.columns}))
    missing = ", ".join(column for column in nearest.columns if column not in names)
    known = f"{AZURE.name}'s columns are {','.join(AZURE.columns)}, {BURSTGPT.name}'s {','.join(BURSTGPT.columns)}"
    return f"no column {missing}; {known}, {MOONCAKE.name}'s lines are JSON objects"


def _json_rows(path: Path, lines: Iterator[str]) -> Iterator[tuple[int, TraceRow]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            raise TraceError(f"{path}, line {number}: {error}") from None
        missing = [key for key in (MOONCAKE.time, MOONCAKE.tokens) if not isinstance(row, dict) or key not in row]
        if missing:
            what = " (that is a recording: stream.recording)" if isinstance(row, dict) and "deltas" in row else ""
            raise TraceError(f"{path}, line {number}: no {', '.join(missing)}, as {MOONCAKE.name}'s lines have{what}")
        yield number, row


def _lines(path: Path, file: TextIO, most: int, first: int = 1) -> Iterator[str]:
    for number, line in enumerate(iter(partial(file.readline, most + 1), ""), first):
        if len(line) > most:
            raise TraceError(f"{path}, line {number}: longer than {most} characters")
        yield line


def _tokens(key: str, value: object) -> int:
    text = str(value).strip()
    if len(text) > _MOST_DIGITS or not text.removeprefix("-").isdecimal():
        raise ValueError(f"{key} takes a number of tokens, not {text[:64]!r}")
    tokens = int(text)
    if tokens < 0:
        raise ValueError(f"{key} is negative")
    return min(max(tokens, 1), MAX_TOKENS)

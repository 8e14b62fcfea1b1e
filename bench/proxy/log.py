"""What the proxy writes down: one JSON object a line, each with its `event`.

`started` once, `not_followed` when a connection is not followed as HTTP any more, `closed` when a connection is over,
`late` whenever the proxy itself stood still.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from servers.lags import BEAT_NS, beats_missed, p99
from servers.user_errors import reason


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started", tag_field="event"):
    """The proxy has begun: its profile, and what its behaviours are called in `ConnectionRecord.struck`."""

    profile: str
    behaviours: list[str]


class NotFollowed(msgspec.Struct, frozen=True, kw_only=True, tag="not_followed", tag_field="event"):
    """From here on a connection's bytes are not followed as HTTP, so that behaviours which need it have no effect.

    at_s: since the connection's start; why: in words, without what was sent
    """

    connection: int
    at_s: float
    why: str


class ConnectionRecord(msgspec.Struct, frozen=True, kw_only=True, tag="closed", tag_field="event"):
    """One connection, from the client's connect to its end.

    connection: its number, from 1, in the order of acceptance
    started: UTC, ISO 8601; start_ns: the same on CLOCK_MONOTONIC, ns
    ended_by: the behaviour's name, or "client", "upstream", "proxy" (it was told to stop)
    ended_at_s: when that was, since the start; duration_s: when both sides were closed
    idle_s: silence before the end: since the last byte received from either side
    closed: how the client saw it end, if it looked: "fin", "rst", or "black_hole" (it saw nothing)
    status: the answer given in the server's place
    bytes_up, bytes_down: sent to the server, sent to the client
    struck: the behaviours that had an effect on it
    """

    connection: int
    started: str
    start_ns: int
    duration_s: float
    ended_by: str
    ended_at_s: float
    idle_s: float
    closed: Literal["fin", "rst", "black_hole"]
    status: int | None
    bytes_up: int
    bytes_down: int
    struck: list[str] = []


class Late(msgspec.Struct, frozen=True, kw_only=True, tag="late", tag_field="event"):
    """The proxy was busy with something, or stopped: what fell due waited up to `late_ms`, until `at_ns`.

    at_ns: CLOCK_MONOTONIC
    """

    at_ns: int
    late_ms: float


LogEvent = Started | NotFollowed | ConnectionRecord | Late


class ConnectionLog:
    """Appends events to a file, unbuffered: what is over is on disk. Without a path it writes nothing.

    Raises OSError if the file cannot be opened. If it cannot be written to, it ends there, and standard error says so.
    """

    def __init__(self, path: Path | None) -> None:
        self._file: BinaryIO | None = path.open("ab", buffering=0) if path else None
        self._path = path
        self._encoder = msgspec.json.Encoder()

    def write(self, event: LogEvent) -> None:
        """Append one line."""
        if self._file is None:
            return
        line = self._encoder.encode(event) + b"\n"
        try:
            if self._file.write(line) == len(line):
                return
            why = "no room for a whole line"
        except OSError as error:
            why = reason(error)
        self.close()
        with suppress(OSError):  # nobody may be listening
            print(f"the log {self._path} ends here: {why}; the proxy goes on without it", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file:
            file.close()


def read_events(path: Path) -> list[LogEvent]:
    """All of a log file, a line cut off at its end left out. Raises msgspec.DecodeError for another file."""
    lines = path.read_bytes().split(b"\n")[:-1]
    return [msgspec.json.decode(line, type=LogEvent) for line in lines]


def read_log(path: Path) -> list[ConnectionRecord]:
    """The connections of a log file. Raises msgspec.DecodeError for another file."""
    return [event for event in read_events(path) if isinstance(event, ConnectionRecord)]


def loop_lags_ms(path: Path, since_ns: int, until_ns: int) -> tuple[float, float]:
    """How late a proxy's loop was from `since_ns` on: the 99th percentile of its beats until `until_ns`, the largest.

    Beats that the log does not tell of were on time. Raises OSError, msgspec.DecodeError.
    """
    stalls = [event for event in read_events(path) if isinstance(event, Late) and event.at_ns >= since_ns]
    late_ns = sorted(lag_ns for stall in stalls for lag_ns in beats_missed(round(stall.late_ms * 1e6), BEAT_NS))
    on_time = (until_ns - since_ns) // BEAT_NS - len(late_ns)
    lags_ns = [0] * on_time + late_ns
    return p99(lags_ns) / 1e6, max(late_ns, default=0) / 1e6


def behaviours_struck(paths: Iterable[Path]) -> dict[str, dict[str, int]]:
    """Profile -> behaviour -> on how many connections it had an effect, over all logs. Raises msgspec.DecodeError."""
    counts: dict[str, dict[str, int]] = {}
    for path in paths:
        here: dict[str, int] = {}
        for event in read_events(path):
            match event:
                case Started():
                    here = counts.setdefault(event.profile, {})
                    for behaviour in event.behaviours:
                        here.setdefault(behaviour, 0)
                case ConnectionRecord():
                    for behaviour in event.struck:
                        here[behaviour] = here.get(behaviour, 0) + 1
    return counts

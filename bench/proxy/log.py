"""What the proxy writes down about a connection when it is over: one JSON object a line."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Literal

import msgspec


class ConnectionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One connection, from the client's connect to its end.

    connection: its number, from 1, in the order of acceptance
    started: UTC, ISO 8601; start_ns: the same on CLOCK_MONOTONIC, ns
    ended_by: the behaviour's name, or "client", "upstream", "proxy" (it was told to stop)
    ended_at_s: when that was, since the start; duration_s: when both sides were closed
    idle_s: silence before the end: since the last byte received from either side
    closed: how the client saw it end, if it looked: "fin", "rst", or "black_hole" (it saw nothing)
    status: the answer given in the server's place
    bytes_up, bytes_down: sent to the server, sent to the client
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


class ConnectionLog:
    """Appends records to a file, unbuffered: what is over is on disk. Without a path it writes nothing."""

    def __init__(self, path: Path | None) -> None:
        self._file: BinaryIO | None = path.open("ab", buffering=0) if path else None
        self._encoder = msgspec.json.Encoder()

    def write(self, record: ConnectionRecord) -> None:
        """Append one line."""
        if self._file:
            self._file.write(self._encoder.encode(record) + b"\n")

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


def read_log(path: Path) -> list[ConnectionRecord]:
    """The records of a log file, a line cut off at its end left out. Raises msgspec.DecodeError for another file."""
    lines = path.read_bytes().split(b"\n")[:-1]
    return [msgspec.json.decode(line, type=ConnectionRecord) for line in lines]

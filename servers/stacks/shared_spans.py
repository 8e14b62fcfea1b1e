"""When each connection's answer began and ended (servers.answering), told by worker processes to each other.

Each process has a file with room for so many spans, in a ring; whoever is asked for them reads those of all.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic_ns

import psutil

from servers.answering import KEPT_SPANS, Span

_SUFFIX = ".spans"
_MOST_FILES = 64  # of processes: a worker that dies again and again leaves many
_SLOT = struct.Struct("=64sqq")  # stream id, begin, end; an end of 0: it goes on


class SharedSpans:
    """The spans of this process."""

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._next = 0
        _forget_oldest(folder)
        with (folder / f"{os.getpid()}{_SUFFIX}").open("w+b") as file:
            file.truncate(KEPT_SPANS * _SLOT.size)
            self._slots = mmap.mmap(file.fileno(), KEPT_SPANS * _SLOT.size)

    @contextmanager
    def of(self, stream_id: str) -> Iterator[None]:
        """One of them."""
        with self._lock:  # threads begin answers too
            number, self._next = self._next, self._next + 1
        at, begin_ns = number % KEPT_SPANS * _SLOT.size, monotonic_ns()
        _SLOT.pack_into(self._slots, at, stream_id.encode("ascii"), begin_ns, 0)
        try:
            yield
        finally:
            if self._next - number <= KEPT_SPANS:  # else the room is another's by now
                _SLOT.pack_into(self._slots, at, stream_id.encode("ascii"), begin_ns, monotonic_ns())


def _forget_oldest(folder: Path) -> None:
    with suppress(OSError):  # another process is at it
        for file in sorted(folder.glob(f"*{_SUFFIX}"), key=lambda file: file.stat().st_mtime_ns)[:-_MOST_FILES]:
            file.unlink()


def spans_since(folder: Path, since_ns: int) -> list[Span]:
    """The spans of all processes that were over after `since_ns`, and those that go on.

    Of a process that was killed in the midst of an answer nobody knows when.
    """
    found: list[Span] = []
    for file in folder.glob(f"*{_SUFFIX}"):
        with suppress(OSError, struct.error):  # it is just beginning
            lives = psutil.pid_exists(int(file.stem))
            spans = _spans(file.read_bytes())
            found += [span for span in spans if (lives if span[2] is None else span[2] > since_ns)]
    return found


def _spans(slots: bytes) -> Iterator[Span]:
    for stream_id, begin_ns, end_ns in _SLOT.iter_unpack(slots):
        if begin_ns:
            yield stream_id.rstrip(b"\0").decode("ascii", "replace"), begin_ns, end_ns or None

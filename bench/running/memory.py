"""The memory of a server's processes while a cell runs: what an open stream costs there, beside processor time.

It is what the system holds for them in physical memory (RSS), with an embedded Redis, looked at ten times a second.
What an answer leaves for whoever resumes it is in it, and what the kernel keeps of a connection is not. A page that
several processes share counts in each, but only growth is told, and they share what they had before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psutil

LOOK_S = 0.1
_TREE_S = 5.0  # workers come and go seldom, and to list them all processes of the machine have to be read


class MemoryReadings:
    """What was seen of one tree of processes: moments (CLOCK_MONOTONIC ns) and bytes."""

    def __init__(self) -> None:
        self._seen: list[tuple[int, int]] = []

    def note(self, at_ns: int, size_bytes: int) -> None:
        """One reading."""
        self._seen.append((at_ns, size_bytes))

    def first_since(self, at_ns: int) -> int | None:
        """The bytes when a cell's measured part began, None if nobody looked from then on."""
        return next((size_bytes for seen_ns, size_bytes in self._seen if seen_ns >= at_ns), None)

    def most_since(self, at_ns: int) -> int | None:
        """The greatest from then on."""
        return max((size_bytes for seen_ns, size_bytes in self._seen if seen_ns >= at_ns), default=None)


@asynccontextmanager
async def watched(pid: int | None) -> AsyncIterator[MemoryReadings]:
    """Read the memory of the process `pid` and all below it for as long as the context lasts; of None nothing."""
    readings = MemoryReadings()
    watching = asyncio.create_task(_watch(pid, readings)) if pid is not None else None
    try:
        yield readings
    finally:
        if watching is not None:
            watching.cancel()
            await asyncio.wait([watching])


async def _watch(pid: int, readings: MemoryReadings) -> None:
    """Look until cancelled, or until the process has ended, which its owner notices."""
    with suppress(psutil.Error):
        root, listed_at = psutil.Process(pid), -_TREE_S
        tree = [root]
        while True:
            if (now := time.monotonic()) >= listed_at + _TREE_S:
                tree, listed_at = [root, *root.children(recursive=True)], now
            readings.note(time.monotonic_ns(), sum(map(_bytes, tree)))
            await asyncio.sleep(LOOK_S)


def _bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # a worker that has just ended
        return 0

"""What a soak may cost and leave: every bound in one table (pure). docs/robustness.md shows it with a run's figures.

Sources: docs/wire-format.md ("Limits": backlog of a reader, 120 s, 5 s on SIGTERM); the rest are goals of the house.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

SIGTERM_S = 5.0  # a server or proxy has ended, whatever its clients do
SETTLE_S = 25.0  # so long after the load all has to be as before
GIVEN_UP_S = 135.0  # who reads nothing is given up after 120 s
ANSWER_S = 10.0  # another user's short answer, while the load is on; generous, since the load shares the processor
DESCRIPTORS_MORE = 8  # after the load, than before
LOG_LINES = 100  # what a process logs in a whole scenario
PART_S = 240.0  # a scenario that takes longer on one server has failed
MIB = 2**20

SubjectRole = Literal["server", "proxy", "redis"]


@dataclass(frozen=True)
class MemoryBound:
    """Of a process, beyond what it held before the load.

    held_kib_each: while the load is on, for each connection; `held_mib` on top, once
    kept_mib: when it has settled (an allocator keeps some of what it had)
    again_mib: when the same load has been there once more, beyond what it kept of the first
    """

    held_kib_each: float
    held_mib: float
    kept_mib: float
    again_mib: float = 16.0

    def held_limit_mib(self, connections: int) -> float:
        """MiB more than before, with so many connections."""
        return self.held_mib + connections * self.held_kib_each / 1024


@dataclass(frozen=True)
class Size:
    """How large one process is at one moment."""

    memory_bytes: int
    descriptors: int

    def larger(self, other: Size) -> Size:
        """The larger of both figures."""
        return Size(max(self.memory_bytes, other.memory_bytes), max(self.descriptors, other.descriptors))


@dataclass(frozen=True)
class ServerCounts:
    """What a server has under way, and what its Redis holds (zeros where it has none)."""

    streams_active: int = 0
    keys: int = 0
    keys_for_ever: int = 0  # without a time to live


@dataclass
class ProcessRow:
    """One process through a scenario: before the load, under it, settled after it, and after the same load again.

    `end_s` infinite: it had to be killed; None: nobody told it to end.
    """

    role: SubjectRole
    before: Size
    most: Size
    after: Size
    again: Size | None = None
    end_s: float | None = None


def broken_by_size(row: ProcessRow, bound: MemoryBound, connections: int) -> list[str]:
    """The bounds that one process has broken under so many connections, a sentence each."""
    role, before, after, last = row.role, row.before, row.after, row.again or row.after
    held_mib, kept_mib = ((size.memory_bytes - before.memory_bytes) / MIB for size in (row.most, after))
    again_mib = (last.memory_bytes - after.memory_bytes) / MIB
    broken = []
    if held_mib > (limit := bound.held_limit_mib(connections)):
        broken.append(f"{role}: {held_mib:.0f} MiB more under load, {limit:.0f} allowed")
    if kept_mib > bound.kept_mib:
        broken.append(f"{role}: {kept_mib:.0f} MiB more afterwards, {bound.kept_mib:.0f} allowed")
    if again_mib > bound.again_mib:
        broken.append(f"{role}: {again_mib:.0f} MiB more after the same load again, {bound.again_mib:.0f} allowed")
    if (left := last.descriptors - before.descriptors) > DESCRIPTORS_MORE:
        broken.append(f"{role}: {left} descriptors more afterwards, {DESCRIPTORS_MORE} allowed")
    return broken


def broken_by_counts(after: ServerCounts, keys_kept: int = 0) -> list[str]:
    """The bounds that a server's streams and keys have broken; `keys_kept` keys are still to be there."""
    broken = []
    if after.streams_active:
        broken.append(f"{after.streams_active} answers still under way")
    if after.keys > keys_kept:
        broken.append(f"{after.keys} keys in Redis, {keys_kept} allowed")
    if after.keys_for_ever:
        broken.append(f"{after.keys_for_ever} keys without a time to live")
    return broken


def broken_by_end(role: str, seconds: float) -> list[str]:
    """Whether a process took too long to end; infinite: it had to be killed."""
    if seconds <= SIGTERM_S:
        return []
    took = "did not end" if math.isinf(seconds) else f"took {seconds:.1f} s to end"
    return [f"{role}: {took} on SIGTERM, {SIGTERM_S:g} s allowed"]


def broken_by_log(role: str, text: str) -> list[str]:
    """Whether a process's log holds tracebacks, or too much."""
    lines, tracebacks = text.count("\n"), text.count("Traceback (most recent call last)")
    broken = [f"{role}: {tracebacks} tracebacks in its log"] if tracebacks else []
    return broken + ([f"{role}: {lines} lines in its log, {LOG_LINES} allowed"] if lines > LOG_LINES else [])

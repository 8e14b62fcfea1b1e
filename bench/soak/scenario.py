"""What every load scenario has, and the course that all take: before, the load, settled, SIGTERM, what is left."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import ClassVar

from bench.running.processes import PartDied
from bench.soak import bounds
from bench.soak.bounds import MemoryBound, ProcessRow, ServerCounts, Size, SubjectRole
from bench.soak.scripts import SoakScript
from bench.soak.subject import Subject, size_of, subject
from bench.soak.users import not_served
from bench.soak.visitors import crowd

_LOOK_S = 0.25
PARTING_CROWD = 300  # connections that are open when SIGTERM comes
_QUICK_CROWD = 30  # ... in a quick soak
_PARTING_S = 0.5  # from when they are there to SIGTERM


class Scenario(ABC):
    """A kind of load. `connections` is its full number, `quick` a minute's, `expected_s` how long one server takes.

    `side_by_side`: it mostly waits, so all servers take it at once.
    """

    name: ClassVar[str]
    connections: ClassVar[int]
    quick: ClassVar[int]
    expected_s: ClassVar[float]
    bound: ClassVar[MemoryBound]
    keep_s: ClassVar[float] = 2.0
    keys_kept: ClassVar[int] = 0  # of answers that are kept for longer than the scenario lasts
    recording: ClassVar[bytes] = b""  # a file that the server is started with
    side_by_side: ClassVar[bool] = False
    repeats: ClassVar[bool] = True  # to see whether it costs memory again
    needs_descriptors: ClassVar[bool] = False  # as many as connections, and the proxy twice as many

    async def prepare(self, under: Subject) -> list[str]:
        """What comes before the first measurement; what is wrong with it."""
        return await not_served(under, "before the load")

    @abstractmethod
    async def load(self, under: Subject, connections: int, *, is_quick: bool) -> list[str]:
        """The load, from its beginning to its end; what was wrong, a sentence each. Raises PartDied."""

    @abstractmethod
    def parting(self, transport: str, number: int) -> SoakScript:
        """What the connections do that are open when SIGTERM comes."""


@dataclass
class LoadFinding:
    """What one server did under one scenario. `broken` has a sentence for each bound that did not hold."""

    scenario: str
    transport: str
    way: str
    connections: int
    processes: list[ProcessRow] = field(default_factory=list)
    after: ServerCounts = field(default_factory=ServerCounts)
    settle_s: float = 0.0
    broken: list[str] = field(default_factory=list)


async def soak_one(
    scenario: Scenario, transport: str, profile: str | None, connections: int, *, is_quick: bool
) -> LoadFinding:
    """Take a fresh server through a scenario. Whatever happens to it is in the finding."""
    finding = LoadFinding(scenario.name, transport, "proxy" if profile else "direct", connections)
    try:
        opened = subject(transport, profile=profile, keep_s=scenario.keep_s, recording=scenario.recording)
        async with asyncio.timeout(bounds.PART_S), opened as under:
            await _course(scenario, under, finding, is_quick=is_quick)
    except (PartDied, OSError) as error:
        finding.broken.append(str(error))
    except TimeoutError:
        finding.broken.append(f"not over after {bounds.PART_S:g} s")
    return finding


async def _course(scenario: Scenario, under: Subject, finding: LoadFinding, *, is_quick: bool) -> None:
    finding.broken += await scenario.prepare(under)
    pids = await under.processes()
    before = _sizes(pids)
    async with _watching(pids, before) as most:
        finding.broken += await scenario.load(under, finding.connections, is_quick=is_quick)

    def judge(after: dict[SubjectRole, Size]) -> list[ProcessRow]:
        return [ProcessRow(role, before[role], most[role], after[role]) for role in pids]

    finding.processes = await _settled(scenario, under, finding, judge)
    if scenario.repeats:
        await _repeat(scenario, under, finding, is_quick=is_quick)
    finding.broken += _broken(scenario, finding, finding.processes)
    finding.broken += await not_served(under, "after the load")
    await _end(scenario, under, finding, _QUICK_CROWD if is_quick else PARTING_CROWD)


async def _repeat(scenario: Scenario, under: Subject, finding: LoadFinding, *, is_quick: bool) -> None:
    """The same load again: what an allocator keeps is used again, and what leaks is lost again."""
    once = finding.processes
    finding.broken += await scenario.load(under, finding.connections, is_quick=is_quick)

    def judge(again: dict[SubjectRole, Size]) -> list[ProcessRow]:
        return [replace(row, again=again[row.role]) for row in once]

    finding.processes = await _settled(scenario, under, finding, judge)


@asynccontextmanager
async def _watching(
    pids: dict[SubjectRole, int], before: dict[SubjectRole, Size]
) -> AsyncIterator[dict[SubjectRole, Size]]:
    """The largest size of each process while the context lasts."""
    most = dict(before)

    async def watch() -> None:
        while True:
            for role, pid in pids.items():
                with suppress(PartDied):
                    most[role] = most[role].larger(size_of(pid))
            await asyncio.sleep(_LOOK_S)

    watcher = asyncio.create_task(watch())
    try:
        yield most
    finally:
        watcher.cancel()


def _sizes(pids: dict[SubjectRole, int]) -> dict[SubjectRole, Size]:
    return {role: size_of(pid) for role, pid in pids.items()}


async def _settled(
    scenario: Scenario,
    under: Subject,
    finding: LoadFinding,
    judge: Callable[[dict[SubjectRole, Size]], list[ProcessRow]],
) -> list[ProcessRow]:
    """The processes when nothing is broken any more, or when the time for that is over."""
    begun_s = time.monotonic()
    pids = await under.processes()
    while True:
        finding.after = await under.counts()
        rows = judge(_sizes(pids))
        finding.settle_s = time.monotonic() - begun_s
        if not _broken(scenario, finding, rows) or finding.settle_s > bounds.SETTLE_S:
            return rows
        await asyncio.sleep(_LOOK_S)


def _broken(scenario: Scenario, finding: LoadFinding, rows: list[ProcessRow]) -> list[str]:
    sizes = [reason for row in rows for reason in bounds.broken_by_size(row, scenario.bound, finding.connections)]
    return sizes + bounds.broken_by_counts(finding.after, scenario.keys_kept)


async def _end(scenario: Scenario, under: Subject, finding: LoadFinding, connections: int) -> None:
    """SIGTERM, while clients of the scenario's kind are there; then what is left."""
    transport = under.transport
    async with crowd(under.address, connections, lambda number: scenario.parting(transport, number)):
        await asyncio.sleep(_PARTING_S)
        ends = await under.end()
    for row in finding.processes:
        row.end_s = ends.get(row.role)
    finding.broken += await under.broken_by_ending(ends)

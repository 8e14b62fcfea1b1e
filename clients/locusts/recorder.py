"""A Locust test as a run folder like any other: what the workers send is spooled, and cut into blocks at the end.

The one module under `clients` that knows `bench`: a Locust master is a runner as well as a client.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from bench.plan import Validity
from bench.run_record import CellRecord, Run
from bench.running import machine
from bench.running.validity import void_reasons
from bench.store import RunFolder, create_run, link_latest, utc_text
from clients import results
from clients.bursts import worst_second
from clients.core.clock import get_json
from clients.core.errors import ClientFailure
from clients.core.record import Outcome, StreamRecord
from clients.drivers.gev import GeventClient
from clients.job import LONG_ENOUGH_S
from clients.lateness import delay_ms_p50, early_ms_max, emit_lags_ns, p99_ms, start_lags_ns
from clients.locusts.batch import Batch, Health, unpack
from clients.locusts.options import Options
from servers.transport import TRANSPORTS

MOST_BLOCKS = 20
FEWEST_BLOCKS = 5  # below that the report claims nothing
_MESSAGES_PER_BLOCK = 20
_COUNTERS = ("requests", "streams_completed", "tokens_sent")
_ONE_CLOCK_NS = 1_000_000_000  # processes of one machine agree far better, those of two hardly ever


def block_count(messages: int) -> int:
    """Into how many equal slices of time a test is cut that has so many messages of its rarest transport."""
    if messages < FEWEST_BLOCKS * _MESSAGES_PER_BLOCK:
        return max(1, min(FEWEST_BLOCKS, messages // FEWEST_BLOCKS))
    return min(MOST_BLOCKS, messages // _MESSAGES_PER_BLOCK)


def edges_ns(starts_ns: Sequence[int], blocks: int) -> list[int]:
    """Where so many equal slices of the time of these starts begin, and where the last one ends: all are within.

    By whole numbers: a machine's clock outgrows a float's in 104 days.
    """
    first_ns, end_ns = min(starts_ns), max(starts_ns) + 1
    return [first_ns + (end_ns - first_ns) * k // blocks for k in range(blocks + 1)]


@dataclass(frozen=True)
class _Spooled:
    """Where a message lies in the spool; `start_ns` is its intended start by the master's clock."""

    start_ns: int
    offset: int
    size: int
    shift_ns: int


@dataclass(frozen=True)
class _Slice:
    """A block: a slice of the test's time, by the master's clock."""

    block: int
    from_ns: int
    until_ns: int


@dataclass
class _Worker:
    """What is known of a worker beside its messages; `shift_ns` takes its clock to the master's."""

    shift_ns: int
    health: list[Health] = field(default_factory=list)
    clock_offsets_ns: Mapping[str, int] = field(default_factory=dict)


class Recorder:
    """Takes batches from `begin` to `finish`. Raises OSError where the folder cannot be written."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._epoch_ns = time.time_ns() - time.monotonic_ns()
        self._workers: dict[str, _Worker] = {}
        self._index: dict[str, list[_Spooled]] = defaultdict(list)
        self.notes: list[str] = []
        self._before = {name: self._counters(name) for name in options.urls}
        self.folder = create_run(Path(options.results), self._new_run())
        self._spool_path = self.folder.path / "incoming.msgpack"
        self._spool: BinaryIO = self._spool_path.open("w+b")

    def _new_run(self) -> Run:
        options = self.options
        work = {"stream": dict(options.stream), "seed": options.seed}
        return Run(
            name="locust",
            plan={
                "name": "locust",
                "description": "a Locust test; blocks are equal slices of its time",
                "randomised": False,
                "stream": dict(options.stream),
                "load": {"arrivals": "closed", "think_s": options.think_s, "timeout_s": options.timeout_s},
                "servers": dict(options.urls),
            },
            seed=options.seed,
            # The messages depend on how fast they are asked for, so this is the hash of what they are drawn from.
            schedule_sha256=hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest(),
            machine=machine.machine_facts(),
            versions=machine.package_versions(),
            git_commit=machine.git_commit(),
            started=utc_text(),
        )

    def _counters(self, transport: str) -> dict[str, int]:
        with closing(GeventClient(transport, self.options.settings(transport))) as client:
            try:
                told = client.run(get_json(client.session, "/stats"))
            except (ClientFailure, ValueError):
                return {}
        return {word: value for word in _COUNTERS if isinstance(value := told.get(word), int)}

    def receive(self, batch: Batch) -> Iterator[tuple[str, StreamRecord]]:
        """Spool a batch; its records, by the master's clock."""
        shift_ns = batch.epoch_ns - self._epoch_ns
        shift_ns = shift_ns if abs(shift_ns) > _ONE_CLOCK_NS else 0
        worker = self._workers.setdefault(batch.worker, _Worker(shift_ns))
        worker.clock_offsets_ns = batch.clock_offsets_ns
        if batch.health is not None:
            worker.health.append(batch.health)
        self.notes += [note for note in batch.notes if note not in self.notes]
        for transport, packed in batch.messages:
            record = unpack(packed, worker.shift_ns)
            spooled = _Spooled(record.intended_start_ns, self._spool.tell(), len(packed), worker.shift_ns)
            self._spool.write(packed)
            self._index[transport].append(spooled)
            yield transport, record

    def finish(self, warnings: Sequence[str], extra: Mapping[str, object]) -> RunFolder:
        """Cut what was spooled into cells and complete the folder; `extra` is added to the run's plan."""
        run = self.folder.load()
        run.cells = list(self._cells())
        run.plan |= {"blocks": max((cell.block for cell in run.cells), default=0), **extra, "totals": self._totals(run)}
        run.warnings = [*_CAVEATS, *self.notes, *warnings]
        run.machine["locust_workers"] = len(self._workers)
        run.ended, run.status = utc_text(), "complete"
        self.folder.save(run)
        self.folder.merge()
        self._spool.close()
        self._spool_path.unlink()
        if run.cells:
            link_latest(self.folder)
        return self.folder

    def _cells(self) -> Iterator[CellRecord]:
        if not self._index:
            return
        starts = [spooled.start_ns for index in self._index.values() for spooled in index]
        blocks = block_count(min(map(len, self._index.values())))
        for block, (from_ns, until_ns) in enumerate(pairwise(edges_ns(starts, blocks)), 1):
            yield from self._block(_Slice(block, from_ns, until_ns))

    def _block(self, part: _Slice) -> Iterator[CellRecord]:
        by_transport = {transport: self._records(transport, part) for transport in sorted(self._index)}
        # The same processes ask for all transports, and a block has few messages of each: one lag for all.
        generator_ns = start_lags_ns(record for records in by_transport.values() for record in records)
        for order, (transport, records) in enumerate(by_transport.items()):
            cell = self._cell(transport, order, part, records)
            names = (cell.block, cell.cell, cell.transport, cell.variant, cell.profile, cell.recovery)
            results.write(self.folder.cell_prefix(cell.id), results.CellColumns(*names), records)
            cell.generator_lag_ms_p99 = p99_ms(generator_ns) or 0.0
            self._judge(cell, records, part)
            yield cell

    def _records(self, transport: str, part: _Slice) -> list[StreamRecord]:
        spooled = [s for s in self._index[transport] if part.from_ns <= s.start_ns < part.until_ns]
        return [self._read(s) for s in sorted(spooled, key=lambda s: s.start_ns)]

    def _cell(self, transport: str, order: int, part: _Slice, records: Sequence[StreamRecord]) -> CellRecord:
        options = self.options
        return CellRecord(
            id=f"b{part.block:02d}-{transport}",
            block=part.block,
            cell=options.cell(transport),
            transport=transport,
            variant=results.variant_words(options.variant(transport)),
            profile=options.profile,
            recovery=options.recovery,
            order=order,
            seconds=(part.until_ns - part.from_ns) / 1e9,
            messages=len(records),
            failed_messages=sum(record.outcome is not Outcome.OK for record in records),
        )

    def _read(self, spooled: _Spooled) -> StreamRecord:
        self._spool.seek(spooled.offset)
        return unpack(self._spool.read(spooled.size), spooled.shift_ns)

    def _judge(self, cell: CellRecord, records: Sequence[StreamRecord], part: _Slice) -> None:
        """Void the cell if its number is not the transport's, by the same limits as in any run."""
        lags_ns, busiest = self._health(part)
        streams = TRANSPORTS[cell.transport].streams
        emit_lags = emit_lags_ns(records, streams=streams)
        cell.emit_lag_ms_p99, cell.emit_early_ms_max = p99_ms(emit_lags), early_ms_max(emit_lags)
        if lags_ns:
            cell.loop_lag_ms_p99, cell.loop_lag_ms_max = p99_ms(lags_ns), max(lags_ns) / 1e6
        cell.delay_ms_p50 = delay_ms_p50(records)
        cell.requests_worst_second = worst_second(record.requests_at_ns for record in records)
        cell.client_cpu_ratio = busiest
        offsets = [worker.clock_offsets_ns.get(cell.transport, 0) for worker in self._workers.values()]
        cell.clock_offset_ns = max(offsets, key=abs, default=0)
        cell.reasons = void_reasons(cell, Validity())
        cell.status = "void" if cell.reasons else "ok"

    def _health(self, part: _Slice) -> tuple[list[int], float | None]:
        """Event loop lags of all workers within a slice (ns), and the share of a core that the busiest used.

        That is None where none measured for long enough to say.
        """
        lags_ns: list[int] = []
        busy: list[float] = []
        for worker in self._workers.values():
            from_ns, until_ns = part.from_ns - worker.shift_ns, part.until_ns - worker.shift_ns
            within = [h for h in worker.health if h.from_ns < until_ns and h.until_ns > from_ns]
            lags_ns += [lag for health in within for lag in health.loop_lags_ns]
            lasted_s = sum(health.until_ns - health.from_ns for health in within) / 1e9
            if lasted_s >= LONG_ENOUGH_S:
                busy.append(sum(health.cpu_s for health in within) / lasted_s)
        return lags_ns, max(busy, default=None)

    def _totals(self, run: Run) -> dict[str, dict[str, int]]:
        """By transport: what the servers counted meanwhile, beside what is in the tables."""
        totals = {}
        for transport in self.options.urls:
            before, after = self._before[transport], self._counters(transport)
            told = {f"server_{word}": after[word] - before[word] for word in after.keys() & before.keys()}
            cells = [cell for cell in run.cells if cell.transport == transport]
            seen = {"messages": sum(c.messages for c in cells), "failed": sum(c.failed_messages for c in cells)}
            totals[transport] = seen | dict(sorted(told.items()))
        return totals


_CAVEATS = (
    "A Locust test: its blocks are slices of one test, and all transports ran at once. Blocks beside each other are "
    "alike and transports share the machine, so intervals are too narrow; use a plan to compare transports.",
)

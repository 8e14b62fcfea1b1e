"""One cell: a load process against an endpoint, its cost, and the verdict on it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp
import msgspec

from bench.plan import Cell, Plan
from bench.running.endpoints import Counters, Endpoint, Fleet
from bench.running.machine import cpu_steal
from bench.running.processes import Child, PartDied
from bench.running.validity import void_reasons
from bench.store import CellRecord, RunFolder
from clients.job import Job, JobResult, Load
from servers.recording import load as load_recording

_SPARE_S = 60.0  # a load process gets so much longer than its messages can take

OnProgress = Callable[[int, int], None]


class _Line(msgspec.Struct):
    """A line of the load process: progress, unless it is the JobResult."""

    done: int | None = None
    of: int = 0


@dataclass
class Reading:
    """Meters read at one moment; the difference of two readings is what was spent between them."""

    counters: Counters
    redis_cpu_s: float | None
    steal: tuple[float, float]
    at: float = field(default_factory=time.monotonic)

    @classmethod
    async def take(cls, endpoint: Endpoint, http: aiohttp.ClientSession) -> Reading:
        """Read the meters of `endpoint` and of the machine."""
        return cls(await endpoint.counters(http), endpoint.redis_cpu_s(), cpu_steal())


class CellRunner:
    """Runs cells of one run, one at a time, and fills in their records."""

    def __init__(self, plan: Plan, folder: RunFolder, http: aiohttp.ClientSession, cpus: list[int]) -> None:
        self._plan = plan
        self._folder = folder
        self._http = http
        self._cpus = cpus

    async def run(self, cell: Cell, record: CellRecord, fleet: Fleet, on_progress: OnProgress) -> None:
        """Measure `cell` and write into `record` how it went; a part that died makes the cell failed."""
        record.started = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        begun = time.monotonic()
        try:
            endpoint = await fleet.endpoint(cell)
            before = await Reading.take(endpoint, self._http)
            result = await self._load(cell, record, endpoint, on_progress)
            after = await Reading.take(endpoint, self._http)
            self._judge(record, self._plan.load_of(cell), result, before, after)
        except PartDied as error:
            record.status = "failed"
            record.reasons = [str(error)]
            self._discard(record)
        except asyncio.CancelledError:
            self._discard(record)
            raise
        record.seconds = round(time.monotonic() - begun, 3)

    async def _load(self, cell: Cell, record: CellRecord, endpoint: Endpoint, on_progress: OnProgress) -> JobResult:
        """Run the load process to its end. Raises PartDied when it, the server or Redis dies."""
        log = self._folder.path / "logs" / "load.log"
        child = await Child.start("load process", [sys.executable, "-m", "clients.load"], log, self._cpus)
        talk = asyncio.create_task(_talk(child, job_for(self._plan, cell, record, endpoint, self._folder), on_progress))
        death = asyncio.create_task(endpoint.died())
        limit_s = time_limit_s(self._plan.load_of(cell))
        try:
            await asyncio.wait({talk, death}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            if failure := endpoint.failure():  # before the load's own complaint, which may be only its echo
                raise failure
            if not talk.done():
                raise PartDied(f"the load process had not ended after {limit_s:.0f} s")
            return talk.result()
        finally:
            for task in (talk, death):
                task.cancel()
            child.kill()
            await asyncio.gather(talk, death, child.process.wait(), return_exceptions=True)

    def _judge(self, record: CellRecord, load: Load, result: JobResult, before: Reading, after: Reading) -> None:
        stolen, total = (late - early for late, early in zip(after.steal, before.steal, strict=True))
        steal_ratio = stolen / total if total > 0 else None
        # Meters also counted the warm-up, whose messages are like the others: the measured messages' share is theirs.
        share = result.messages / max(1, result.messages + load.warmup_streams)
        record.messages = result.messages
        record.failed_messages = result.failed
        record.client_cpu_s = result.cpu_s
        record.server_cpu_s = _spent(before.counters.cpu_seconds, after.counters.cpu_seconds, share)
        record.redis_cpu_s = _spent(before.redis_cpu_s, after.redis_cpu_s, share)
        commands = _spent(before.counters.redis_commands, after.counters.redis_commands, share)
        record.redis_commands = None if commands is None else round(commands)
        record.generator_lag_ms_p99 = result.generator_lag_ms_p99
        record.emit_lag_ms_p99 = result.emit_lag_ms_p99
        record.loop_lag_ms_p99 = result.loop_lag_ms_p99
        record.steal_ratio = steal_ratio
        record.clock_offset_ns = result.clock_offset_ns
        record.notes = result.notes
        record.reasons = void_reasons(result, steal_ratio, self._plan.validity)
        record.status = "void" if record.reasons else "ok"

    def _discard(self, record: CellRecord) -> None:
        """Remove what an unfinished cell has written."""
        prefix = self._folder.cell_prefix(record.id)
        for path in prefix.parent.glob(f"{prefix.name}.*"):
            path.unlink(missing_ok=True)


def _spent(before: float | None, after: float | None, share: float) -> float | None:
    return None if before is None or after is None else (after - before) * share


async def _talk(child: Child, job: Job, on_progress: OnProgress) -> JobResult:
    """Give the load process its job and read what it says until its result. Raises PartDied."""
    stdin, stdout = child.process.stdin, child.process.stdout
    assert stdin is not None
    assert stdout is not None
    last = b""
    try:
        stdin.write(msgspec.json.encode(job))
        await stdin.drain()
        stdin.close()
        async for line in stdout:
            last = line
            progress = msgspec.json.decode(line, type=_Line)
            if progress.done is not None:
                on_progress(progress.done, progress.of)
        if await child.process.wait() == 0:
            return msgspec.json.decode(last, type=JobResult)
    except (OSError, ValueError) as error:
        child.kill()
        await child.process.wait()
        raise PartDied(f"the load process cannot be understood ({error}): {last[:200]!r}") from error
    raise child.obituary()


def job_for(plan: Plan, cell: Cell, record: CellRecord, endpoint: Endpoint, folder: RunFolder) -> Job:
    """What the load process is to do for `cell` in its block."""
    stream, recordings = wire_stream(plan.stream_of(cell))
    return Job(
        transport=cell.transport,
        url=endpoint.url,
        out=str(folder.cell_prefix(record.id)),
        block=record.block,
        cell=record.cell,
        seed=plan.seed,
        load=plan.load_of(cell),
        stream=stream,
        variant=cell.variant,
        profile=cell.profile,
        recovery=cell.recovery,
        recordings=recordings,
        time_scale=plan.time_scale,
    )


def wire_stream(table: dict[str, object]) -> tuple[dict[str, object], list[str]]:
    """A plan's stream table as requests carry it, a recording by its id, and the recordings' files."""
    file = table.get("recording")
    if file is None:
        return table, []
    return table | {"recording": load_recording(str(file)).id}, [str(file)]


def time_limit_s(load: Load) -> float:
    """When a load process must have ended: generous, it only has to be finite."""
    messages = load.warmup_streams + load.streams
    match load.arrivals:
        case "trace":
            span_s = load.trace_s / load.speed_up
        case "closed":
            span_s = messages / load.concurrency * load.timeout_s
        case _:
            span_s = 4 * messages / load.rate_per_s
    return span_s + load.turns * (load.timeout_s + load.think_s) + _SPARE_S

"""One cell: a load process against a server, its cost, and the verdict on it."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import aiohttp
import msgspec
import psutil

from bench import tables
from bench.plan import Cell, Plan
from bench.proxy.log import loop_lags_ms
from bench.run_record import CellRecord
from bench.running.endpoints import Counters, Fleet, Route, Server
from bench.running.machine import busy_seconds, cpu_seconds, cpu_steal, own_seconds, tree_seconds
from bench.running.memory import MemoryReadings, watched
from bench.running.processes import Child, PartDied
from bench.running.scaling import scaled_load, scaled_settings, scaled_stream
from bench.running.targets import RedisReading
from bench.running.validity import void_reasons
from bench.running.wire_stream import wire_stream
from bench.store import RunFolder, StoreError
from clients.core.record import Outcome
from clients.core.tls import Trust
from clients.job import LONG_ENOUGH_S, Job, JobResult, Load
from servers.transport import CONTESTANTS

LOAD_MODULES = {"asyncio": "clients.load", "browser": "clients.chromium.chromium_load"}
"""Who sends a cell's messages, by the cell's word `client`."""
_ROOM_BYTES = 1 << 14
_SPARE_S = 60.0  # a load process gets so much longer than its messages can take

OnCellProgress = Callable[[int, int], None]
N = TypeVar("N", int, float)


class _Line(msgspec.Struct):
    """A line of the load process: progress, unless it is the JobResult."""

    done: int | None = None
    of: int = 0


@dataclass(frozen=True)
class Reading:
    """Meters read at one moment; the difference of two readings is what was spent between them."""

    at_ns: int
    counters: Counters
    redis: RedisReading
    proxy_cpu_s: float | None
    own_s: float
    busy_s: float  # of the cores that the run uses
    stolen_s: float
    cpu_time_s: float

    @classmethod
    async def take(
        cls, route: Route, http: aiohttp.ClientSession, cores: Collection[int], earlier: Reading | None = None
    ) -> Reading:
        """Read the meters of `route` and of the machine's `cores`; lags are those since the `earlier` reading."""
        proxies = [tree_seconds(proxy.process.pid) for proxy in route.proxies]
        since_ns = (earlier.counters.now_ns or 0) if earlier else 0
        counters = await route.server.counters(http, since_ns)
        redis = await _read_redis(route.server)
        processor = own_seconds(), busy_seconds(cores), *cpu_steal()
        return cls(time.monotonic_ns(), counters, redis, sum(proxies) if proxies else None, *processor)

    def foreign_ratio(self, later: Reading) -> float | None:
        """The share of one core that other programs took of the run's cores until `later`; None if that is too soon."""
        elapsed_s = (later.at_ns - self.at_ns) / 1e9
        foreign_s = (later.busy_s - self.busy_s) - (later.own_s - self.own_s)
        return max(0.0, foreign_s) / elapsed_s if elapsed_s >= LONG_ENOUGH_S else None

    def steal_ratio(self, later: Reading) -> float | None:
        """The share of the machine's processor time that its host took until `later`."""
        elapsed_s = later.cpu_time_s - self.cpu_time_s
        return (later.stolen_s - self.stolen_s) / elapsed_s if elapsed_s > 0 else None

    def changed(self, later: Reading, server: Server) -> Iterator[str]:
        """Which processes behind the two readings are not the same any more, in words."""
        if self.counters.started_ns is not None and self.counters.started_ns != later.counters.started_ns:
            yield f"the {server.transport} server at {server.url}"
        if self.redis.run_id is not None and self.redis.run_id != later.redis.run_id:
            yield f"the Redis of the {server.transport} server"


async def _read_redis(server: Server) -> RedisReading:
    if server.foreign_redis:
        return await RedisReading.take(server.foreign_redis)
    return RedisReading(cpu_seconds(server.redis))


class CellRunner:
    """Runs cells of one run and fills in their records.

    `pins` are the cores of the load and of the servers, `warn` takes what the report must say.
    """

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        http: aiohttp.ClientSession,
        pins: Mapping[str, list[int]],
        warn: Callable[[str], object],
        *,
        trust: Trust,
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._http = http
        self._pins = pins
        self._warn = warn
        self._trust = trust
        self._last: dict[str, Reading] = {}  # of each server's URL
        self._unused_bytes: dict[Process, int] = {}  # memory of each server when the first of its cells began

    async def run(self, cell: Cell, record: CellRecord, fleet: Fleet, on_progress: OnCellProgress) -> None:
        """Measure `cell` and write into `record` how it went; a part that died makes the cell failed."""
        record.started = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        begun = time.monotonic()
        try:
            route = await fleet.route(cell)
            job = job_for(self._plan, cell, record, route, self._folder, trust=self._trust)
            server = self._watched_server(route)
            async with watched(server.pid if server else None) as memory:
                result, before, at_last = await self._load(job, route, on_progress)
            await route.check_answers(self._http)  # messages that a hung server lost are not the transport's
            self._check_understood(route.server, job, result)
            after = at_last or await self._read(route, before)
            self._check_same(route.server, record, before, after)
            self._tell_of_workers(record, before.counters, after.counters)
            _note(record, result)
            _note_meters(record, before, after)
            _note_surroundings(record, route, before, after)
            if server is not None:
                record.server_memory_bytes = self._memory_grown(server, memory, before.at_ns)
            if self._plan.parallel > 1:
                _forget_shared_costs(record)
            record.reasons = void_reasons(record, self._plan.validity)
            record.status = "void" if record.reasons else "ok"
        except (PartDied, psutil.Error, StoreError) as error:
            record.status, record.reasons = "failed", [f"{error}{self._full_disk()}"]
            self._discard(record)
        except asyncio.CancelledError:
            self._discard(record)
            raise
        record.seconds = round(time.monotonic() - begun, 3)

    async def _load(
        self, job: Job, route: Route, on_progress: OnCellProgress
    ) -> tuple[JobResult, Reading, Reading | None]:
        """Run the load process to its end; its result, and the meters at the beginning of its measured part.

        Of one with a browser also those behind its last message: what Chromium's processes have used is nobody's when
        it has closed, as it waits for none of them, and would be taken for other programs'.

        Raises PartDied when it, the server, the proxy or Redis dies.
        """
        log = self._folder.path / "logs" / "load.log"
        argv = [sys.executable, "-m", LOAD_MODULES[str(job.variant.get("client", "asyncio"))]]
        child = await Child.start("load process", argv, log, self._pins["load"])
        read_at_last = partial(self._read, route) if job.variant.get("client") == "browser" else None
        talk = asyncio.create_task(_talk(child, job, partial(self._begin, route), read_at_last, on_progress))
        death = asyncio.create_task(route.died())
        limit_s = time_limit_s(job.load)
        try:
            await asyncio.wait({talk, death}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            if failure := route.failure():  # before the load's own complaint, which may be only its echo
                raise failure
            if not talk.done():
                raise PartDied(f"the load process had not ended after {limit_s:.0f} s")
            return talk.result()
        finally:
            for task in (talk, death):
                task.cancel()
            child.kill()
            await asyncio.gather(talk, death, child.process.wait(), return_exceptions=True)

    async def _begin(self, route: Route) -> Reading:
        route.mark_start()
        return await self._read(route)

    async def _read(self, route: Route, earlier: Reading | None = None) -> Reading:
        cores = {core for cores in self._pins.values() for core in cores}
        return await Reading.take(route, self._http, cores, earlier)

    def _check_same(self, server: Server, record: CellRecord, before: Reading, after: Reading) -> None:
        """Raise PartDied if a server or Redis that is not ours was restarted in the cell; warn if it was before it.

        Of our own the process itself tells.
        """
        if server.child is not None and server.foreign_redis is None:
            return
        last = self._last.get(server.url)
        self._last[server.url] = after
        for what in before.changed(after, server):
            raise PartDied(f"{what} died, or was restarted, while the cell ran")
        for what in last.changed(before, server) if last else ():
            self._warn(f"{what} was restarted before block {record.block}, {record.cell}")

    def _tell_of_workers(self, record: CellRecord, before: Counters, after: Counters) -> None:
        """Warn where a stack's workers ended, by a foreign hand or its own (gunicorn's timeout): both look alike."""
        if ended := _spent(before.workers_ended, after.workers_ended):
            what = "1 worker process" if ended == 1 else f"{ended} worker processes"
            told = f"{what} of the server ended, and with it what it had under way; see the server's log"
            self._warn(f"In block {record.block}, {record.cell}, {told}.")

    def _watched_server(self, route: Route) -> Process | None:
        """The server whose memory is this cell's alone; None of one that is not ours, or that others ask at once."""
        child = route.server.child
        return child.process if child and route.server.is_ours and self._plan.parallel == 1 else None

    def _memory_grown(self, server: Process, memory: MemoryReadings, begin_ns: int) -> int | None:
        """How much more memory a server had at most than when the first of its cells began.

        A second cell of the same process finds room that the first has left, which would look like streams for nothing.
        """
        first, most = memory.first_since(begin_ns), memory.most_since(begin_ns)
        if first is None or most is None:
            return None
        return most - self._unused_bytes.setdefault(server, first)

    def _check_understood(self, server: Server, job: Job, result: JobResult) -> None:
        """Raise PartDied if every message failed because server and client do not speak of the same thing."""
        if result.failed < max(1, result.messages):
            return
        messages = tables.read_rows(Path(f"{job.out}.streams.parquet"))
        outcomes, details = set(messages["outcome"].to_pylist()), set(messages["detail"].to_pylist())
        if outcomes == {Outcome.ALTERED}:
            raise PartDied(
                f"every message has another text than the schedule's: the server at {server.url} has to send the "
                "simulated model's tokens for each request's seed and stream (docs/wire-format.md, The text)"
            )
        if outcomes == {Outcome.HTTP_ERROR} and all(" 401" in detail for detail in details):
            raise PartDied(f"the {server.transport} server refused every message for its token (status 401)")

    def _full_disk(self) -> str:
        """Said of every failure on a disk without room, where a process cannot log its own last words."""
        return "; no space left on the disk" if shutil.disk_usage(self._folder.path).free < _ROOM_BYTES else ""

    def _discard(self, record: CellRecord) -> None:
        """Remove what an unfinished cell has written."""
        prefix = self._folder.cell_prefix(record.id)
        for path in prefix.parent.glob(f"{prefix.name}.*"):
            path.unlink(missing_ok=True)


def _note(record: CellRecord, result: JobResult) -> None:
    """Enter what the load process said."""
    record.messages, record.failed_messages = result.messages, result.failed
    record.client_cpu_s, record.client_cpu_ratio = result.cpu_s, result.cpu_ratio
    record.delay_ms_p50 = result.delay_ms_p50
    record.generator_lag_ms_p99 = result.generator_lag_ms_p99
    record.loop_lag_ms_p99, record.loop_lag_ms_max = result.loop_lag_ms_p99, result.loop_lag_ms_max
    record.request_lag_ms_p99, record.emit_lag_ms_p99 = result.request_lag_ms_p99, result.emit_lag_ms_p99
    record.emit_early_ms_max = result.emit_early_ms_max
    record.requests_worst_second = result.requests_worst_second
    record.clock_offset_ns = result.clock_offset_ns
    record.notes = result.notes


def _note_meters(record: CellRecord, before: Reading, after: Reading) -> None:
    """Enter what the meters show of the parts."""
    early, late = before.counters, after.counters
    record.server_cpu_s = _spent(early.cpu_seconds, late.cpu_seconds)
    record.redis_cpu_s = _spent(before.redis.cpu_s, after.redis.cpu_s)
    record.proxy_cpu_s = _spent(before.proxy_cpu_s, after.proxy_cpu_s)
    record.redis_commands = _spent(early.redis_commands, late.redis_commands)
    if not CONTESTANTS[record.transport].streams:  # it sends at the end, so only the server knows its model's lateness
        record.emit_lag_ms_p99 = _ms(late.emit_lag_us_p99)
    record.server_pace_us = late.pace_us
    record.server_loop_lag_ms_p99 = _ms(late.loop_lag_us_p99)
    record.server_loop_lag_ms_max = _ms(late.loop_lag_us_max)
    record.redis_lag_ms_max = _ms(late.redis_lag_us_max)


def _ms(us: float | None) -> float | None:
    return None if us is None else us / 1000


def _note_surroundings(record: CellRecord, route: Route, before: Reading, after: Reading) -> None:
    """Enter what the machine and the intermediary did; what is another's is not known."""
    record.steal_ratio = before.steal_ratio(after)
    # What runs already is not told apart from other programs, and what is far away takes its time.
    record.foreign_cpu_ratio = before.foreign_ratio(after) if route.server.is_ours else None
    record.redis_lag_ms_p99 = _ms(after.counters.redis_lag_us_p99) if route.server.is_ours else None
    if route.proxies or not route.server.is_ours:
        record.request_lag_ms_p99 = None
    if route.proxy_log is not None and route.proxy_log.exists():  # the real ones write none
        with suppress(OSError, msgspec.DecodeError):  # the end of the run says so
            lags_ms = loop_lags_ms(route.proxy_log, before.at_ns, after.at_ns)
            record.proxy_loop_lag_ms_p99, record.proxy_loop_lag_ms_max = lags_ms


def _forget_shared_costs(record: CellRecord) -> None:
    """Cells that ran at once shared the server, its Redis and the proxy: nobody knows whose cost it was."""
    record.server_cpu_s = record.redis_cpu_s = record.proxy_cpu_s = record.redis_commands = None


def _spent(before: N | None, after: N | None) -> N | None:
    return None if before is None or after is None else after - before


async def _talk(
    child: Child,
    job: Job,
    read_meters: Callable[[], Awaitable[Reading]],
    read_at_last: Callable[[Reading], Awaitable[Reading]] | None,
    on_progress: OnCellProgress,
) -> tuple[JobResult, Reading, Reading | None]:
    """Give the load process its job and read what it says, from "0 done" (the meters are read then) to its result.

    `read_at_last` reads them again when all messages are over. Raises PartDied.
    """
    stdin, stdout = child.process.stdin, child.process.stdout
    assert stdin is not None
    assert stdout is not None
    last, before, at_last = b"", None, None
    try:
        stdin.write(msgspec.json.encode(job))
        await stdin.drain()
        stdin.close()
        async for line in stdout:
            last = line
            progress = msgspec.json.decode(line, type=_Line)
            before = before or await read_meters()
            if progress.done is not None:
                on_progress(progress.done, progress.of)
                if read_at_last and progress.done == progress.of:
                    at_last = at_last or await read_at_last(before)
        if await child.process.wait() == 0 and before is not None:
            return msgspec.json.decode(last, type=JobResult), before, at_last
    except (OSError, ValueError) as error:
        child.kill()
        await child.process.wait()
        raise PartDied(f"the load process cannot be understood ({error}): {last[:200]!r}") from error
    raise child.obituary()


def job_for(plan: Plan, cell: Cell, record: CellRecord, route: Route, folder: RunFolder, *, trust: Trust) -> Job:
    """What the load process is to do for `cell` in its block."""
    stream, recordings = wire_stream(plan.stream_of(cell))
    scale = plan.time_scale
    return Job(
        transport=cell.transport,
        url=route.url,
        out=str(folder.cell_prefix(record.id)),
        block=record.block,
        cell=record.cell,
        seed=plan.seed,
        load=scaled_load(plan.load_of(cell), scale),
        stream=scaled_stream(stream, scale),
        variant=cell.variant,
        settings=scaled_settings(cell, scale),
        profile=cell.profile_name,
        recovery=cell.recovery,
        others=dict(route.others),
        auth_token=route.server.token,
        cafile=route.cafile or trust.cafile,
        insecure=trust.insecure and route.cafile is None,
        recordings=recordings,
    )


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

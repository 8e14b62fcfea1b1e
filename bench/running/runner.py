"""A whole run: block after block, saved cell by cell, to a folder that can be read whatever happened."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from redis.asyncio import Redis

from bench.plan import Plan, parse
from bench.proxy import real
from bench.proxy.log import behaviours_struck
from bench.run_record import CellRecord, Run, RunStatus
from bench.running import machine
from bench.running.addresses import AddressError, server_url
from bench.running.blocks import schedule
from bench.running.cell_runner import CellRunner
from bench.running.endpoints import TLS_FRONT, Fleet, Server, cell_needs_redis, token_for
from bench.running.expected import expected
from bench.running.fingerprint import schedule_sha256
from bench.running.processes import PartDied
from bench.running.progress import Display
from bench.running.targets import RETURN_S, Patience, check_redis, check_target_token, is_on_this_machine
from bench.running.unchecked_upgrades import ask_without_token
from bench.running.validity import worth_another
from bench.store import RunFolder, StoreError, create_run, utc_text
from bench.table_checks import PlanError
from clients.chromium.browser import NoBrowser, executable
from clients.core.tls import Trust
from servers import redis_server
from servers.process import usable_cores
from servers.redis_server import Address, RedisUnavailable
from servers.stacks import StackError, installed
from servers.transport import ENDPOINTS
from servers.user_errors import OutputLost

_HTTP_S = 5.0  # the runner's own requests: /healthz and /stats


@dataclass(frozen=True)
class RunOptions:
    """What a run is told beside its plan: `targets` maps a transport to the URL of a server that runs already.

    `target_token` is their bearer token. Neither that nor `redis_url`, which may hold a password, stands in `run.json`.
    `trust` says whose certificates are good where a target's URL is https.
    """

    targets: Mapping[str, str] = field(default_factory=dict)
    target_token: str | None = field(default=None, repr=False)
    redis_url: str | None = field(default=None, repr=False)
    trust: Trust = field(default_factory=Trust)


def new_run(plan: Plan, out_dir: Path, targets: Collection[str] = ()) -> RunFolder:
    """A folder for a run of `plan`, with its `run.json`; nothing has run yet. Raises OSError, PlanError.

    targets: the transports whose servers run already, wherever that is
    """
    _check_installed(plan, targets)
    _check_models(plan)
    pinned = {"pinned_cores": machine.pinning()}
    run = Run(
        name=plan.name,
        plan=msgspec.to_builtins(plan),
        seed=plan.seed,
        schedule_sha256=schedule_sha256(plan),
        time_scale=plan.time_scale,
        machine=machine.machine_facts() | pinned,
        versions=machine.package_versions(),
        git_commit=machine.git_commit(),
        started=utc_text(),
        cells=schedule(plan),
    )
    return create_run(out_dir, run)


def reopen_run(folder: RunFolder, targets: Collection[str] = ()) -> Plan:
    """Make the run in `folder` ready to go on: what failed or never ran is pending again. The caller holds the lock.

    A run that was killed behind its last cell has nothing left but its report. Raises StoreError, PlanError.
    """
    mended = folder.mend()
    run = folder.load()
    if run.stated_scale != 1:
        raise PlanError(f"--resume {folder.path}: made by a version that scaled other times; start a new run")
    plan = parse(run.plan)
    _check_installed(plan, targets)
    cores = run.machine.get("target_cores")
    if elsewhere := sorted(set(cores if isinstance(cores, dict) else ()) - set(targets)):
        words = " ".join(f"--target {name}=URL" for name in elsewhere)
        raise PlanError(f"--resume {folder.path}: its first cells asked servers that ran already; takes {words} again")
    if unknown := {cell.cell for cell in run.cells} - {cell.key for cell in plan.cells}:
        raise StoreError(f"{folder.path}: run.json has cells that its plan does not: {', '.join(sorted(unknown)[:3])}")
    if schedule_sha256(plan) != run.schedule_sha256:
        raise PlanError(f"--resume {folder.path}: this version simulates other answers than the run's; start a new run")
    if not remaining(run.cells):
        if mended:
            return plan
        raise PlanError(f"--resume {folder.path}: every cell of this run is done; takes a run with cells missing")
    for record in run.cells:
        if record.status == "failed":
            record.status, record.reasons = "pending", []
    run.warnings.append(f"resumed at {utc_text()}")
    cpu = machine.machine_facts()["cpu"]
    if cpu != run.machine.get("cpu"):
        run.warnings.append(f"resumed on another machine: {cpu}")
    run.status, run.ended = "running", None
    folder.save(run)
    return plan


def _check_installed(plan: Plan, targets: Collection[str]) -> None:
    """Raise PlanError if a stack of the plan's cells that is to run here, or their browser or TLS, is not installed."""
    for cell in plan.cells:
        try:
            if cell.stack and cell.transport not in targets:
                installed(cell.stack, cell.transport)
            if cell.client == "browser":
                executable()
            if cell.tls and cell.transport not in targets:
                real.find_program(TLS_FRONT.removeprefix(real.PREFIX))
        except (StackError, NoBrowser, real.RealProxyError) as error:
            word = {NoBrowser: "client", real.RealProxyError: "tls"}.get(type(error), "stack")
            raise PlanError(f"[[cells]] {word}: {error}") from None


def _check_models(plan: Plan) -> None:
    """Raise PlanError if a cell does not say what its endpoint is to be asked for."""
    if nameless := next((cell for cell in plan.cells if cell.transport in ENDPOINTS and not cell.model), None):
        raise PlanError(f"[[cells]] {nameless.key} model: an endpoint is asked for a model; name it, or give --model")


def remaining(cells: Iterable[CellRecord]) -> list[CellRecord]:
    """The cells that have yet to be measured."""
    return [record for record in cells if record.status in ("pending", "failed")]


def with_targets(options: RunOptions, plan: Plan) -> RunOptions:
    """`options` with the plan's own targets, where they have none. Raises PlanError."""
    try:
        stated = {target.transport: server_url(target.url) for target in plan.targets}
    except AddressError as error:
        raise PlanError(f"[[targets]] url: {error}") from None
    targets = stated | dict(options.targets)
    for cell in plan.cells:
        if cell.transport in ENDPOINTS and cell.transport not in targets:
            form = f"--target {cell.transport}=https://HOST/v1"
            raise PlanError(f"[[cells]] {cell.key}: is measured where it runs already; takes {form}, or [[targets]]")
    if options.targets and not {cell.transport for cell in plan.cells} & set(options.targets):
        names = ",".join(options.targets)
        raise PlanError(f"--target: no cell of this plan asks {names}; takes --transports {names} beside it")
    return replace(options, targets=targets)


async def check_services(options: RunOptions, plan: Plan, patience_s: float = 0.0) -> None:
    """Raise PlanError if what `plan` finds running already does not answer within `patience_s`, or is something else.

    That is a target which is the server that it is said to be, and a Redis. SIGINT and SIGTERM raise KeyboardInterrupt.
    """
    work = asyncio.ensure_future(_check_services(options, plan, Patience(patience_s)))
    with _on_signals(work.cancel):
        try:
            await work
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None


async def _check_services(options: RunOptions, plan: Plan, patience: Patience) -> None:
    await _check_redis(options, plan, patience)
    async with _http(options.trust) as http:
        for server in _targets(options):
            try:
                await patience.wait(server.url, partial(server.check, http))
                if not server.is_endpoint:
                    await check_target_token(http, server.url, server.token)
            except PartDied as error:
                raise PlanError(f"{_named_by(server, plan)}: {error}") from None


def _named_by(server: Server, plan: Plan) -> str:
    """What named the target: the plan, or the option that goes before it."""
    stated = {target.transport: server_url(target.url) for target in plan.targets}
    where = "[[targets]]" if stated.get(server.transport) == server.url else "--target"
    return f"{where} {server.transport}"


async def _check_redis(options: RunOptions, plan: Plan, patience: Patience) -> None:
    """Raise PlanError where cells would have no Redis."""
    cells = [cell for cell in plan.cells if cell_needs_redis(plan, cell)]
    try:
        if options.redis_url is not None and cells:
            name = f"the Redis at {Address.parse(options.redis_url)}"
            async with Redis.from_url(options.redis_url, socket_timeout=_HTTP_S) as redis:
                await patience.wait(name, partial(check_redis, redis, name))
        elif any(cell.transport not in options.targets for cell in cells):
            redis_server.redis_executable()
    except PartDied as error:
        raise PlanError(f"--redis-url: {error}") from None
    except RedisUnavailable as error:
        raise PlanError(f"[[cells]] {cells[0].key}: {error}; or leave it out by --transports") from None


def _targets(options: RunOptions) -> list[Server]:
    token = options.target_token
    return [Server(name, url, token_for(name, token)) for name, url in options.targets.items()]


async def carry_out(plan: Plan, folder: RunFolder, options: RunOptions, display: Display) -> Run:
    """Run what is pending in `folder`. SIGINT or SIGTERM ends it early, with what is finished kept.

    Raises OSError where the folder cannot be written, OutputLost where nobody can be told how it goes.
    """
    run = folder.load()
    work = asyncio.ensure_future(_blocks(plan, folder, run, options, display))
    with _on_signals(work.cancel):
        try:
            await work
            run.status = "complete" if not remaining(run.cells) else "failed"
        except asyncio.CancelledError:
            run.status = "interrupted"
        except OutputLost:
            _end(folder, run, "interrupted")
            raise
        finally:
            display.close()
    return _end(folder, run, run.status)


def _end(folder: RunFolder, run: Run, status: RunStatus) -> Run:
    _note_behaviours(run, folder)
    run.status, run.ended = status, utc_text()
    folder.save(run)
    return run


def _note_behaviours(run: Run, folder: RunFolder) -> None:
    """Enter what the proxies' logs say of their behaviours."""
    try:
        run.behaviours_struck = behaviours_struck(sorted((folder.path / "logs").glob("proxy-*.jsonl")))
    except (OSError, msgspec.DecodeError) as error:
        run.warnings.append(f"The proxies' logs cannot be read: {error}")


@contextmanager
def _on_signals(handler: Callable[[], object]) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM call `handler`, instead of what they do by default.

    One more changes nothing: it would cut short what ends the run's processes, and some would be left.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def first() -> None:
        for number in before:
            loop.add_signal_handler(number, lambda: None)
        handler()

    for number in before:
        loop.add_signal_handler(number, first)
    try:
        yield
    finally:
        for number, earlier in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, earlier)


async def _blocks(plan: Plan, folder: RunFolder, run: Run, options: RunOptions, display: Display) -> None:
    cells = {cell.key: cell for cell in plan.cells}
    patience = Patience(RETURN_S)
    (folder.path / "logs").mkdir(exist_ok=True)
    (folder.path / "cells").mkdir(exist_ok=True)
    async with _http(options.trust) as http:
        pins = await _pins(options, http, run)
        runner = CellRunner(plan, folder, http, pins, run.warnings.append, trust=options.trust)
        if plan.story and "websocket" not in options.targets:
            run.upgrades = run.upgrades or await _upgrades(folder, http, run)
        expected_s = expected(plan, run.cells).at_best_s

        async def one(record: CellRecord, fleet: Fleet) -> None:
            display.begin(record)
            await runner.run(cells[record.cell], record, fleet, display.advance)
            ended = copy(record)
            if again := worth_another(record, run.cells, plan, expected_s):
                record.begin_again()
            folder.save(run)
            display.end(ended, again=again)

        for _, block in groupby(remaining(run.cells), key=lambda record: record.block):
            records = list(block)
            logs, cpus = folder.path / "logs", pins["servers"]
            fleet = Fleet(plan, http, logs, cpus, options.targets, options.target_token, options.redis_url, patience)
            try:
                await fleet.start(cells[record.cell] for record in records)
                while records:
                    await _at_once(plan.parallel, [partial(one, record, fleet) for record in records])
                    records = [record for record in records if record.status == "pending"]  # void, to be run again
            finally:
                await fleet.stop()


async def _upgrades(folder: RunFolder, http: aiohttp.ClientSession, run: Run) -> dict[str, dict[str, int]]:
    """What the story asks about access; nothing, with a warning, where that cannot be asked."""
    try:
        return await ask_without_token(http, folder.path / "logs")
    except PartDied as error:
        run.warnings.append(f"Whether an upgrade passes unchecked is not known: {error}")
        return {}


async def _pins(options: RunOptions, http: aiohttp.ClientSession, run: Run) -> dict[str, list[int]]:
    """Which cores to use, so that the load has one without a target where there is one; noted in `run`."""
    if not options.targets:
        return machine.pinning()
    servers = [server for server in _targets(options) if not server.is_endpoint]
    cores = {server.transport: (await server.counters(http)).cores or [] for server in servers}
    here = {s.transport: set(cores[s.transport]) for s in servers if await is_on_this_machine(http, s.url, s.token)}
    pins = machine.pinning(set().union(*here.values()))
    run.machine |= {"pinned_cores": pins, "target_cores": cores}
    load = set(pins["load"] or usable_cores())
    sharing = [transport for transport, theirs in here.items() if theirs & load]
    if len(load) == 1 and sharing:  # where nothing can be pinned, nobody knows
        warning = f"The load shares its core with servers that ran already: {', '.join(sharing)}."
        run.warnings += [] if warning in run.warnings else [warning]
    return pins


async def _at_once(limit: int, steps: Iterable[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """Do `steps` in their order, `limit` of them at a time; the first error ends all."""
    room = asyncio.Semaphore(limit)

    async def do(step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with room:
            await step()

    tasks = [asyncio.create_task(do(step)) for step in steps]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _http(trust: Trust) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(ssl=trust.context)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=_HTTP_S))

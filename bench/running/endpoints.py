"""What the load talks to: a server of ours for each transport (and its Redis), or one that runs already, and the proxy
that a cell's profile puts in front of it."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import msgspec
import psutil
from redis.asyncio import Redis

from bench.plan import Cell, Plan, profile_name
from bench.running.addresses import AddressError, base_path, host_and_port
from bench.running.processes import NO_SECRETS, Child, PartDied
from bench.running.targets import (
    RETURN_S,
    NotNow,
    Patience,
    bearer,
    beginning,
    check_endpoint,
    check_redis,
    check_server,
)
from bench.secure_cells import is_secure
from servers.messages import NOT_JSON
from servers.service import KEEP_ALIVE_S, Settings
from servers.transport import CONTESTANTS, ENDPOINTS

READY_S = 30.0  # a process that has not said where it listens by then is given up
_WATCH_S = 0.2
_MOST_LOG_NAME = 160
TLS_FRONT = "real:nginx-h2"  # what ends TLS before a server of ours, unless the cell's own profile does
_PATIENT = 0.01  # its times are multiplied by a hundred: it stands for the server's own TLS, and cuts nobody
_STARTING = 6  # processes that start at once; more would only wait for the processor, and for READY_S


class Counters(msgspec.Struct):
    """What we use of a server's `/stats`; None where it does not say."""

    cpu_seconds: float | None = None
    redis_commands: int | None = None
    redis_pid: int | None = None
    emit_lag_us_p99: float | None = None
    pace_us: float | None = None
    loop_lag_us_p99: float | None = None
    loop_lag_us_max: float | None = None
    redis_lag_us_p99: float | None = None
    redis_lag_us_max: float | None = None
    now_ns: int | None = None
    started_ns: int | None = None
    cores: list[int] | None = None
    heartbeat_s: float | None = None
    late_head: bool | None = None
    stack: str | None = None
    workers_ended: int | None = None


@dataclass(frozen=True)
class Server:
    """A server that can be asked at `url`. `child` is None where it is not ours, `redis` where it started none.

    `foreign_redis` is a client of the Redis that it uses, where the user named one; `token` is what it asks for.
    `others` are the URLs of further transports, for recovery `fallback`.
    """

    transport: str
    url: str
    token: str | None = field(default=None, repr=False)
    child: Child | None = None
    redis: psutil.Process | None = None
    foreign_redis: Redis | None = None
    others: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        """Whether it and its Redis are processes of this run."""
        return self.child is not None and self.foreign_redis is None

    @property
    def is_endpoint(self) -> bool:
        """Whether it speaks OpenAI's dialect alone: it is asked for nothing else."""
        return self.transport in ENDPOINTS

    async def check(self, http: aiohttp.ClientSession) -> None:
        """Raise PartDied if it is not what it is said to be, NoAnswer if nothing answers."""
        if self.is_endpoint:
            await check_endpoint(http, self.url, self.token)
        else:
            await check_server(http, self.transport, self.url)

    async def counters(self, http: aiohttp.ClientSession, since_ns: int = 0) -> Counters:
        """The server's counters now, and its lags since `since_ns` of its clock; empty if it does not tell."""
        if self.is_endpoint:
            return Counters()
        try:
            url = f"{self.url}/stats?since={since_ns}"
            async with http.get(url, headers=bearer(self.token)) as response:
                return msgspec.json.decode(await beginning(response), type=Counters)
        except (aiohttp.ClientError, TimeoutError, *NOT_JSON):
            return Counters()

    def failure(self) -> PartDied | None:
        """What has died, if anything."""
        if self.child and not self.child.alive:
            return self.child.obituary()
        if self.redis and not _runs(self.redis):
            return PartDied(f"the Redis of the {self.transport} server died")
        return None


class Ready(msgspec.Struct, frozen=True):
    """What a process prints when it is ready. One that speaks TLS has a `plain_url` too, and whom to trust."""

    url: str
    plain_url: str | None = None
    cafile: str | None = None


@dataclass(frozen=True)
class Hop:
    """A proxy that runs."""

    child: Child
    ready: Ready
    log: Path


@dataclass(frozen=True)
class Route:
    """Where a cell's load goes: to the server, or to the last of the proxies before it.

    `cafile` says whom to trust where one of them speaks TLS; `proxy_log` is the last one's.
    """

    server: Server
    url: str
    proxies: tuple[Child, ...] = ()
    proxy_log: Path | None = None
    cafile: str | None = None

    def through(self, hop: Hop, *, tls: bool) -> Route:
        """The same with one more proxy before it. What passes TLS through speaks it as far as anybody can see."""
        url = hop.ready.url if tls or hop.ready.plain_url is None else hop.ready.plain_url
        if self.url.startswith("https:"):
            url = url.replace("http:", "https:")
        return Route(
            self.server,
            url + base_path(self.server.url),
            (*self.proxies, hop.child),
            hop.log,
            hop.ready.cafile or self.cafile,
        )

    @property
    def others(self) -> dict[str, str]:
        """The further transports, by the same way."""
        if not self.proxies:
            return dict(self.server.others)
        root = self.url.removesuffix(base_path(self.server.url))
        return {name: root + base_path(url) for name, url in self.server.others.items()}

    def failure(self) -> PartDied | None:
        """What has died, if anything."""
        dead = next((proxy for proxy in self.proxies if not proxy.alive), None)
        return dead.obituary() if dead else self.server.failure()

    def mark_start(self) -> None:
        """A cell's measured part begins: the moments of its profile's events are counted from here."""
        for proxy in self.proxies:
            if proxy.alive:
                proxy.process.send_signal(signal.SIGUSR1)

    async def check_answers(self, http: aiohttp.ClientSession) -> None:
        """Raise PartDied if the server or the proxy hangs: it runs, but does not answer. One of ours is then killed."""
        try:
            await self.server.check(http)
        except NotNow:
            pass  # it answers; a list of models that is busy says nothing of the answers that were measured
        except PartDied as error:
            if self.server.child:
                await self.server.child.end()
            raise PartDied(f"the {self.server.transport} server hangs: {error}") from None
        if self.proxies and not await _answers(http, self.url):
            for proxy in self.proxies:
                await proxy.end()
            names = " or the ".join(proxy.name for proxy in self.proxies)
            raise PartDied(f"the {names} hangs: nothing comes back from {self.url}")

    async def died(self) -> PartDied:
        """Wait until a part dies; for ever, if all live."""
        # Polled, because a Redis that is not our child cannot be waited for.
        while (failure := self.failure()) is None:  # noqa: ASYNC110
            await asyncio.sleep(_WATCH_S)
        return failure


def cell_needs_redis(plan: Plan, cell: Cell) -> bool:
    """Whether what carries the cell's messages keeps them in Redis."""
    return any(CONTESTANTS[name].needs_redis for name in plan.order_of(cell))


def token_for(transport: str, target_token: str | None) -> str | None:
    """What a target is to be shown: an endpoint's key is its own, and the servers' token is not for it."""
    return os.environ.get("OPENAI_API_KEY") or None if transport in ENDPOINTS else target_token


async def _answers(http: aiohttp.ClientSession, url: str) -> bool:
    """Whether anything comes back from a proxy, be it an error or a closed connection, as its profile may want."""
    try:
        async with http.get(f"{url}/healthz"):
            return True
    except TimeoutError:
        return False
    except aiohttp.ClientError:
        return True


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


@dataclass
class Fleet:
    """The servers and proxies of one block: fresh, started together, started again when one has died.

    `targets` maps a transport to the URL of a server that runs already, `target_token` is what these ask for,
    `patience` is for them; `logs` is a folder for what ours say. Ours take their token from the environment.
    """

    plan: Plan
    http: aiohttp.ClientSession
    logs: Path
    cpus: list[int]
    targets: Mapping[str, str] = field(default_factory=dict)
    target_token: str | None = field(default=None, repr=False)
    redis_url: str | None = field(default=None, repr=False)
    patience: Patience = field(default_factory=lambda: Patience(RETURN_S))
    _servers: dict[tuple[object, ...], Server] = field(default_factory=dict)
    _hops: dict[tuple[str, str, float], Hop] = field(default_factory=dict)  # by what is behind it, profile, time scale
    _locks: defaultdict[object, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    _starting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_STARTING))
    _foreign_redis: Redis | None = None

    def __post_init__(self) -> None:
        if self.redis_url:
            self._foreign_redis = Redis.from_url(self.redis_url, socket_timeout=READY_S / 10)

    async def start(self, cells: Iterable[Cell]) -> None:
        """Start what `cells` need. What cannot start is left out: `route` says why."""
        cells = list(cells)
        servers = {self._server_key(cell): cell for cell in cells}
        await asyncio.gather(*map(self._server, servers.values()), return_exceptions=True)
        proxies = {(*self._server_key(cell), cell.profile, cell.tls): cell for cell in cells}
        await asyncio.gather(*map(self.route, proxies.values()), return_exceptions=True)

    async def route(self, cell: Cell) -> Route:
        """The route for `cell`, started if it is not there or has died. Raises PartDied."""
        route = Route(server := await self._server(cell), server.url)
        if cell.tls and server.child is not None and not is_secure(cell.profile):
            route = await self._through(cell, route, TLS_FRONT, _PATIENT)
        return (
            route if cell.profile == "direct" else await self._through(cell, route, cell.profile, self.plan.time_scale)
        )

    async def _through(self, cell: Cell, route: Route, profile: str, scale: float) -> Route:
        key = route.url, profile, scale
        async with self._locks[key]:
            hop = self._hops.pop(key, None)
            if hop is None or not hop.child.alive:
                hop = await self._open_proxy(cell, route, profile, scale)
            self._hops[key] = hop
        return route.through(hop, tls=cell.tls)

    def _server_key(self, cell: Cell) -> tuple[object, ...]:
        order = self.plan.order_of(cell)
        return *order, cell.head, cell.heartbeat, cell.stack, self.plan.stream_of(cell).get("recording")

    async def _server(self, cell: Cell) -> Server:
        async with self._locks[self._server_key(cell)]:  # cells that run at once may want the same
            return await self._running(cell)

    async def _running(self, cell: Cell) -> Server:
        key = self._server_key(cell)
        server = self._servers.pop(key, None)
        if server and server.failure():
            await _stop(server.child)
            server = None
        self._servers[key] = server = server or await self._open_server(cell)
        await self._check_foreign(cell, server)
        return server

    async def _check_foreign(self, cell: Cell, server: Server) -> None:
        """Raise PartDied if what is not ours of a server does not answer, or is not what the cell asks for."""
        if redis := server.foreign_redis:
            name = f"the Redis of the {cell.transport} server"
            await self.patience.wait(f"{self.redis_url}", lambda: check_redis(redis, name))
        if server.child is not None:
            return
        if cell.tls and not server.url.startswith("https:"):
            raise PartDied(f"the cell wants TLS; the address of the server is {server.url}")
        await self.patience.wait(server.url, lambda: server.check(self.http))
        wanted_s = cell.heartbeat / self.plan.time_scale
        told = await server.counters(self.http) if wanted_s or cell.stack or cell.head == "late" else Counters()
        if cell.stack and told.stack != cell.stack:
            raise PartDied(f"the cell wants the stack {cell.stack}; the server at {server.url} does not say so")
        if cell.head == "late" and not told.late_head:
            raise PartDied(f"the cell wants a late head; the server at {server.url} does not say that it has one")
        sent_s = told.heartbeat_s
        if wanted_s and not math.isclose(sent_s or 0.0, wanted_s, rel_tol=0.01):
            does = f"sends one every {sent_s:g} s" if sent_s else "sends none, as far as it says"
            raise PartDied(f"the cell wants a heartbeat every {wanted_s:g} s; the server at {server.url} {does}")

    async def _open_server(self, cell: Cell) -> Server:
        order = self.plan.order_of(cell)
        redis = self._foreign_redis if cell_needs_redis(self.plan, cell) else None
        if cell.transport in self.targets:
            others = {name: self._target_beside(cell, name) for name in order[1:]}
            url, token = self.targets[cell.transport], token_for(cell.transport, self.target_token)
            return Server(cell.transport, url, token, foreign_redis=redis, others=others)
        log = f"{cell.transport}-{cell.stack}" if cell.stack else "-".join(order)
        child, ready = await self._open(f"{cell.transport} server", self._server_argv(cell), log)
        url = ready.url
        server = Server(cell.transport, url, os.environ.get("TOKENDERBY_AUTH_TOKEN") or None, child)
        pid = (await server.counters(self.http)).redis_pid
        try:
            others = {name: f"{url.removesuffix(base_path(url))}/{name}" for name in order[1:]}
            return replace(server, redis=psutil.Process(pid) if pid else None, foreign_redis=redis, others=others)
        except psutil.Error:
            await child.stop()
            raise PartDied(f"the Redis of the {cell.transport} server died") from None

    def _target_beside(self, cell: Cell, other: str) -> str:
        """The target of another transport that the cell may go over to. Raises PartDied where it cannot."""
        own, url = self.targets[cell.transport], self.targets.get(other)
        if url is None:
            raise PartDied(f"recovery fallback may go over to {other}: name its server too, by --target {other}=URL")
        if cell.profile != "direct" and urlsplit(url).netloc != urlsplit(own).netloc:
            what = f"the targets of {cell.transport} and {other} have two"
            raise PartDied(f"{cell.profile_name} stands before one address, and {what}")
        return url

    async def _open_proxy(self, cell: Cell, route: Route, profile: str, scale: float) -> Hop:
        name, is_behind_tls = profile_name(profile), bool(route.proxies)
        log = f"proxy-{name.replace(':', '-')[:_MOST_LOG_NAME]}-{'-'.join(self.plan.order_of(cell))}"
        if cell.heartbeat:  # another server, so another proxy: two must not write one log
            log += f"-{cell.heartbeat:g}"
        if cell.head == "late":
            log += "-late-head"
        if cell.stack:
            log += f"-{cell.stack}"
        if is_behind_tls or scale == _PATIENT:
            log += "-tls"
        try:
            upstream = host_and_port(route.url, passes_tls=is_behind_tls)
        except AddressError as error:
            raise PartDied(f"the {cell.transport} target cannot be behind {name}: {error}") from None
        argv = [sys.executable, "-m", "bench.proxy", "--upstream", upstream]
        argv += ["--profile", profile, "--time-scale", f"{scale:g}", "--seed", str(self.plan.seed)]
        log_file = self.logs / f"{log}.jsonl"
        argv += ["--log", str(log_file)]
        child, ready = await self._open(f"{name} proxy", argv, log)
        return Hop(child, ready, log_file)

    async def _open(self, name: str, argv: list[str], log: str) -> tuple[Child, Ready]:
        secrets = {"TOKENDERBY_REDIS_URL": self.redis_url} if self.redis_url else {}
        async with self._starting:
            return await ready_child(name, argv, self.logs / f"{log}.log", self.cpus, secrets)

    def _server_argv(self, cell: Cell) -> list[str]:
        argv = [sys.executable, "-m", "servers", cell.transport, "--port", "0"]
        for name in self.plan.order_of(cell)[1:]:
            argv += ["--also", name]
        if cell.heartbeat:
            argv += ["--heartbeat", f"{cell.heartbeat / self.plan.time_scale:g}"]
        if cell.head == "late":
            argv.append("--late-head")
        if cell.stack:
            argv += ["--stack", cell.stack]
        if self.plan.time_scale != 1:  # its own patience with idle connections races a proxy's
            argv += ["--keep-alive", f"{KEEP_ALIVE_S / self.plan.time_scale:g}"]
            argv += ["--keep", f"{Settings.keep_s / self.plan.time_scale:g}"]
        if recording := self.plan.stream_of(cell).get("recording"):
            argv += ["--recording", recording]
        return argv

    async def stop(self) -> None:
        """Stop everything of ours."""
        children = [hop.child for hop in self._hops.values()]
        children += [server.child for server in self._servers.values() if server.child]
        self._hops.clear()
        self._servers.clear()
        try:
            await asyncio.gather(*map(_stop, children))
        finally:
            await asyncio.gather(*(child.end() for child in children))
            if self._foreign_redis:
                await self._foreign_redis.aclose()


async def ready_child(
    name: str, argv: Sequence[str], log: Path, cpus: Sequence[int], secrets: Mapping[str, str] = NO_SECRETS
) -> tuple[Child, Ready]:
    """Start a process that prints a JSON line with its `url` when it is ready; that line. Raises PartDied, OSError."""
    child = await Child.start(name, argv, log, cpus, secrets)
    try:
        async with asyncio.timeout(READY_S):
            return child, await _ready(child)
    except BaseException as error:
        await child.stop()
        if isinstance(error, TimeoutError | msgspec.MsgspecError):
            raise PartDied(f"the {name} did not say within {READY_S:g} s where it listens") from None
        raise


async def _stop(child: Child | None) -> None:
    if child:
        await child.stop()


async def _ready(child: Child) -> Ready:
    assert child.process.stdout is not None
    line = await child.process.stdout.readline()
    if not line:
        raise await child.died()
    return msgspec.json.decode(line, type=Ready)

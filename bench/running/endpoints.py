"""What the load talks to: a server of ours for each transport (and its Redis), or one that runs already, and the proxy
that a cell's profile puts in front of it."""

from __future__ import annotations

import asyncio
import math
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil
from redis.asyncio import Redis

from bench.plan import Cell, Plan
from bench.running.addresses import AddressError, base_path, host_and_port
from bench.running.processes import NO_SECRETS, Child, PartDied
from bench.running.targets import RETURN_S, Patience, bearer, check_endpoint, check_redis, check_server
from servers.service import KEEP_ALIVE_S, Settings
from servers.transport import ENDPOINTS, TRANSPORTS

READY_S = 30.0  # a process that has not said where it listens by then is given up
_WATCH_S = 0.2
_MOST_LOG_NAME = 160
_STARTING = 6  # processes that start at once; more would only wait for the processor, and for READY_S


class Counters(msgspec.Struct):
    """What we use of a server's `/stats`; None where it does not say."""

    cpu_seconds: float | None = None
    redis_commands: int | None = None
    redis_pid: int | None = None
    emit_lag_us_p99: float | None = None
    loop_lag_us_p99: float | None = None
    loop_lag_us_max: float | None = None
    redis_lag_us_max: float | None = None
    now_ns: int | None = None
    started_ns: int | None = None
    cores: list[int] | None = None
    heartbeat_s: float | None = None
    stack: str | None = None


@dataclass(frozen=True)
class Server:
    """A server that can be asked at `url`. `child` is None where it is not ours, `redis` where it started none.

    `foreign_redis` is a client of the Redis that it uses, where the user named one; `token` is what it asks for.
    """

    transport: str
    url: str
    token: str | None = field(default=None, repr=False)
    child: Child | None = None
    redis: psutil.Process | None = None
    foreign_redis: Redis | None = None

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
                return msgspec.json.decode(await response.read(), type=Counters)
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError):
            return Counters()

    def failure(self) -> PartDied | None:
        """What has died, if anything."""
        if self.child and not self.child.alive:
            return self.child.obituary()
        if self.redis and not _runs(self.redis):
            return PartDied(f"the Redis of the {self.transport} server died")
        return None


@dataclass(frozen=True)
class Route:
    """Where a cell's load goes: to the server, or to the proxy before it."""

    server: Server
    url: str
    proxy: Child | None = None
    proxy_log: Path | None = None

    def failure(self) -> PartDied | None:
        """What has died, if anything."""
        if self.proxy and not self.proxy.alive:
            return self.proxy.obituary()
        return self.server.failure()

    async def check_answers(self, http: aiohttp.ClientSession) -> None:
        """Raise PartDied if the server or the proxy hangs: it runs, but does not answer. One of ours is then killed."""
        try:
            await self.server.check(http)
        except PartDied as error:
            if self.server.child:
                await self.server.child.end()
            raise PartDied(f"the {self.server.transport} server hangs: {error}") from None
        if self.proxy and not await _answers(http, self.url):
            await self.proxy.end()
            raise PartDied(f"the {self.proxy.name} hangs: nothing comes back from {self.url}")

    async def died(self) -> PartDied:
        """Wait until a part dies; for ever, if all live."""
        # Polled, because a Redis that is not our child cannot be waited for.
        while (failure := self.failure()) is None:  # noqa: ASYNC110
            await asyncio.sleep(_WATCH_S)
        return failure


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
    _proxies: dict[tuple[str, str], Route] = field(default_factory=dict)
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
        proxies = {(*self._server_key(cell), cell.profile): cell for cell in cells}
        await asyncio.gather(*map(self.route, proxies.values()), return_exceptions=True)

    async def route(self, cell: Cell) -> Route:
        """The route for `cell`, started if it is not there or has died. Raises PartDied."""
        server = await self._server(cell)
        if cell.profile == "direct":
            return Route(server, server.url)
        key = server.url, cell.profile
        async with self._locks[key]:
            route = self._proxies.pop(key, None)
            if route is None or route.failure():
                route = await self._open_proxy(cell, server)
            self._proxies[key] = route
            return route

    def _server_key(self, cell: Cell) -> tuple[object, ...]:
        return cell.transport, cell.heartbeat, cell.stack, self.plan.stream_of(cell).get("recording")

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
            await self.patience.wait(f"{self.redis_url}", lambda: check_redis(redis, cell.transport))
        if server.child is not None:
            return
        await self.patience.wait(server.url, lambda: server.check(self.http))
        wanted_s = cell.heartbeat / self.plan.time_scale
        told = await server.counters(self.http) if wanted_s or cell.stack else Counters()
        if cell.stack and told.stack != cell.stack:
            raise PartDied(f"the cell wants the stack {cell.stack}; the server at {server.url} does not say so")
        sent_s = told.heartbeat_s
        if wanted_s and not math.isclose(sent_s or 0.0, wanted_s, rel_tol=0.01):
            does = f"sends one every {sent_s:g} s" if sent_s else "sends none, as far as it says"
            raise PartDied(f"the cell wants a heartbeat every {wanted_s:g} s; the server at {server.url} {does}")

    async def _open_server(self, cell: Cell) -> Server:
        needs_redis = cell.transport in TRANSPORTS and TRANSPORTS[cell.transport].needs_redis
        redis = self._foreign_redis if needs_redis else None
        if cell.transport in self.targets:
            token = token_for(cell.transport, self.target_token)
            return Server(cell.transport, self.targets[cell.transport], token, foreign_redis=redis)
        log = f"{cell.transport}-{cell.stack}" if cell.stack else cell.transport
        child, url = await self._open(f"{cell.transport} server", self._server_argv(cell), log)
        server = Server(cell.transport, url, os.environ.get("TOKENDERBY_AUTH_TOKEN") or None, child)
        pid = (await server.counters(self.http)).redis_pid
        try:
            return replace(server, redis=psutil.Process(pid) if pid else None, foreign_redis=redis)
        except psutil.Error:
            await child.stop()
            raise PartDied(f"the Redis of the {cell.transport} server died") from None

    async def _open_proxy(self, cell: Cell, server: Server) -> Route:
        log = f"proxy-{cell.profile_name.replace(':', '-')[:_MOST_LOG_NAME]}-{cell.transport}"
        if cell.heartbeat:  # another server, so another proxy: two must not write one log
            log += f"-{cell.heartbeat:g}"
        if cell.stack:
            log += f"-{cell.stack}"
        try:
            upstream = host_and_port(server.url)
        except AddressError as error:
            raise PartDied(f"the {cell.transport} target cannot be behind {cell.profile_name}: {error}") from None
        argv = [sys.executable, "-m", "bench.proxy", "--upstream", upstream]
        argv += ["--profile", cell.profile, "--time-scale", f"{self.plan.time_scale:g}", "--seed", str(self.plan.seed)]
        log_file = self.logs / f"{log}.jsonl"
        argv += ["--log", str(log_file)]
        child, url = await self._open(f"{cell.profile_name} proxy", argv, log)
        return Route(server, url + base_path(server.url), child, log_file)

    async def _open(self, name: str, argv: list[str], log: str) -> tuple[Child, str]:
        secrets = {"TOKENDERBY_REDIS_URL": self.redis_url} if self.redis_url else {}
        async with self._starting:
            return await ready_child(name, argv, self.logs / f"{log}.log", self.cpus, secrets)

    def _server_argv(self, cell: Cell) -> list[str]:
        argv = [sys.executable, "-m", "servers", cell.transport, "--port", "0"]
        if cell.heartbeat:
            argv += ["--heartbeat", f"{cell.heartbeat / self.plan.time_scale:g}"]
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
        children = [route.proxy for route in self._proxies.values()]
        children += [server.child for server in self._servers.values()]
        self._proxies.clear()
        self._servers.clear()
        try:
            await asyncio.gather(*map(_stop, children))
        finally:
            await asyncio.gather(*(child.end() for child in children if child))
            if self._foreign_redis:
                await self._foreign_redis.aclose()


async def ready_child(
    name: str, argv: Sequence[str], log: Path, cpus: Sequence[int], secrets: Mapping[str, str] = NO_SECRETS
) -> tuple[Child, str]:
    """Start a process that prints a JSON line with its `url` when it is ready; that URL. Raises PartDied, OSError."""
    child = await Child.start(name, argv, log, cpus, secrets)
    try:
        async with asyncio.timeout(READY_S):
            return child, await _ready_url(child)
    except BaseException as error:
        await child.stop()
        if isinstance(error, TimeoutError | msgspec.MsgspecError):
            raise PartDied(f"the {name} did not say within {READY_S:g} s where it listens") from None
        raise


async def _stop(child: Child | None) -> None:
    if child:
        await child.stop()


async def _ready_url(child: Child) -> str:
    assert child.process.stdout is not None
    line = await child.process.stdout.readline()
    if not line:
        raise await child.died()
    ready: dict[str, Any] = msgspec.json.decode(line)
    return str(ready["url"])

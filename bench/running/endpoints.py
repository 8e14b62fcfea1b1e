"""What the load talks to: a server of ours for each transport (and its Redis), or one that runs already."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil

from bench.plan import Cell, Plan
from bench.running.processes import Child, PartDied

READY_S = 30.0  # a server that has not said where it listens by then is given up
_WATCH_S = 0.2


class Counters(msgspec.Struct):
    """What we use of a server's `/stats`; None where it does not say."""

    cpu_seconds: float | None = None
    redis_commands: int | None = None
    redis_pid: int | None = None


@dataclass
class Endpoint:
    """A server that can be asked at `url`. `server` is None where it is not ours."""

    transport: str
    url: str
    server: Child | None = None
    redis: psutil.Process | None = None

    async def counters(self, http: aiohttp.ClientSession) -> Counters:
        """The server's counters now; empty if it does not tell."""
        try:
            async with http.get(f"{self.url}/stats") as response:
                return msgspec.json.decode(await response.read(), type=Counters)
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError):
            return Counters()

    def redis_cpu_s(self) -> float | None:
        """CPU seconds of the Redis that our server started, so far."""
        try:
            return sum(self.redis.cpu_times()[:2]) if self.redis else None
        except psutil.Error:
            return None

    def failure(self) -> PartDied | None:
        """What has died, if anything."""
        if self.server and not self.server.alive:
            return self.server.obituary()
        if self.redis and not _runs(self.redis):
            return PartDied(f"the Redis of the {self.transport} server died")
        return None

    async def died(self) -> PartDied:
        """Wait until a part dies; for ever, if all live."""
        # Polled, because a Redis that is not our child cannot be waited for.
        while (failure := self.failure()) is None:  # noqa: ASYNC110
            await asyncio.sleep(_WATCH_S)
        return failure


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


@dataclass
class Fleet:
    """The endpoints of one block: fresh servers, started together, started again when one has died.

    `targets` maps a transport to the URL of a server that runs already; `logs` is a folder for standard error.
    """

    plan: Plan
    http: aiohttp.ClientSession
    logs: Path
    cpus: list[int]
    targets: Mapping[str, str] = field(default_factory=dict)
    redis_url: str | None = None
    _endpoints: dict[tuple[str, float, str], Endpoint] = field(default_factory=dict)

    async def start(self, cells: Iterable[Cell]) -> None:
        """Start what `cells` need. What cannot start is left out: `endpoint` says why."""
        unique = {self._key(cell): cell for cell in cells}
        await asyncio.gather(*(self.endpoint(cell) for cell in unique.values()), return_exceptions=True)

    async def endpoint(self, cell: Cell) -> Endpoint:
        """The endpoint for `cell`, started if it is not there or has died. Raises PartDied."""
        key = self._key(cell)
        endpoint = self._endpoints.pop(key, None)
        if endpoint and endpoint.failure():
            await self._stop(endpoint)
            endpoint = None
        self._endpoints[key] = endpoint = endpoint or await self._open(cell)
        return endpoint

    def _key(self, cell: Cell) -> tuple[str, float, str]:
        return cell.transport, cell.heartbeat, str(self.plan.stream_of(cell).get("recording", ""))

    async def _open(self, cell: Cell) -> Endpoint:
        if cell.transport in self.targets:
            return Endpoint(cell.transport, self.targets[cell.transport].rstrip("/"))
        name = f"{cell.transport} server"
        child = await Child.start(name, self._argv(cell), self.logs / f"{cell.transport}.log", self.cpus)
        try:
            async with asyncio.timeout(READY_S):
                url = _ready_url(await _first_line(child))
            endpoint = Endpoint(cell.transport, url, child)
            await self._find_redis(endpoint)
        except (PartDied, TimeoutError, asyncio.CancelledError) as error:
            await child.stop()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise child.obituary() from None
        return endpoint

    def _argv(self, cell: Cell) -> list[str]:
        argv = [sys.executable, "-m", "servers", cell.transport, "--port", "0"]
        if cell.heartbeat:
            argv += ["--heartbeat", f"{cell.heartbeat / self.plan.time_scale:g}"]
        if recording := self.plan.stream_of(cell).get("recording"):
            argv += ["--recording", recording]
        if self.redis_url and cell.transport == "polling":
            argv += ["--redis-url", self.redis_url]
        return argv

    async def _find_redis(self, endpoint: Endpoint) -> None:
        pid = (await endpoint.counters(self.http)).redis_pid
        if pid:
            try:
                endpoint.redis = psutil.Process(pid)
            except psutil.Error:
                raise PartDied(f"the Redis of the {endpoint.transport} server died") from None

    async def stop(self) -> None:
        """Stop every server of ours."""
        endpoints = list(self._endpoints.values())
        self._endpoints.clear()
        try:
            await asyncio.gather(*map(self._stop, endpoints))
        finally:
            for endpoint in endpoints:
                if endpoint.server:
                    endpoint.server.kill()

    async def _stop(self, endpoint: Endpoint) -> None:
        if endpoint.server:
            await endpoint.server.stop()


async def _first_line(child: Child) -> bytes:
    assert child.process.stdout is not None
    line = await child.process.stdout.readline()
    if not line:
        await child.process.wait()
        raise child.obituary()
    return line


def _ready_url(line: bytes) -> str:
    ready: dict[str, Any] = msgspec.json.decode(line)
    return str(ready["url"])


async def check_target(http: aiohttp.ClientSession, transport: str, url: str) -> str | None:
    """What is wrong with a server that is said to run at `url`, in words; None if it is as it should be."""
    try:
        async with http.get(f"{url.rstrip('/')}/healthz") as response:
            found = (await response.json(content_type=None)).get("transport") if response.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, ValueError, AttributeError) as error:
        return f"no server of ours answers at {url} ({error or type(error).__name__})"
    return None if found == transport else f"the server at {url} says that it is {found or 'none of ours'}"

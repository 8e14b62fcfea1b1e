"""What is soaked: a server, the proxy that may stand before it, a Redis; processes with a temporary folder of theirs.

All that they start inherits that folder, so what outlives them is found by it.
"""

from __future__ import annotations

import asyncio
import math
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import msgspec
import psutil
from redis.asyncio import Redis
from redis.exceptions import RedisError

from bench.proxy.log import read_log
from bench.running.endpoints import READY_S
from bench.running.processes import Child, PartDied
from bench.soak.bounds import ServerCounts, Size, SubjectRole, broken_by_end, broken_by_log
from servers import redis_server

END_PATIENCE_S = 20.0  # then a process that was told to end is killed
ORPHAN_S = 3.0  # what a process started may end so much later than it
STATS_S = 30.0


class SubjectStats(msgspec.Struct):
    """What we use of a server's `/stats`."""

    streams_active: int = 0
    streams_started: int = 0
    tokens_sent: int = 0
    redis_pid: int | None = None


@dataclass
class Subject:
    """One server (and what belongs to it) that can be asked at `url`. Made by `subject`.

    `shared_redis`: its Redis is a process of ours, and not the server's own.
    `recording`: the bytes of a file that it is started with.
    """

    transport: str
    folder: Path
    keep_s: float
    profile: str | None = None
    shared_redis: bool = False
    recording: bytes = b""
    urls: dict[SubjectRole, str] = field(default_factory=dict)
    children: dict[SubjectRole, Child] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where clients ask."""
        return self.urls["proxy" if self.profile else "server"]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `url`."""
        return _address(self.url)

    @property
    def _temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def _proxy_log(self) -> Path:
        return self.folder / "proxy.jsonl"

    @property
    def _recording_file(self) -> Path:
        return self.folder / "recording.jsonl"

    @property
    def _roles(self) -> list[SubjectRole]:
        roles: list[SubjectRole] = ["redis"] if self.shared_redis else []
        return [*roles, "server", *(["proxy"] if self.profile else [])]  # type: ignore[list-item]

    async def start(self) -> None:
        """Start all of it. Raises PartDied."""
        self._temporary.mkdir()
        self._recording_file.write_bytes(self.recording)
        for role in self._roles:
            await self.start_part(role)

    async def start_part(self, role: SubjectRole) -> None:
        """Start a process, where it was before if it was killed. Raises PartDied."""
        child = await Child.start(self._name(role), self._argv(role), self.folder / f"{role}.log")
        self.children[role] = child
        try:
            async with asyncio.timeout(READY_S):
                self.urls[role] = await (self._redis_ready() if role == "redis" else _said_url(child))
        except TimeoutError:
            raise PartDied(f"the {child.name} did not say within {READY_S:g} s where it listens") from None

    def _name(self, role: SubjectRole) -> str:
        return f"{self.transport} server" if role == "server" else role

    def _argv(self, role: SubjectRole) -> list[str]:
        argv = ["env", f"TMPDIR={self._temporary}"]
        host, port = _address(self.urls.get(role, "http://127.0.0.1:0"))
        if role == "server":
            argv += [sys.executable, "-m", "servers", self.transport]
            argv += ["--host", host, "--port", str(port), "--keep", f"{self.keep_s:g}"]
            argv += ["--recording", str(self._recording_file)] if self.recording else []
            return argv + (["--redis-url", self.urls["redis"]] if self.shared_redis else [])
        if role == "proxy":
            argv += [sys.executable, "-m", "bench.proxy", "--upstream", self.urls["server"].removeprefix("http://")]
            argv += ["--profile", str(self.profile), "--listen", f"{host}:{port}"]
            return [*argv, "--log", str(self._proxy_log)]
        executable = redis_server.find_executable()
        if executable is None:
            raise PartDied("no redis-server is installed")
        argv += [executable, "--port", "0", "--unixsocket", str(self._redis_socket), "--save", ""]
        return [*argv, "--appendonly", "no", "--dir", str(self.folder)]

    @property
    def _redis_socket(self) -> Path:
        return self.folder / "redis.sock"

    async def _redis_ready(self) -> str:
        url = f"unix://{self._redis_socket}"
        while True:
            with suppress(RedisError):
                async with Redis.from_url(url) as redis:
                    await redis.info("server")
                    return url
            await asyncio.sleep(0.05)

    # Looking at it.

    async def stats(self) -> SubjectStats:
        """What the server says of itself. Raises PartDied if it does not answer."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(STATS_S)) as http,
                http.get(f"{self.urls['server']}/stats") as response,
            ):
                return msgspec.json.decode(await response.read(), type=SubjectStats)
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
            raise PartDied(f"{self.children['server'].name}: /stats: {error or type(error).__name__}") from None

    async def processes(self) -> dict[SubjectRole, int]:
        """The process ids, the server's own Redis among them."""
        pids: dict[SubjectRole, int] = {role: self.children[role].process.pid for role in self._roles}
        own_redis = (await self.stats()).redis_pid
        return pids | ({"redis": own_redis} if own_redis else {})

    async def counts(self) -> ServerCounts:
        """What is under way, and what Redis holds. Raises PartDied."""
        stats = await self.stats()
        url = self.urls.get("redis") or (stats.redis_pid and _redis_url(stats.redis_pid))
        return await _keys(url, stats.streams_active) if url else ServerCounts(stats.streams_active)

    async def keys(self) -> ServerCounts:
        """What the shared Redis holds, also where the server is gone. Raises PartDied."""
        return await _keys(self.urls["redis"])

    def log_texts(self) -> dict[SubjectRole, str]:
        """What each process has written to its standard error."""
        return {role: (self.folder / f"{role}.log").read_text(errors="replace") for role in self._roles}

    # Ending it.

    async def end(self) -> dict[SubjectRole, float]:
        """Tell each to end, in turn, the server first; seconds that each took, infinite if it had to be killed."""
        ends: list[SubjectRole] = [role for role in ("server", "proxy", "redis") if role in self.children]
        return {role: await _ended(self.children[role]) for role in ends}

    async def broken_by_ending(self, ends: dict[SubjectRole, float]) -> list[str]:
        """The bounds that were broken by how all ended, what it wrote until then, and what it left."""
        broken = [reason for role, seconds in ends.items() for reason in broken_by_end(role, seconds)]
        broken += [reason for role, text in self.log_texts().items() for reason in broken_by_log(role, text)]
        return broken + await self.left_behind()

    def signal(self, role: SubjectRole, number: signal.Signals) -> None:
        """Send a signal to one process."""
        self.children[role].process.send_signal(number)

    async def left_behind(self) -> list[str]:
        """What is still there when all has ended: processes, temporary files, unfinished files; a sentence each."""
        orphans = self._orphans()
        deadline_s = time.monotonic() + ORPHAN_S
        while orphans and time.monotonic() < deadline_s:
            await asyncio.sleep(0.1)
            orphans = self._orphans()
        left = [f"left: the process {orphan}" for orphan in orphans]
        left += [f"left: {path.relative_to(self._temporary)}" for path in self._temporary.iterdir()]
        return left + self._unfinished()

    def _orphans(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("TMPDIR") == str(self._temporary) and process.is_running():
                    found.append(process.name())
        return found

    def _unfinished(self) -> list[str]:
        if not self._proxy_log.exists():
            return []
        try:
            read_log(self._proxy_log)
        except msgspec.MsgspecError as error:
            return [f"the proxy's log cannot be read: {error}"]
        data = self._proxy_log.read_bytes()
        return [] if data.endswith(b"\n") or not data else ["the proxy's log ends in the middle of a line"]

    async def kill(self) -> None:
        """End whatever still runs, at once."""
        for child in self.children.values():
            child.kill()
        for child in self.children.values():
            await child.process.wait()


def size_of(pid: int) -> Size:
    """How large a process is. Raises PartDied if it is gone."""
    try:
        process = psutil.Process(pid)
        return Size(process.memory_info().rss, process.num_fds())
    except psutil.Error:
        raise PartDied(f"process {pid} is gone") from None


@asynccontextmanager
async def subject(
    transport: str,
    *,
    profile: str | None = None,
    keep_s: float = 2.0,
    shared_redis: bool = False,
    recording: bytes = b"",
) -> AsyncIterator[Subject]:
    """A fresh server, behind the proxy if `profile` names one, for as long as the context lasts. Raises PartDied."""
    with tempfile.TemporaryDirectory(prefix="tokenderby-soak-", ignore_cleanup_errors=True) as folder:
        made = Subject(transport, Path(folder), keep_s, profile, shared_redis, recording)
        try:
            await made.start()
            yield made
        finally:
            await made.kill()


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or 0


def _redis_url(pid: int) -> str | None:
    with suppress(psutil.Error):
        for connection in psutil.Process(pid).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return f"redis://127.0.0.1:{connection.laddr.port}/0"
    return None


async def _keys(url: str, streams_active: int = 0) -> ServerCounts:
    try:
        async with Redis.from_url(url) as redis:
            spaces = (await redis.info("keyspace")).values()
    except RedisError as error:
        raise PartDied(f"Redis: {error}") from None
    keys, expiring = (sum(space[word] for space in spaces) for word in ("keys", "expires"))
    return ServerCounts(streams_active, keys, keys - expiring)


async def _said_url(child: Child) -> str:
    assert child.process.stdout is not None
    line = await child.process.stdout.readline()
    if not line:
        raise await child.died()
    return str(msgspec.json.decode(line)["url"])


async def _ended(child: Child) -> float:
    begun_s = time.monotonic()
    with suppress(ProcessLookupError):
        child.process.terminate()
    try:
        async with asyncio.timeout(END_PATIENCE_S):
            await child.process.wait()
    except TimeoutError:
        child.kill()
        await child.process.wait()
        return math.inf
    return time.monotonic() - begun_s

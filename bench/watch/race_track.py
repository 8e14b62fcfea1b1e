"""What the page's columns talk to: a server a transport, and in front of each a proxy that can be exchanged and cut."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

import msgspec

from bench.proxy.profile import Profile
from bench.proxy.serve import Proxy
from bench.running.processes import Child, PartDied
from servers.transport import TRANSPORTS

LOOPBACK = "127.0.0.1"
READY_S = 30.0  # a server that has not said where it listens by then is given up
_WATCH_S = 0.2


class Lane:
    """One transport: its server, and the proxy through which the page reaches it, always at the same address.

    `host` and `port` are where the proxy listens; port 0: any that is free, from the first time on.
    """

    def __init__(self, transport: str, host: str, port: int) -> None:
        self.transport = transport
        self.server: tuple[str, int] = (LOOPBACK, 0)  # where it listens; the next proxy goes there
        self._proxy: Proxy | None = None
        self._host, self._port = host, port

    @property
    def url(self) -> str:
        """Where the page asks: it is on this machine, or on one that publishes the port there."""
        return f"http://{LOOPBACK}:{self._port}"

    async def put(self, profile: Profile) -> None:
        """Let the connections go through `profile` from now on; those that are open are cut."""
        await self.close()
        proxy = Proxy(self.server, profile.rules, listen=(self._host, self._port), profile=profile.name)
        self._proxy = await proxy.__aenter__()
        self._port = self._proxy.address[1]

    def cut(self) -> int:
        """Reset the connections that are open; how many there were."""
        relays = list(self._proxy.relays) if self._proxy else []
        for relay in relays:
            relay.note_end("proxy", monotonic(), "rst")
            relay.reset()
        return len(relays)

    async def close(self) -> None:
        """Serve no more."""
        proxy, self._proxy = self._proxy, None
        if proxy:
            await proxy.__aexit__(None, None, None)


class RaceTrack:
    """All lanes, started together; use it as `async with`. Raises PartDied if a server does not start.

    origin: of the page, which alone may read the answers
    logs: a folder for what the servers say
    host, ports: where the lanes listen; no ports: any that are free
    """

    def __init__(self, origin: str, logs: Path, host: str = LOOPBACK, ports: Sequence[int] = ()) -> None:
        places = ports or [0] * len(TRANSPORTS)
        self.lanes = [Lane(transport, host, port) for transport, port in zip(TRANSPORTS, places, strict=True)]
        self._origin = origin
        self._logs = logs
        self._servers: list[Child] = []

    async def __aenter__(self) -> Self:
        try:
            await self.start_servers(0.0)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(lane.close() for lane in self.lanes))
        await asyncio.gather(*(server.stop() for server in self._servers))

    async def start_servers(self, heartbeat_s: float) -> None:
        """Start the servers, with such a heartbeat (0: none), in place of those that run; `put` then leads to them."""
        old, self._servers = self._servers, []
        try:
            await asyncio.gather(*(self._start(lane, heartbeat_s) for lane in self.lanes))
        finally:
            await asyncio.gather(*(server.stop() for server in old))

    async def put(self, profile: Profile) -> None:
        """What stands in between, for all lanes."""
        await asyncio.gather(*(lane.put(profile) for lane in self.lanes))

    def cut(self) -> int:
        """Cut every connection; how many there were."""
        return sum(lane.cut() for lane in self.lanes)

    async def died(self) -> PartDied:
        """Wait until a server ends that should not."""
        # Polled, because they may be exchanged.
        while all(server.alive for server in self._servers):  # noqa: ASYNC110
            await asyncio.sleep(_WATCH_S)
        return next(server for server in self._servers if not server.alive).obituary()

    async def _start(self, lane: Lane, heartbeat_s: float) -> None:
        transport = lane.transport
        argv = [sys.executable, "-m", "servers", transport, "--port", "0", "--allow-origin", self._origin]
        argv += ["--heartbeat", f"{heartbeat_s:g}"]
        # The page has no token to give; what it may read, only this machine's pages can.
        secrets = {"TOKENDERBY_AUTH_TOKEN": ""} if "TOKENDERBY_AUTH_TOKEN" in os.environ else {}
        server = await Child.start(f"{transport} server", argv, self._logs / f"{transport}.log", secrets=secrets)
        self._servers.append(server)
        assert server.process.stdout is not None
        try:
            async with asyncio.timeout(READY_S):
                line = await server.process.stdout.readline()
        except TimeoutError:
            raise PartDied(f"the {transport} server did not say within {READY_S:g} s where it listens") from None
        if not line:
            raise await server.died()
        ready: dict[str, Any] = msgspec.json.decode(line)
        host, _, port = str(ready["url"]).removeprefix("http://").rpartition(":")
        lane.server = host, int(port)

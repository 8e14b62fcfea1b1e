"""The proxy itself: accepts connections, gives each a relay, writes down how they ended."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

from bench.proxy.log import ConnectionLog, Started
from bench.proxy.relay import Relay, Side
from bench.proxy.rule import Rule, labels
from servers.user_errors import InputError

BACKLOG = 4096  # the kernel may allow fewer; a ramp-up of thousands must not wait for SYN retries


class LogError(InputError):
    """The log cannot be opened; the message names it and says why."""


class Proxy:
    """A listening proxy; use it as `async with Proxy(...) as proxy`, then `proxy.address`.

    upstream: host and port of the TCP server behind it
    rules: the behaviours, from the client's side to the server's
    relays: the connections that are open
    listen: host and port (0: any free one)
    profile: what the log calls the rules
    Raises OSError if it cannot listen there, LogError if it cannot write the log.
    """

    address: tuple[str, int]
    relay_type: type[Relay] = Relay  # what a connection is given; bench.calibration has one that stamps

    def __init__(
        self,
        upstream: tuple[str, int],
        rules: Sequence[Rule],
        *,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        seed: int = 0,
        log: Path | None = None,
        profile: str = "",
    ) -> None:
        self._upstream = upstream
        self._rules = rules
        self._listen = listen
        self._seed = seed
        self._log_path = log
        self._profile = profile
        self.relays: set[Relay] = set()
        self._accepted = 0

    async def __aenter__(self) -> Self:
        try:
            self._log = ConnectionLog(self._log_path)
        except OSError as error:
            raise LogError(f"--log: cannot write to {self._log_path}: {error.strerror}") from error
        host, port = self._listen
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, host, port, backlog=BACKLOG)
        self._log.write(Started(profile=self._profile, behaviours=labels(self._rules)))
        self.address = self._server.sockets[0].getsockname()[:2]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for relay in list(self.relays):
            relay.note_end("proxy", monotonic(), "rst")
            relay.reset()
        for _ in range(50):  # resets take a turn of the loop or two
            if not self.relays:
                break
            await asyncio.sleep(0.002)
        for relay in list(self.relays):
            self._over(relay)
        self._log.close()

    def _accept(self) -> Side:
        self._accepted += 1
        relay = self.relay_type(
            self._accepted, self._upstream, self._rules, seed=self._seed, log=self._log, when_over=self._over
        )
        self.relays.add(relay)
        return relay.factory()

    def _over(self, relay: Relay) -> None:
        if relay in self.relays:
            self.relays.discard(relay)
            self._log.write(relay.record())


async def serve(proxy: Proxy, ready: Callable[[tuple[str, int]], None]) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called with the address once connections are accepted."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with proxy:
        ready(proxy.address)
        await stop.wait()

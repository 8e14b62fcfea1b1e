"""The proxy itself: accepts connections, gives each a relay, writes down how they ended."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

from bench.proxy.balancer import Balancer
from bench.proxy.behaviours.upstreams import Upstreams
from bench.proxy.log import ConnectionLog, Late, Started
from bench.proxy.pool import KeptConnections, PooledRelay
from bench.proxy.relay import Relay, Side
from bench.proxy.rule import Rule, labels
from bench.proxy.stage import Common
from servers.lags import LoopProbe
from servers.user_errors import InputError, reason

LATE_NS = 5_000_000  # the log tells when the proxy itself was later than that
BACKLOG = 4096  # the kernel may allow fewer; a ramp-up of thousands must not wait for SYN retries


class LogError(InputError):
    """The log cannot be opened; the message names it and says why."""


class Proxy:
    """A listening proxy; use it as `async with Proxy(...) as proxy`, then `proxy.address`.

    upstream: host and port of the TCP server behind it; `others` are more of them
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
        others: Sequence[tuple[str, int]] = (),
        listen: tuple[str, int] = ("127.0.0.1", 0),
        seed: int = 0,
        log: Path | None = None,
        profile: str = "",
    ) -> None:
        self._rules = rules
        how = next((rule for rule in rules if isinstance(rule, Upstreams)), Upstreams())
        self._balancer = Balancer([upstream, *others], how)
        self._pool = KeptConnections(self._balancer) if how.each == "request" else None
        self._listen = listen
        self._seed = seed
        self._log_path = log
        self._profile = profile
        self.relays: set[Relay] = set()
        self._accepted = 0
        self._common = Common()

    async def __aenter__(self) -> Self:
        try:
            self._log = ConnectionLog(self._log_path)
        except OSError as error:
            raise LogError(f"--log: cannot write to {self._log_path}: {reason(error)}") from error
        host, port = self._listen
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, host, port, backlog=BACKLOG)
        self._log.write(Started(profile=self._profile, behaviours=labels(self._rules)))
        # Only the log tells of it, and many proxies may share a loop.
        self._probe = LoopProbe(self._note_lateness, is_busy=lambda: self.relays) if self._log_path else None
        self.address = self._server.sockets[0].getsockname()[:2]
        self.count_from_now()
        return self

    def count_from_now(self) -> None:
        """From now on the moments of the profile's events are counted; first of all from the start of the proxy."""
        self._common.start_s = monotonic()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        if self._probe:
            self._probe.close()
        if self._pool:
            self._pool.close()
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
        kind = partial(PooledRelay, pool=self._pool) if self._pool else self.relay_type
        relay = kind(
            self._accepted,
            self._balancer,
            self._rules,
            seed=self._seed,
            log=self._log,
            common=self._common,
            when_over=self._over,
        )
        self.relays.add(relay)
        return relay.factory()

    def _note_lateness(self, now_ns: int, lags_ns: range) -> None:
        if lags_ns[0] > LATE_NS:
            self._log.write(Late(at_ns=now_ns, late_ms=lags_ns[0] / 1e6))

    def _over(self, relay: Relay) -> None:
        if relay in self.relays:
            self.relays.discard(relay)
            self._log.write(relay.record())


async def serve(proxy: Proxy, ready: Callable[[tuple[str, int]], None]) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called with the address once connections are accepted.

    At SIGUSR1 the moments of events are counted anew.
    """
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, proxy.count_from_now)
    async with proxy:
        ready(proxy.address)
        await stop.wait()

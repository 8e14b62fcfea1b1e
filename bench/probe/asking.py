"""What a question is asked with: the deployment, one of its transports, the limits, and what is known already."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic, monotonic_ns

from bench.probe.channel import Channel, Heard, Talk
from bench.probe.control import Control
from bench.probe.deployment import Deployment
from bench.probe.finding import Finding, Seen

Known = Callable[[str, str], Awaitable[Finding | None]]


@dataclass
class Asking:
    """One question to one transport.

    up_to_s: the longest silence that is worth trying
    until_s: when the whole probe ends (CLOCK_MONOTONIC): what takes longer is not begun
    rtt_s: the shortest round trip to the server that was seen
    seen: raw observations, entered as they are made, so that an interruption keeps them
    """

    deployment: Deployment
    transport: str
    up_to_s: float
    until_s: float
    rtt_s: float
    control: Control
    began_ns: int
    lookup: Known
    report: Callable[[str], None] = lambda _words: None
    seen: list[Seen] = field(default_factory=list)

    async def known(self, question: str, transport: str | None = None) -> Finding | None:
        """The finding of a question in `needs`, as soon as it is there; None where it was not asked."""
        return await self.lookup(question, self.transport if transport is None else transport)

    def channel(self, tcp_keepalive_s: float | None = None) -> Channel:
        """A new connection, for a `with` block; it waits where too many are open."""
        return Channel(self.deployment, self.transport, tcp_keepalive_s)

    async def talk(self, talk: Talk, tcp_keepalive_s: float | None = None) -> Heard:
        """One chat request over a connection of its own."""
        async with self.channel(tcp_keepalive_s) as channel:
            return await channel.talk(talk)

    @property
    def left_s(self) -> float:
        """How long the probe may still take."""
        return self.until_s - monotonic()

    def at_s(self, moment_ns: int | None = None) -> float:
        """A moment (now), in seconds from the start of the probe."""
        return round(((monotonic_ns() if moment_ns is None else moment_ns) - self.began_ns) / 1e9, 6)

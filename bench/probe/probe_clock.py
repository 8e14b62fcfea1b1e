"""How far away a server is, and what its clock says: when it sent what came late."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic

import msgspec

from bench.probe.channel import Channel, Heard
from bench.probe.deployment import Deployment
from bench.probe.finding import NO_CUT
from clients.core.http1 import Request
from servers.messages import NOT_JSON, Count

LOOK = Request("GET", "/clock")
_LOOKS = 7


class _Clock(msgspec.Struct, frozen=True):
    monotonic_ns: Count


@dataclass(frozen=True)
class Clock:
    """A round trip, and the server's clock as seen from here.

    rtt_s: the shortest round trip that was seen
    ahead_ns: by how much the server's clock is ahead; None where several servers answer, each with a clock of its own
    """

    rtt_s: float = 0.0
    ahead_ns: int | None = None

    def left_ns(self, heard: Heard) -> int:
        """When the last token that came would have come if nothing had held it back, else the last byte (our clock)."""
        tokens = heard.tokens
        if not tokens or self.ahead_ns is None:
            return heard.last_read_ns
        return min(heard.last_read_ns, self._here_ns(tokens[-1].sent_ns))

    def answered_ns(self, heard: Heard) -> int:
        """The same for an answer of `/clock`."""
        there_ns = _told_ns(heard)
        if there_ns is None or self.ahead_ns is None:
            return heard.last_read_ns
        return min(heard.last_read_ns, self._here_ns(there_ns))

    def _here_ns(self, there_ns: int) -> int:
        """When here comes what was sent there at that moment of the server's clock."""
        return there_ns - (self.ahead_ns or 0) + round(self.rtt_s / 2 * 1e9)


async def look(deployment: Deployment, transport: str, limit_s: float) -> Clock:
    """Ask the server's clock a few times, for so long at most; a server that does not tell it has none."""
    until_s = monotonic() + limit_s
    looks: list[tuple[float, int]] = []
    async with Channel(deployment, transport) as channel:
        for _ in range(_LOOKS):
            heard = await channel.ask(LOOK, until_s - monotonic())
            if heard.ending != NO_CUT:
                break
            if (ahead_ns := _ahead_ns(heard)) is not None:
                looks.append(((heard.ended_ns - heard.asked_ns) / 1e9, ahead_ns))
            await asyncio.sleep(0)
    if not looks:
        return Clock()
    rtt_s, ahead_ns = min(looks)
    # Each look is wrong by half its round trip at most: what differs by more is another server's clock.
    is_one = all(abs(other - ahead_ns) / 1e9 <= (took_s + rtt_s) / 2 for took_s, other in looks)
    return Clock(rtt_s, ahead_ns if is_one else None)


def _ahead_ns(heard: Heard) -> int | None:
    there_ns = _told_ns(heard)
    return None if there_ns is None else there_ns - (heard.asked_ns + heard.ended_ns) // 2


def _told_ns(heard: Heard) -> int | None:
    try:
        return msgspec.json.decode(bytes(heard.body), type=_Clock).monotonic_ns
    except NOT_JSON:
        return None

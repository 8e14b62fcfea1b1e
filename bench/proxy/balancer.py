"""Which of several servers is next (pure)."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence

from bench.proxy.behaviours.upstreams import Upstreams

UpstreamAddress = tuple[str, int]


class Balancer:
    """The servers behind one proxy, in turn, but for those that were down a while ago."""

    def __init__(self, addresses: Sequence[UpstreamAddress], rule: Upstreams) -> None:
        self.addresses = tuple(addresses)
        self.rule = rule
        self._turn = 0
        self._down_until_s = [0.0] * len(self.addresses)

    def choose(
        self, now_s: float, *, wanted: int | None = None, source: str = "", tried: Collection[int] = ()
    ) -> int | None:
        """The number of the server to ask: the wanted one, that of an address, or the next; None if all were tried.

        Those that are down come only if there is no other.
        """
        left = [number for number in range(len(self.addresses)) if number not in tried]
        up = [number for number in left if self._down_until_s[number] <= now_s] or left
        if not up:
            return None
        if wanted in up:
            return wanted
        if self.rule.sticky == "source":
            first = zlib.crc32(source.encode()) % len(self.addresses)
        else:
            first, self._turn = self._turn, (self._turn + 1) % len(self.addresses)
        return min(up, key=lambda number: (number - first) % len(self.addresses))

    def failed(self, now_s: float, number: int) -> None:
        """It could not be connected to."""
        self._down_until_s[number] = now_s + self.rule.down_s

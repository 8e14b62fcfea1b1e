"""Bandwidth: bytes go on at a limited rate."""

from __future__ import annotations

from bench.proxy.delay import DelayingStage, DelayLine
from bench.proxy.rule import Draw, Positive, Rule, direction_words
from bench.proxy.stage import Context, Direction, Stage

PIECE_BYTES = 1460  # a TCP segment on Ethernet


class Bandwidth(Rule, frozen=True, kw_only=True):
    """Lets `rate_kbit` kilobits per second through, each way it applies to. A time scale leaves the rate alone.

    burst_bytes: what may go at once after a pause
    """

    name = "bandwidth"
    holds = True

    rate_kbit: Positive
    burst_bytes: int = 0
    way: Direction = "both"

    def check(self) -> None:
        if self.burst_bytes < 0:
            raise ValueError("burst_bytes takes 0 or more")

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return BandwidthStage(self, chain)

    def deed(self) -> str:
        burst = f" after a burst of {self.burst_bytes} bytes" if self.burst_bytes else ""
        return f"lets {self.rate_kbit:g} kbit/s through {direction_words(self.way)}{burst}"


class BandwidthStage(DelayingStage):
    """Lets pieces go on at the rate, one after the other."""

    def __init__(self, rule: Bandwidth, chain: Context) -> None:
        super().__init__(rule.name, chain, rule.way)
        self._bytes_per_s = rule.rate_kbit * 125
        self._burst_s = rule.burst_bytes / self._bytes_per_s
        self._free_s: dict[DelayLine, float] = dict.fromkeys(self._lines.values(), 0.0)

    def schedule(self, now_s: float, line: DelayLine, data: bytes) -> None:
        free_s = max(self._free_s[line], now_s - self._burst_s)
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            free_s += len(piece) / self._bytes_per_s
            line.put(free_s, piece)
        self._free_s[line] = free_s

"""Latency: every byte arrives later, with jitter, in order."""

from __future__ import annotations

import random
from typing import Literal

from bench.proxy.delay import DelayingStage, DelayLine
from bench.proxy.rule import Draw, NotNegative, Rule, direction_words
from bench.proxy.stage import Context, Direction, Stage


class Latency(Rule, frozen=True, kw_only=True):
    """Delays by `latency_ms` each way it applies to, plus jitter. Timers have a resolution of 1 ms.

    jitter_ms: uniform: at most this much more or less; normal: the standard deviation
    """

    name = "latency"
    holds = True

    latency_ms: NotNegative
    jitter_ms: NotNegative = 0.0
    distribution: Literal["uniform", "normal"] = "uniform"
    way: Direction = "both"

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return LatencyStage(self, chain, draw())

    def deed(self) -> str:
        jitter = f" ± {self.jitter_ms:g} ms ({self.distribution})" if self.jitter_ms else ""
        return f"delays {direction_words(self.way)} by {self.latency_ms:g} ms{jitter}"


class LatencyStage(DelayingStage):
    """Delays every piece, in order."""

    def __init__(self, rule: Latency, chain: Context, draw: random.Random) -> None:
        super().__init__(rule.name, chain, rule.way)
        self._rule = rule
        self._draw = draw

    def schedule(self, now_s: float, line: DelayLine, data: bytes) -> None:
        line.put(now_s + self._delay_s(), data)

    def end_due_s(self, now_s: float, line: DelayLine) -> float:
        return now_s + self._delay_s()

    def _delay_s(self) -> float:
        rule = self._rule
        if not rule.jitter_ms:
            return rule.latency_ms / 1000
        if rule.distribution == "uniform":
            jitter_ms = self._draw.uniform(-rule.jitter_ms, rule.jitter_ms)
        else:
            jitter_ms = self._draw.gauss(0, rule.jitter_ms)
        return max(0.0, rule.latency_ms + jitter_ms) / 1000

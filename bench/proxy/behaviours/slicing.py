"""Slicing: what arrives in one piece goes on in small ones."""

from __future__ import annotations

import random

from bench.proxy.delay import DelayingStage, DelayLine
from bench.proxy.rule import AtLeastOne, Draw, Positive, Rule, direction_words
from bench.proxy.stage import Context, Direction, Stage


class Slicing(Rule, frozen=True, kw_only=True):
    """Cuts into pieces of `slice_bytes` ± `variation_bytes` (uniform), `delay_ms` apart.

    delay_ms: below 1 ms the kernel would join the pieces again
    """

    name = "slicing"
    holds = True

    slice_bytes: AtLeastOne
    variation_bytes: int = 0
    delay_ms: Positive = 1.0
    way: Direction = "down"

    def check(self) -> None:
        if not 0 <= self.variation_bytes < self.slice_bytes:
            raise ValueError("variation_bytes takes 0 up to below slice_bytes")

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return SlicingStage(self, chain, draw())

    def deed(self) -> str:
        variation = f" ± {self.variation_bytes}" if self.variation_bytes else ""
        return f"cuts {direction_words(self.way)} into {self.slice_bytes}{variation} bytes, {self.delay_ms:g} ms apart"


class SlicingStage(DelayingStage):
    """Cuts what passes into pieces, and delays each."""

    def __init__(self, rule: Slicing, chain: Context, draw: random.Random) -> None:
        super().__init__(rule.name, chain, rule.way)
        self._rule = rule
        self._draw = draw

    def schedule(self, now_s: float, line: DelayLine, data: bytes) -> None:
        rule, at = self._rule, 0
        due_s = max(now_s, line.last_due_s + rule.delay_ms / 1000)
        while at < len(data):
            size = rule.slice_bytes + self._draw.randint(-rule.variation_bytes, rule.variation_bytes)
            line.put(due_s, data[at : at + size])
            due_s += rule.delay_ms / 1000
            at += size

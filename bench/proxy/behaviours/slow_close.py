"""Slow close: the end of a direction is passed on late."""

from __future__ import annotations

from bench.proxy.delay import DelayingStage, DelayLine
from bench.proxy.rule import Draw, Positive, Rule, direction_words, seconds
from bench.proxy.stage import Context, Direction, Stage


class SlowClose(Rule, frozen=True, kw_only=True):
    """Passes a FIN on `close_delay_s` after it came."""

    name = "slow_close"

    close_delay_s: Positive
    way: Direction = "down"

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return SlowCloseStage(self, chain)

    def deed(self) -> str:
        return f"passes a close on {direction_words(self.way)} {seconds(self.close_delay_s)} late"


class SlowCloseStage(DelayingStage):
    """Passes bytes on at once, and a FIN late."""

    def __init__(self, rule: SlowClose, chain: Context) -> None:
        super().__init__(rule.name, chain, rule.way)
        self._close_delay_s = rule.close_delay_s

    def schedule(self, now_s: float, line: DelayLine, data: bytes) -> None:
        line.put(now_s, data)

    def end_due_s(self, now_s: float, line: DelayLine) -> float:
        return now_s + self._close_delay_s

"""Cut: ends a connection after so many bytes or so long, by FIN, RST or silence."""

from __future__ import annotations

import random
from typing import Literal

from bench.proxy.http_bytes import RequestHead, ResponseHead
from bench.proxy.rule import (
    PER_RESPONSE,
    AtLeastOne,
    Condition,
    Draw,
    NotNegative,
    Positive,
    Probability,
    Rule,
    direction_words,
    ending,
    seconds,
)
from bench.proxy.stage import NEVER, Context, CutAction, Direction, LateData, Stage


class Cut(Rule, frozen=True, kw_only=True):
    """Ends the connection after exactly `after_bytes` sent to the client, heads included, or after `after_s`.

    since: counted from the opening of the connection, or anew from the start of each response (or WebSocket)
    probability: drawn anew at each such start
    way: which way a black hole swallows; a FIN or RST is for both
    late_data, forget_s: of the action black_hole
    """

    name = "cut"

    action: CutAction
    after_bytes: AtLeastOne | None = None
    after_s: NotNegative | None = None
    since: Literal["connection", "response"] = "connection"
    probability: Probability = 1.0
    way: Direction = "both"
    late_data: LateData = "drop"
    forget_s: Positive = 300.0

    def check(self) -> None:
        if (self.after_bytes is None) == (self.after_s is None):
            raise ValueError("takes either after_bytes or after_s")
        if self.way != "both" and self.action != "black_hole":
            raise ValueError('way is for action = "black_hole"')

    def conditions(self) -> tuple[Condition, ...]:
        return PER_RESPONSE if self.since == "response" else ()

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return CutStage(self, chain, draw())

    def deed(self) -> str:
        after = f"{self.after_bytes} bytes" if self.after_s is None else seconds(self.after_s)
        what = ending(self.action, None, self.late_data)
        what += "" if self.way == "both" else f" {direction_words(self.way)}"
        chance = "" if self.probability == 1 else f", probability {self.probability:g}"
        return f"{what} after {after} of the {self.since}{chance}"


class CutStage(Stage):
    """Counts bytes or waits for the time, then ends the connection."""

    def __init__(self, rule: Cut, chain: Context, draw: random.Random) -> None:
        super().__init__(rule.name, chain)
        self.http = rule.since == "response"
        self._rule = rule
        self._draw = draw
        self._left_bytes = NEVER
        self._counts = False

    def opened(self, now_s: float) -> None:
        if self._rule.since == "connection":
            self._start(now_s)

    def response(self, now_s: float, request: RequestHead, response: ResponseHead) -> None:
        self._start(now_s)

    def finished(self, now_s: float) -> None:
        self._counts = False
        self._left_bytes = NEVER
        self.wake_at(NEVER)

    def tunnelled(self, now_s: float) -> None:
        rule = self._rule
        if not (
            self._counts or rule.methods or rule.content_types
        ):  # a response that could not be followed to its end is counted on
            self._start(now_s)

    def down(self, now_s: float, data: bytes) -> None:
        if len(data) < self._left_bytes:
            self._left_bytes -= len(data)
            self.send_down(now_s, data)
        else:
            self.send_down(now_s, data[: int(self._left_bytes)])
            self._cut(now_s)

    def expired(self, now_s: float) -> None:
        self._cut(now_s)

    def _start(self, now_s: float) -> None:
        rule = self._rule
        self._counts = True
        if self._draw.random() >= rule.probability:
            return
        if rule.after_s is not None:
            self.wake_at(now_s + rule.after_s)
        else:
            self._left_bytes = rule.after_bytes or NEVER

    def _cut(self, now_s: float) -> None:
        rule = self._rule
        self._left_bytes = NEVER
        self.cut(now_s, rule.action, way=rule.way, late_data=rule.late_data, forget_s=rule.forget_s)

"""Refuse: turns connections or requests away with a probability."""

from __future__ import annotations

import math
import random
from typing import Literal

from bench.proxy.http_bytes import RequestHead
from bench.proxy.rule import PER_REQUEST, Condition, Draw, ErrorStatus, NotNegative, Probability, Rule
from bench.proxy.stage import Context, Stage


class Refuse(Rule, frozen=True, kw_only=True):
    """Turns away: a connection, straight after it is accepted, by FIN or RST; or a request, by a status.

    probability: drawn per connection, with mode "status" per request
    status, body, retry_after_s: of mode "status"
    """

    name = "refuse"

    probability: Probability = 1.0
    mode: Literal["fin", "rst", "status"] = "rst"
    status: ErrorStatus = 503
    body: str = ""
    retry_after_s: NotNegative | None = None

    def conditions(self) -> tuple[Condition, ...]:
        return PER_REQUEST if self.mode == "status" else ()

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return RefuseStage(self, chain, draw())

    def deed(self) -> str:
        what = f"answers {self.status}" if self.mode == "status" else f"refuses the connection ({self.mode.upper()})"
        return f"{what} with probability {self.probability:g}"


class RefuseStage(Stage):
    """Draws once whether to turn a connection or request away."""

    def __init__(self, rule: Refuse, chain: Context, draw: random.Random) -> None:
        super().__init__(rule.name, chain)
        self.http = rule.mode == "status"
        self._rule = rule
        self._draw = draw

    def accepted(self, now_s: float) -> None:
        if self._rule.mode != "status" and self._draw.random() < self._rule.probability:
            self.cut(now_s, self._rule.mode)

    def request(self, now_s: float, request: RequestHead) -> None:
        rule = self._rule
        if self._draw.random() < rule.probability:
            wait_s = rule.retry_after_s  # the header takes whole seconds
            headers = [] if wait_s is None else [("Retry-After", str(math.ceil(wait_s)))]
            self.answer(now_s, rule.status, rule.body, headers)

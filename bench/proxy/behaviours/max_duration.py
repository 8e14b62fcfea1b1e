"""Maximum duration: ends a request, a WebSocket or a whole connection after a time, however busy it is."""

from __future__ import annotations

from typing import Literal

from bench.proxy.http_bytes import RequestHead
from bench.proxy.rule import PER_REQUEST, Condition, Draw, ErrorStatus, Positive, Rule, ending, seconds
from bench.proxy.stage import NEVER, Context, CutAction, LateData, Stage

SCOPE = {"connection": "of the connection", "request": "of a request", "websocket": "of a WebSocket (or plain TCP)"}


class MaxDuration(Rule, frozen=True, kw_only=True):
    """Ends what `scope` names after `max_duration_s`. Nothing resets the time.

    status: answered instead if no byte of the response has been passed on yet
    late_data, forget_s: of the action black_hole
    """

    name = "max_duration"

    max_duration_s: Positive
    scope: Literal["connection", "request", "websocket"] = "request"
    action: CutAction = "fin"
    status: ErrorStatus | None = None
    late_data: LateData = "drop"
    forget_s: Positive = 300.0

    def conditions(self) -> tuple[Condition, ...]:
        return PER_REQUEST if self.scope == "request" else ()

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return MaxDurationStage(self, chain)

    def deed(self) -> str:
        what = ending(self.action, self.status, self.late_data)
        return f"{seconds(self.max_duration_s)} after the start {SCOPE[self.scope]}, active or not: {what}"


class MaxDurationStage(Stage):
    """Ends what it measures when the time is over, however active."""

    def __init__(self, rule: MaxDuration, chain: Context) -> None:
        super().__init__(rule.name, chain)
        self.http = rule.scope != "connection" or rule.status is not None
        self._rule = rule
        self._unanswered = False

    def opened(self, now_s: float) -> None:
        self._start("connection", now_s)

    def request(self, now_s: float, request: RequestHead) -> None:
        self._unanswered = True
        self._start("request", now_s)

    def finished(self, now_s: float) -> None:
        if self._rule.scope == "request":
            self.wake_at(NEVER)

    def tunnelled(self, now_s: float) -> None:
        self._unanswered = False
        if self._rule.scope == "request":
            self.wake_at(NEVER)
        self._start("websocket", now_s)

    def down(self, now_s: float, data: bytes) -> None:
        if self._unanswered and self.chain.phase != "waiting":  # before, it is an interim response, which is no answer
            self._unanswered = False
        self.send_down(now_s, data)

    def expired(self, now_s: float) -> None:
        rule = self._rule
        if self._unanswered and rule.status is not None:
            self.answer(now_s, rule.status)
        else:
            self.cut(now_s, rule.action, late_data=rule.late_data, forget_s=rule.forget_s)

    def _start(self, what: str, now_s: float) -> None:
        if self._rule.scope == what:
            self.wake_at(now_s + self._rule.max_duration_s)

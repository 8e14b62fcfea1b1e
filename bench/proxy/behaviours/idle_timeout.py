"""Idle timeout: ends a connection on which nothing has moved for a time."""

from __future__ import annotations

from typing import Literal

from bench.proxy.http_bytes import RequestHead, ResponseHead
from bench.proxy.rule import PER_REQUEST, PER_RESPONSE, Condition, Draw, ErrorStatus, Positive, Rule, ending, seconds
from bench.proxy.stage import NEVER, Context, CutAction, LateData, Stage

RESET_BY = {
    "either": "no byte either way",
    "up": "no byte from the client",
    "down": "no byte from the server",
    "each": "either side silent",
}
SCOPE = {
    "connection": "",
    "request": ", from a request to the end of its response",
    "response": ", from a response's head to its end",
    "websocket": ", on a WebSocket (or plain TCP)",
}


_OF_EXCHANGES = ("request", "response")


class IdleTimeout(Rule, frozen=True, kw_only=True):
    """Ends the connection after `idle_timeout_s` without a byte.

    reset_by: whose bytes start the time anew: anyone's, the client's (up), the server's (down); or each side has a
        timer of its own
    scope: the whole connection; from a request to the end of its response; from a response's head to its end, so that
        a late answer is none of its business; once it is a WebSocket or plain TCP
    status: answered instead if the time is over before the first byte of a response
    late_data, forget_s: of the action black_hole
    """

    name = "idle_timeout"

    idle_timeout_s: Positive
    reset_by: Literal["either", "up", "down", "each"] = "either"
    scope: Literal["connection", "request", "response", "websocket"] = "connection"
    action: CutAction = "fin"
    status: ErrorStatus | None = None
    late_data: LateData = "drop"
    forget_s: Positive = 300.0

    def conditions(self) -> tuple[Condition, ...]:
        return PER_RESPONSE if self.scope == "response" else PER_REQUEST if self.scope == "request" else ()

    def check(self) -> None:
        if self.scope == "response" and self.status is not None:
            raise ValueError("status means nothing once a response has begun")

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return IdleTimeoutStage(self, chain)

    def deed(self) -> str:
        what = ending(self.action, self.status, self.late_data)
        return f"after {seconds(self.idle_timeout_s)} with {RESET_BY[self.reset_by]}{SCOPE[self.scope]}: {what}"


class IdleTimeoutStage(Stage):
    """Keeps the time of the last byte each way; the deadline is looked at only when it is due, not at every byte."""

    def __init__(self, rule: IdleTimeout, chain: Context) -> None:
        super().__init__(rule.name, chain)
        self.http = rule.scope != "connection" or rule.status is not None
        self._rule = rule
        self._running = False
        self._unanswered = False  # a request, and no byte of its response has passed here
        self._last_up_s = self._last_down_s = 0.0

    def opened(self, now_s: float) -> None:
        if self._rule.scope == "connection":
            self._start(now_s)

    def request(self, now_s: float, request: RequestHead) -> None:
        self._unanswered = True
        if self._rule.scope == "request":
            self._start(now_s)

    def response(self, now_s: float, request: RequestHead, response: ResponseHead) -> None:
        if self._rule.scope == "response":
            self._start(now_s)

    def finished(self, now_s: float) -> None:
        if self._rule.scope in _OF_EXCHANGES:
            self._running = False

    def tunnelled(self, now_s: float) -> None:
        self._unanswered = False
        if self._rule.scope == "websocket":
            self._start(now_s)
        elif self._rule.scope in _OF_EXCHANGES:
            self._running = False

    def up(self, now_s: float, data: bytes) -> None:
        self._last_up_s = now_s
        self.send_up(now_s, data)

    def down(self, now_s: float, data: bytes) -> None:
        self._last_down_s = now_s
        if self._unanswered and self.chain.phase != "waiting":  # before, it is an interim response, which is no answer
            self._unanswered = False
        self.send_down(now_s, data)

    def expired(self, now_s: float) -> None:
        if not self._running:
            return
        due_s = self._due_s()
        if now_s < due_s:
            self.wake_at(due_s)
        elif self._unanswered and self._rule.status is not None:
            self.answer(now_s, self._rule.status)
        else:
            rule = self._rule
            self.cut(now_s, rule.action, late_data=rule.late_data, forget_s=rule.forget_s)

    def _start(self, now_s: float) -> None:
        self._running = True
        self._last_up_s = self._last_down_s = now_s
        # A deadline that is already set is too early at worst, and then looked at again.
        if self.deadline_s == NEVER:
            self.wake_at(self._due_s())

    def _due_s(self) -> float:
        up_s, down_s = self._last_up_s, self._last_down_s
        last_s = {"either": max(up_s, down_s), "each": min(up_s, down_s), "up": up_s, "down": down_s}
        return last_s[self._rule.reset_by] + self._rule.idle_timeout_s

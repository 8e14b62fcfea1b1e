"""Maximum connection age: an old connection is closed behind its next response, and says so in that response."""

from __future__ import annotations

from bench.proxy.http_bytes import RequestHead, ResponseHead, closing
from bench.proxy.rule import Draw, Positive, Rule, seconds
from bench.proxy.stage import Context, Stage


class MaxAge(Rule, frozen=True, kw_only=True):
    """Once a connection is `max_age_s` old, its next response carries `Connection: close` and is its last.

    Nothing resets the age; a WebSocket, which has no further response, is left alone.
    """

    name = "max_age"

    max_age_s: Positive

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return MaxAgeStage(self, chain)

    def deed(self) -> str:
        return f"after {seconds(self.max_age_s)} the next response is the connection's last (Connection: close)"


class MaxAgeStage(Stage):
    """Marks the first response after the age as the last."""

    http = True

    def __init__(self, rule: MaxAge, chain: Context) -> None:
        super().__init__(rule.name, chain)
        self._rule = rule
        self._old_s = 0.0
        self._is_last = False

    def opened(self, now_s: float) -> None:
        self._old_s = now_s + self._rule.max_age_s

    def response(self, now_s: float, request: RequestHead, response: ResponseHead) -> None:
        self._is_last = self.struck = now_s >= self._old_s

    def rewrite_response(self, head: bytes) -> bytes:
        return closing(head) if self._is_last else head

    def finished(self, now_s: float) -> None:
        if self._is_last:
            self.cut(now_s, "fin")

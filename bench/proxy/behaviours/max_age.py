"""Maximum connection age: an old connection is closed behind its next response, and says so in that response."""

from __future__ import annotations

from bench.proxy.last_response import LastResponseStage
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


class MaxAgeStage(LastResponseStage):
    """The first response after the age is the last."""

    def __init__(self, rule: MaxAge, chain: Context) -> None:
        super().__init__(rule.name, chain)
        self._rule = rule
        self._old_s = 0.0

    def opened(self, now_s: float) -> None:
        self._old_s = now_s + self._rule.max_age_s

    def is_last(self, now_s: float) -> bool:
        return now_s >= self._old_s

"""Keep-alive timeout: closes a connection that waits too long for its next request."""

from __future__ import annotations

from bench.proxy.http_bytes import RequestHead
from bench.proxy.rule import Draw, Positive, Rule, ending, seconds
from bench.proxy.stage import NEVER, Context, CutAction, Stage


class KeepaliveTimeout(Rule, frozen=True, kw_only=True):
    """Ends the connection when `keepalive_timeout_s` pass between the end of an exchange and the next request."""

    name = "keepalive_timeout"

    keepalive_timeout_s: Positive
    action: CutAction = "fin"

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return KeepaliveTimeoutStage(self, chain)

    def deed(self) -> str:
        after = seconds(self.keepalive_timeout_s)
        return f"{ending(self.action, None, 'drop')} {after} after a response without another request"


class KeepaliveTimeoutStage(Stage):
    """Waits for the next request, from the end of each response."""

    http = True

    def __init__(self, rule: KeepaliveTimeout, chain: Context) -> None:
        super().__init__(rule.name, chain)
        self._rule = rule

    def request(self, now_s: float, request: RequestHead) -> None:
        self.wake_at(NEVER)

    def idle(self, now_s: float) -> None:
        self.wake_at(now_s + self._rule.keepalive_timeout_s)

    def tunnelled(self, now_s: float) -> None:
        self.wake_at(NEVER)

    def expired(self, now_s: float) -> None:
        self.cut(now_s, self._rule.action)

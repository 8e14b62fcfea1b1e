"""Maximum of requests: a connection is closed behind so many responses, and the last of them says so."""

from __future__ import annotations

from bench.proxy.http_bytes import RequestHead
from bench.proxy.last_response import LastResponseStage
from bench.proxy.rule import AtLeastOne, Draw, Rule
from bench.proxy.stage import Context, Stage


class MaxRequests(Rule, frozen=True, kw_only=True):
    """The response to a connection's request number `max_requests` carries `Connection: close` and is its last.

    nginx's `keepalive_requests`, Apache's `MaxKeepAliveRequests`, Envoy's `max_requests_per_connection`, Node's
    `maxRequestsPerSocket`. A WebSocket, which has no further response, is left alone.
    """

    name = "max_requests"

    max_requests: AtLeastOne

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return MaxRequestsStage(self, chain)

    def deed(self) -> str:
        which = "each response" if self.max_requests == 1 else f"response {self.max_requests}"
        return f"{which} is the connection's last (Connection: close)"


class MaxRequestsStage(LastResponseStage):
    """Counts the requests; the response to the last that is granted is the last."""

    def __init__(self, rule: MaxRequests, chain: Context) -> None:
        super().__init__(rule.name, chain)
        self._left = rule.max_requests

    def request(self, now_s: float, request: RequestHead) -> None:
        self._left -= 1

    def is_last(self, now_s: float) -> bool:
        return self._left <= 0

"""First-byte timeout: answers in the server's place when no response has begun in time."""

from __future__ import annotations

from bench.proxy.http_bytes import RequestHead, ResponseHead
from bench.proxy.rule import Draw, Positive, Rule, Status, seconds
from bench.proxy.stage import NEVER, Context, Stage


class FirstByteTimeout(Rule, frozen=True, kw_only=True):
    """Answers with `status` and `body` if no byte of a response comes within `first_byte_timeout_s` of its request."""

    name = "first_byte_timeout"

    first_byte_timeout_s: Positive
    status: Status = 504
    body: str = ""

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return FirstByteTimeoutStage(self, chain)

    def words(self) -> str:
        return f"answers {self.status} if no response begins within {seconds(self.first_byte_timeout_s)}"


class FirstByteTimeoutStage(Stage):
    """Waits for each response to begin."""

    http = True

    def __init__(self, rule: FirstByteTimeout, chain: Context) -> None:
        super().__init__(rule.name, chain)
        self._rule = rule

    def request(self, now_s: float, request: RequestHead) -> None:
        self.wake_at(now_s + self._rule.first_byte_timeout_s)

    def response(self, now_s: float, request: RequestHead, response: ResponseHead) -> None:
        self.wake_at(NEVER)

    def tunnelled(self, now_s: float) -> None:
        self.wake_at(NEVER)

    def expired(self, now_s: float) -> None:
        self.answer(now_s, self._rule.status, self._rule.body)

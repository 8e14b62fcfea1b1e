"""First-byte timeout: answers in the server's place when no response has begun in time."""

from __future__ import annotations

from bench.proxy.http_bytes import RequestHead
from bench.proxy.rule import PER_REQUEST, Condition, Draw, ErrorStatus, Positive, Rule, seconds
from bench.proxy.stage import NEVER, Context, Stage


class FirstByteTimeout(Rule, frozen=True, kw_only=True):
    """Answers with `status` and `body` if no byte of a response comes within `first_byte_timeout_s` of its request."""

    name = "first_byte_timeout"

    first_byte_timeout_s: Positive
    status: ErrorStatus = 504
    body: str = ""

    def conditions(self) -> tuple[Condition, ...]:
        return PER_REQUEST

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return FirstByteTimeoutStage(self, chain)

    def deed(self) -> str:
        return f"answers {self.status} if no response begins within {seconds(self.first_byte_timeout_s)}"


class FirstByteTimeoutStage(Stage):
    """Waits for each response to begin."""

    http = True

    def __init__(self, rule: FirstByteTimeout, chain: Context) -> None:
        super().__init__(rule.name, chain)
        self._rule = rule

    def request(self, now_s: float, request: RequestHead) -> None:
        self.wake_at(now_s + self._rule.first_byte_timeout_s)

    def down(self, now_s: float, data: bytes) -> None:
        # While the chain waits, it is an interim response, which is no answer. (Not `response`: another behaviour may
        # hold the head between the server and here.)
        if self.deadline_s != NEVER and self.chain.phase != "waiting":
            self.wake_at(NEVER)
        self.send_down(now_s, data)

    def tunnelled(self, now_s: float) -> None:
        self.wake_at(NEVER)

    def expired(self, now_s: float) -> None:
        self.answer(now_s, self._rule.status, self._rule.body)

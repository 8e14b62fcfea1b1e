"""Head hold-back: a response's head waits for the first byte of its body."""

from __future__ import annotations

from bench.proxy.http_bytes import RequestHead, ResponseHead
from bench.proxy.rule import PER_RESPONSE, Condition, Draw, Rule
from bench.proxy.stage import Context, Stage


class HeadHoldback(Rule, frozen=True, kw_only=True):
    """Withholds the head of each response until a byte of its body has come (or its end), and sends both as one."""

    name = "head_holdback"
    holds = True

    def conditions(self) -> tuple[Condition, ...]:
        return PER_RESPONSE

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return HeadHoldbackStage(self.name, chain)

    def deed(self) -> str:
        return "withholds a response's head until the first byte of its body"


class HeadHoldbackStage(Stage):
    """Keeps one head at a time."""

    http = True

    def __init__(self, by: str, chain: Context) -> None:
        super().__init__(by, chain)
        self._head_is_next = False
        self._head = b""
        self._since_s = 0.0

    def response(self, now_s: float, request: RequestHead, response: ResponseHead) -> None:
        self._head_is_next = True

    def down(self, now_s: float, data: bytes) -> None:
        if self._head_is_next:
            self._head_is_next = False
            self._head, self._since_s = data, now_s
        elif self._head:
            self._release(now_s, data)
        else:
            self.send_down(now_s, data)

    def finished(self, now_s: float) -> None:
        self._release(now_s)

    def tunnelled(self, now_s: float) -> None:
        self._release(now_s)

    def down_eof(self, now_s: float) -> None:
        self._release(now_s)
        self.end_down(now_s)

    def _release(self, now_s: float, data: bytes = b"") -> None:
        head, self._head = self._head, b""
        if head:
            self.struck |= now_s > self._since_s
            self.send_down(now_s, head + data)

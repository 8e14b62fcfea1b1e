"""Unreachable: what a client gets while the server cannot be connected to."""

from __future__ import annotations

from bench.proxy.http_bytes import RequestHead
from bench.proxy.rule import Draw, ErrorStatus, Rule
from bench.proxy.stage import Context, Stage


class Unreachable(Rule, frozen=True, kw_only=True):
    """Answers requests with `status` while the server refuses connections.

    Without this rule, and for what is not HTTP, the client's connection is reset.
    """

    name = "unreachable"

    status: ErrorStatus = 502
    body: str = ""

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return UnreachableStage(self, chain)

    def deed(self) -> str:
        return f"answers {self.status} while the server cannot be reached"


class UnreachableStage(Stage):
    """Answers while there is no server."""

    http = True

    def __init__(self, rule: Unreachable, chain: Context) -> None:
        super().__init__(rule.name, chain)
        self._rule = rule
        self._is_unreachable = False

    def unreachable(self, now_s: float) -> bool:
        self._is_unreachable = True
        if self.chain.phase == "waiting":  # it is connected to for each request
            self.answer(now_s, self._rule.status, self._rule.body)
        return True

    def request(self, now_s: float, request: RequestHead) -> None:
        if self._is_unreachable:
            self.answer(now_s, self._rule.status, self._rule.body)

    def tunnelled(self, now_s: float) -> None:
        if self._is_unreachable:
            self.cut(now_s, "rst")

"""Upgrade: a proxy that refuses WebSocket upgrades, or does not forward them as such."""

from __future__ import annotations

from typing import Literal

from bench.proxy.http_bytes import RequestHead, header, without_headers
from bench.proxy.rule import Draw, ErrorStatus, Rule
from bench.proxy.stage import Context, Stage


class Upgrade(Rule, frozen=True, kw_only=True):
    """Refuses a request that asks for an upgrade with `status`, or strips `Upgrade` and `Connection` from it."""

    name = "upgrade"

    action: Literal["refuse", "strip"] = "refuse"
    status: ErrorStatus = 403

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return UpgradeStage(self, chain)

    def deed(self) -> str:
        if self.action == "strip":
            return "strips the Upgrade header, so that a WebSocket cannot open"
        return f"refuses a WebSocket upgrade with {self.status}"


class UpgradeStage(Stage):
    """Refuses an upgrade, or passes the request on as a plain one."""

    http = True

    def __init__(self, rule: Upgrade, chain: Context) -> None:
        super().__init__(rule.name, chain)
        self._rule = rule
        self._strips = False

    def request(self, now_s: float, request: RequestHead) -> None:
        asks = bool(header(request, b"upgrade"))
        self._strips = asks and self._rule.action == "strip"
        self.struck |= self._strips
        if asks and self._rule.action == "refuse":
            self.answer(now_s, self._rule.status)

    def rewrite_request(self, head: bytes) -> bytes:
        return without_headers(head, b"upgrade", b"connection") if self._strips else head

"""Coalescing: small pieces wait a little and go on as one."""

from __future__ import annotations

from typing import Literal

from bench.proxy.http_bytes import RequestHead, ResponseHead, header
from bench.proxy.rule import PER_RESPONSE, AtLeastOne, Condition, Draw, Positive, Rule, direction_words
from bench.proxy.stage import NEVER, Context, Direction, End, Pass, Stage


class Coalescing(Rule, frozen=True, kw_only=True):
    """Holds bytes for `coalesce_ms` from the first one on, or until `coalesce_bytes` are there.

    scope: all bytes; or an HTTP response's only, with a length or in chunks: its end goes on at once, and a WebSocket
        and what ends with the connection are left alone
    """

    name = "coalescing"
    holds = True

    coalesce_ms: Positive
    coalesce_bytes: AtLeastOne = 16_384
    way: Direction = "down"
    scope: Literal["connection", "response"] = "connection"

    def check(self) -> None:
        if self.scope == "response" and self.way != "down":
            raise ValueError('scope = "response" takes way = "down"')

    def conditions(self) -> tuple[Condition, ...]:
        return PER_RESPONSE if self.scope == "response" else ()

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return CoalescingStage(self, chain)

    def deed(self) -> str:
        where = "in HTTP responses" if self.scope == "response" else direction_words(self.way)
        return f"joins {where} what comes within {self.coalesce_ms:g} ms, up to {self.coalesce_bytes} bytes"


class CoalescingStage(Stage):
    """Collects small pieces until the time is over or enough are there."""

    def __init__(self, rule: Coalescing, chain: Context) -> None:
        super().__init__(rule.name, chain)
        self.http = rule.scope == "response"
        self._rule = rule
        self._in_scope = not self.http
        self._held = {direction: bytearray() for direction in ("up", "down") if rule.way in (direction, "both")}
        self._due_s = dict.fromkeys(self._held, NEVER)

    def response(self, now_s: float, request: RequestHead, response: ResponseHead) -> None:
        self._in_scope = bool(header(response, b"transfer-encoding") or header(response, b"content-length"))

    def finished(self, now_s: float) -> None:
        if self.http:
            self._in_scope = False
            self._flush(now_s, "down", self.send_down)

    def up(self, now_s: float, data: bytes) -> None:
        self._enter(now_s, "up", data, self.send_up)

    def down(self, now_s: float, data: bytes) -> None:
        self._enter(now_s, "down", data, self.send_down)

    def up_eof(self, now_s: float) -> None:
        self._flush(now_s, "up", self.send_up, self.end_up)

    def down_eof(self, now_s: float) -> None:
        self._flush(now_s, "down", self.send_down, self.end_down)

    def expired(self, now_s: float) -> None:
        for direction, due_s in self._due_s.items():
            if due_s <= now_s:
                self._flush(now_s, direction, self.send_up if direction == "up" else self.send_down)
        self.wake_at(min(self._due_s.values()))

    def _enter(self, now_s: float, direction: str, data: bytes, send: Pass) -> None:
        held = self._held.get(direction)
        if held is None or not self._in_scope:
            send(now_s, data)
            return
        if not held:
            self._due_s[direction] = now_s + self._rule.coalesce_ms / 1000
            self.wake_at(min(self._due_s.values()))
        self.struck = True
        held += data
        if len(held) >= self._rule.coalesce_bytes:
            self._flush(now_s, direction, send)

    def _flush(self, now_s: float, direction: str, send: Pass, end: End | None = None) -> None:
        held = self._held.get(direction)
        if held:
            data = bytes(held)
            held.clear()
            self._due_s[direction] = NEVER
            send(now_s, data)
        if end:
            end(now_s)

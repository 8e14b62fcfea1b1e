"""Upstreams: how the proxy chooses among several servers, and what it does with its connections to them."""

from __future__ import annotations

import re
from typing import Literal

from bench.proxy.http_bytes import (
    MAX_HEAD_BYTES,
    CloseBody,
    RequestHead,
    ResponseHead,
    header,
    response_body,
    with_header,
)
from bench.proxy.rule import AtLeastOne, Draw, ErrorStatus, NotNegative, Positive, Rule, seconds
from bench.proxy.stage import Context, Stage

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))  # RFC 9110 §9.2.2
COOKIE = "SERVERID"
_NUMBER = re.compile(rb"(?:^|[;,]\s*)serverid=(\d{1,4})(?:\s*[;,]|$)")  # of `header`, which is in lower case


class Upstreams(Rule, frozen=True, kw_only=True):
    """The servers take turns. The rule stands last, at the servers' side; without it they take turns by connections.

    each: whether a server is chosen for a connection, or for each request; then responses may come from different ones
    sticky: the turn is only for a client's first time: it comes back to the same server by its address, or by a cookie
        that the proxy sets
    down_s: a server that could not be connected to is left out for so long
    keep_s: connections to servers are kept for so long for other requests; none: a request has one of its own
    keep_most: of all that are kept, at most
    close_lag_ms: a server's close of a kept connection is noticed so late; a request that it is used for is lost
    retry: what is lost before its response began is sent once more, on a new connection, if its method is idempotent
    status: else it is answered so
    when_lost: answered; or the client's connection is closed without a word, so that the client asks again
    """

    name = "upstreams"
    is_last = True

    each: Literal["connection", "request"] = "connection"
    sticky: Literal["none", "source", "cookie"] = "none"
    down_s: NotNegative = 10.0
    keep_s: Positive | None = None
    keep_most: AtLeastOne = 32
    close_lag_ms: NotNegative = 0.0
    retry: Literal["none", "idempotent"] = "none"
    status: ErrorStatus = 502
    when_lost: Literal["answer", "close"] = "answer"

    def check(self) -> None:
        per_request = self.sticky == "cookie" or self.keep_s is not None or self.retry != "none"
        if self.each == "connection" and per_request:
            raise ValueError('sticky = "cookie", keep_s and retry take each = "request"')
        if self.close_lag_ms and self.keep_s is None:
            raise ValueError("close_lag_ms is for keep_s")

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return UpstreamsStage(self, chain) if self.each == "request" else Stage(self.name, chain)

    def deed(self) -> str:
        who = {"none": "", "source": ", the same for a client's address", "cookie": ", the same for a cookie"}
        text = f"another server for each {self.each}{who[self.sticky]}"
        if self.keep_s:
            text += f"; keeps connections to them for {seconds(self.keep_s)}"
        if self.each == "request":
            again = "sends a lost GET once more, " if self.retry == "idempotent" else ""
            lost = "closes (FIN)" if self.when_lost == "close" else f"answers {self.status}"
            text += f"; {again}{lost} if a server ends before its response"
        return text


class UpstreamsStage(Stage):
    """Has a server for each request, from its first byte to the end of the exchange."""

    http = True

    def __init__(self, rule: Upstreams, chain: Context) -> None:
        super().__init__(rule.name, chain)
        self._rule = rule
        self._has_server = False
        self._wanted: int | None = None  # the number in the client's cookie
        self._sent: bytearray | None = None  # of a request that may be sent once more
        self._is_last = False  # the server will close behind this exchange, and the client is to see it

    def request(self, now_s: float, request: RequestHead) -> None:
        may_repeat = self._rule.retry == "idempotent" and request.method in IDEMPOTENT
        self._sent = bytearray() if may_repeat else None
        self._is_last = b"close" in header(request, b"connection") or request.http_version < b"1.1"
        found = _NUMBER.search(header(request, b"cookie")) if self._rule.sticky == "cookie" else None
        self._wanted = int(found[1]) if found else None

    def up(self, now_s: float, data: bytes) -> None:
        if not self._has_server:
            self._has_server = True
            self.chain.lease(now_s, self._wanted)
        if self._sent is not None:
            self._sent += data
            if len(self._sent) > MAX_HEAD_BYTES:
                self._sent = None
        self.send_up(now_s, data)

    def response(self, now_s: float, request: RequestHead, response: ResponseHead) -> None:
        self._sent = None
        ends = isinstance(response_body(request, response), CloseBody)
        self._is_last |= ends or b"close" in header(response, b"connection")

    def rewrite_response(self, head: bytes) -> bytes:
        number = self.chain.server_number
        if self._rule.sticky != "cookie" or number == self._wanted:
            return head
        self.struck = True
        return with_header(head, f"Set-Cookie: {COOKIE}={number}; Path=/; HttpOnly".encode())

    def idle(self, now_s: float) -> None:
        if self._has_server and not self._is_last:
            self._has_server = False
            self.chain.release(now_s)

    def unreachable(self, now_s: float) -> bool:
        if self.chain.phase == "waiting":
            self.answer(now_s, self._rule.status)
        return self.chain.stopped

    def abandoned(self, now_s: float) -> bool:
        self.struck = True
        sent, self._sent = self._sent, None
        if sent:
            self.chain.lease(now_s, None, fresh=True)
            self.send_up(now_s, bytes(sent))
        elif self._rule.when_lost == "close":
            self.cut(now_s, "fin")
        else:
            self.answer(now_s, self._rule.status)
        return True

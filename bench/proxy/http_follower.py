"""Follows the HTTP/1.1 on a connection and tells the stages that care (pure).

It sits in the chain around those stages: the client's bytes pass it before the first of them, the server's before the
last. A head is held until it is whole (a real proxy does the same); bodies go on as they come. A pipelined request is
held until the exchange before it is over, as nginx and HAProxy hold it, so that one is under way at a time.

The connection becomes a tunnel after a 101 or a CONNECT that succeeds. So it does where its bytes are not HTTP/1.1
(the proxy works for any TCP server), or where HTTP's rules do not say how to go on; then `not_followed` is told why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.proxy.http_bytes import (
    MAX_HEAD_BYTES,
    Body,
    CloseBody,
    MalformedError,
    RequestHead,
    ResponseHead,
    may_be_request,
    may_be_response,
    parse_request,
    parse_response,
    request_body,
    response_body,
    whole_head,
)
from bench.proxy.stage import Context, End, HttpPhase, Pass, Stage


class HttpFollower:
    """The HTTP state of one connection, between its two neighbours in the chain."""

    send_up: Pass
    send_down: Pass
    end_up: End
    end_down: End

    def __init__(self, stages: Sequence[Stage], chain: Context, not_followed: Callable[[float, str], None]) -> None:
        self.phase: HttpPhase = "idle"
        self._stages = stages
        self._chain = chain
        self._not_followed = not_followed
        self._request: RequestHead | None = None  # not answered to the end yet
        self._up_part = b""  # of a head that is not whole yet
        self._down_part = b""
        self._up_body: Body | None = None
        self._down_body: Body | None = None
        self._kept = b""  # behind a request that is not over yet
        self._up_is_over = self._down_is_over = False
        self._is_deaf = False  # something was dropped, and what is behind it makes no sense any more

    def up(self, now_s: float, data: bytes) -> None:
        """Bytes from the client."""
        if self._is_deaf:
            return
        while data and self.phase != "tunnel" and not self._down_is_over and not self._chain.stopped:
            if self._up_body is not None:
                data = self._pass_up(now_s, data, self._up_body)
            elif self.phase == "idle":
                data = self._up_head(now_s, data)
            else:
                data = self._keep(data)
        if data and not self._chain.stopped:
            self.send_up(now_s, data)

    def down(self, now_s: float, data: bytes) -> None:
        """Bytes from the server."""
        body = self._down_body
        if body is not None and body.contains(data):
            self.send_down(now_s, data)
            return
        while data and self.phase != "tunnel" and not self._chain.stopped:
            if self._down_body is None:
                data = self._down_head(now_s, data)
            else:
                data = self._pass_down(now_s, data, self._down_body)
        if data and not self._chain.stopped:
            self.send_down(now_s, data)

    def up_eof(self, now_s: float) -> None:
        """The client sends no more; what was held goes on first."""
        if self._kept:
            self._up_is_over = True  # that comes behind it
            return
        part, self._up_part = self._up_part, b""
        if part:
            self.send_up(now_s, part)
        self.end_up(now_s)

    def down_eof(self, now_s: float) -> None:
        """The server sends no more; that may be the end of its response. What it has not been asked yet it never is."""
        self._down_is_over = True
        self._is_deaf = bool(self._kept)
        self._kept, self._up_part = self._up_part, b""
        part, self._down_part = self._down_part, b""
        if part:
            self.send_down(now_s, part)
        if isinstance(self._down_body, CloseBody):
            self._finish(now_s)
        self._let_go(now_s)
        self.end_down(now_s)

    # Requests.

    def _up_head(self, now_s: float, data: bytes) -> bytes:
        """Take a request's head if it is whole. Returns what is left for the next turn."""
        searched, data = len(self._up_part), self._up_part + data
        self._up_part = b""
        if data[:1] in (b"\r", b"\n"):
            return self._pass_line_end(now_s, data)
        if not may_be_request(data):
            return self._give_up(now_s, "what the client sends is no HTTP/1.1 request", data)
        try:
            if (head := whole_head(data, searched)) is None:
                self._up_part = data
                return b""
            request = parse_request(head)
            body = request_body(request)
        except MalformedError as error:
            return self._give_up(now_s, str(error), data)
        self._up_body = None if body.done else body
        self._begin_request(now_s, request, head)
        return data[len(head) :]

    def _pass_line_end(self, now_s: float, data: bytes) -> bytes:
        """Empty lines before a request mean nothing (RFC 9112 §2.2)."""
        rest = data.lstrip(b"\r\n")
        self.send_up(now_s, data[: len(data) - len(rest)])
        return rest

    def _begin_request(self, now_s: float, request: RequestHead, head: bytes) -> None:
        self._request = request
        self.phase = "waiting"
        for stage in self._stages:
            if stage.concerns(request):
                stage.request(now_s, request)
                head = stage.rewrite_request(head)
        if not self._chain.stopped:
            self.send_up(now_s, head)

    def _pass_up(self, now_s: float, data: bytes, body: Body) -> bytes:
        try:
            taken = body.feed(data)
        except MalformedError as error:
            return self._give_up(now_s, str(error), data)
        self.send_up(now_s, data[:taken])
        if body.done:
            self._up_body = None
            if self.phase == "uploading":
                self._over(now_s)
        return data[taken:]

    def _keep(self, data: bytes) -> bytes:
        self._kept += data
        if len(self._kept) > MAX_HEAD_BYTES:
            self._chain.hold(self, "up", on=True)
        return b""

    # Responses.

    def _down_head(self, now_s: float, data: bytes) -> bytes:
        """Take a response's head if it is whole. Returns what is left for the next turn."""
        searched, data = len(self._down_part), self._down_part + data
        self._down_part = b""
        if self._request is None or self.phase != "waiting":
            return self._give_up(now_s, "the server sends what it was not asked for", data)
        if not may_be_response(data):
            return self._give_up(now_s, "what the server sends is no HTTP/1.1 response", data)
        try:
            if (head := whole_head(data, searched)) is None:
                self._down_part = data
                return b""
            response = parse_response(head)
        except MalformedError as error:
            return self._give_up(now_s, str(error), data)
        self._take_response(now_s, self._request, response, head)
        return data[len(head) :]

    def _take_response(self, now_s: float, request: RequestHead, response: ResponseHead, head: bytes) -> None:
        if response.status_code < 200:  # an interim one: the response proper is still to come (RFC 9110 §15.2)
            self.send_down(now_s, head)
            if response.status_code == 101:
                self._tunnel(now_s)
            return
        self._begin_response(now_s, request, response, head)
        if request.method == b"CONNECT" and response.status_code < 300:
            self._tunnel(now_s)
            return
        self._down_body = response_body(request, response)
        if self._down_body.done:
            self._finish(now_s)

    def _begin_response(self, now_s: float, request: RequestHead, response: ResponseHead, head: bytes) -> None:
        self.phase = "responding"
        for stage in reversed(self._stages):
            if stage.concerns(request, response):
                stage.response(now_s, request, response)
                head = stage.rewrite_response(head)
        if not self._chain.stopped:
            self.send_down(now_s, head)

    def _pass_down(self, now_s: float, data: bytes, body: Body) -> bytes:
        try:
            taken = body.feed(data)
        except MalformedError as error:
            return self._give_up(now_s, str(error), data)
        self.send_down(now_s, data if taken == len(data) else data[:taken])
        if body.done:
            self._finish(now_s)
        return data[taken:]

    # The end of an exchange, and of HTTP.

    def _finish(self, now_s: float) -> None:
        """The response is over."""
        self._down_body = None
        self.phase = "uploading" if self._up_body else "idle"
        for stage in reversed(self._stages):
            stage.finished(now_s)
        if self.phase == "idle":
            self._over(now_s)

    def _over(self, now_s: float) -> None:
        """Request and response are over."""
        self.phase, self._request = "idle", None
        for stage in self._stages:
            stage.idle(now_s)
        self._let_go(now_s)

    def _let_go(self, now_s: float) -> None:
        """What was kept behind the last request goes on, and so does the end behind it."""
        if self._chain.stopped:
            return
        kept, self._kept = self._kept, b""
        self._chain.hold(self, "up", on=False)
        self.up(now_s, kept)
        if self._up_is_over and not self._kept:
            self._up_is_over = False
            self.up_eof(now_s)

    def _give_up(self, now_s: float, why: str, data: bytes) -> bytes:
        """Follow no longer. Returns the bytes that could not be followed: they go on as they are."""
        self._not_followed(now_s, why)
        self._tunnel(now_s)
        return data

    def _tunnel(self, now_s: float) -> None:
        self.phase, self._request = "tunnel", None
        self._up_body = self._down_body = None
        for stage in self._stages:
            stage.tunnelled(now_s)
        down, self._down_part = self._down_part, b""
        if down and not self._chain.stopped:
            self.send_down(now_s, down)
        self._kept, self._up_part = self._up_part + self._kept, b""
        self._let_go(now_s)

"""Follows the HTTP/1.1 on a connection and tells the stages that care (pure).

It sits in the chain around those stages: the client's bytes pass it before the first of them, the server's before the
last. A head is held until it is whole (a real proxy does the same); bodies go on as they come. Bytes that are not
HTTP, or that h11 does not take, turn the rest of the connection into a tunnel: the proxy works for any TCP server.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal

import h11

from bench.proxy.http import (
    HEAD_END,
    MAX_HEAD_BYTES,
    Body,
    CloseBody,
    header,
    parse_request,
    parse_response,
    request_body,
    response_body,
)
from bench.proxy.stage import End, Pass, Stage

Phase = Literal["idle", "waiting", "responding", "tunnel"]
"""No request outstanding; a request and no response yet; in a response; no HTTP (a WebSocket, or plain TCP)."""

METHODS = (b"GET ", b"POST ", b"PUT ", b"DELETE ", b"HEAD ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"TRACE ")


class Exchange:
    """The HTTP state of one connection, between its two neighbours in the chain."""

    send_up: Pass
    send_down: Pass
    end_up: End
    end_down: End

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.phase: Phase = "idle"
        self._stages = stages
        self._chain = stages[0].chain
        self._asked: deque[h11.Request] = deque()  # not answered to the end yet
        self._up_part = b""  # of a head that is not whole yet
        self._down_part = b""
        self._up_body: Body | None = None
        self._down_body: Body | None = None

    def up(self, now_s: float, data: bytes) -> None:
        """Bytes from the client."""
        while data and self.phase != "tunnel" and not self._chain.stopped:
            if self._up_body is None:
                data = self._up_head(now_s, self._up_part + data)
            else:
                data = self._pass_up(now_s, data, self._up_body)
        if data and not self._chain.stopped:
            self.send_up(now_s, data)

    def down(self, now_s: float, data: bytes) -> None:
        """Bytes from the server."""
        if self._down_body is not None and self._down_body.contains(data):
            self.send_down(now_s, data)
            return
        while data and self.phase != "tunnel" and not self._chain.stopped:
            if self._down_body is None:
                data = self._down_head(now_s, self._down_part + data)
            else:
                data = self._pass_down(now_s, data, self._down_body)
        if data and not self._chain.stopped:
            self.send_down(now_s, data)

    def up_eof(self, now_s: float) -> None:
        """The client sends no more; what was held goes on first."""
        part, self._up_part = self._up_part, b""
        if part:
            self.send_up(now_s, part)
        self.end_up(now_s)

    def down_eof(self, now_s: float) -> None:
        """The server sends no more; that may be the end of its response."""
        part, self._down_part = self._down_part, b""
        if part:
            self.send_down(now_s, part)
        if isinstance(self._down_body, CloseBody):
            self._finish(now_s)
        self.end_down(now_s)

    def _up_head(self, now_s: float, data: bytes) -> bytes:
        """Take a request's head if it is whole. Returns what is left for the next turn."""
        self._up_part = b""
        if not data.startswith(METHODS) and not any(method.startswith(data) for method in METHODS):
            return self._tunnel(now_s, data)
        found = HEAD_END.search(data)
        if found is None:
            return self._hold_up(now_s, data)
        head = data[: found.end()]
        try:
            request = parse_request(head)
            body = request_body(request)
        except (h11.RemoteProtocolError, ValueError):
            return self._tunnel(now_s, data)
        self._up_body = None if body.done else body
        self._asked.append(request)
        self._begin_request(now_s, request, head)
        return data[len(head) :]

    def _begin_request(self, now_s: float, request: h11.Request, head: bytes) -> None:
        if self.phase == "idle":
            self.phase = "waiting"
        for stage in self._stages:
            stage.request(now_s, request)
            head = stage.rewrite_request(head)
        if not self._chain.stopped:
            self.send_up(now_s, head)

    def _hold_up(self, now_s: float, data: bytes) -> bytes:
        if len(data) > MAX_HEAD_BYTES:
            return self._tunnel(now_s, data)
        self._up_part = data
        return b""

    def _pass_up(self, now_s: float, data: bytes, body: Body) -> bytes:
        try:
            taken = body.feed(data)
        except ValueError:
            return self._tunnel(now_s, data)
        if body.done:
            self._up_body = None
        self.send_up(now_s, data[:taken])
        return data[taken:]

    def _down_head(self, now_s: float, data: bytes) -> bytes:
        """Take a response's head if it is whole. Returns what is left for the next turn."""
        self._down_part = b""
        if not self._asked or not (data.startswith(b"HTTP/1.") or b"HTTP/1.".startswith(data[:7])):
            return self._tunnel(now_s, data)
        found = HEAD_END.search(data)
        if found is None:
            if len(data) > MAX_HEAD_BYTES:
                return self._tunnel(now_s, data)
            self._down_part = data
            return b""
        head = data[: found.end()]
        try:
            response = parse_response(head)
            body = None if isinstance(response, h11.InformationalResponse) else self._body_of(response)
        except (h11.RemoteProtocolError, ValueError):
            return self._tunnel(now_s, data)
        if body is None or isinstance(response, h11.InformationalResponse):
            return self._interim(now_s, response.status_code, data, len(head))
        self._begin_response(now_s, response, head)
        if body.done:
            self._finish(now_s)
        else:
            self._down_body = body
        return data[len(head) :]

    def _body_of(self, response: h11.Response) -> Body:
        return response_body(self._asked[0], response)

    def _interim(self, now_s: float, status: int, data: bytes, head_bytes: int) -> bytes:
        """A 1xx: the response proper is still to come, except after 101, where a tunnel begins."""
        self.send_down(now_s, data[:head_bytes])
        rest = data[head_bytes:]
        return self._tunnel(now_s, rest) if status == 101 else rest

    def _begin_response(self, now_s: float, response: h11.Response, head: bytes) -> None:
        self.phase = "responding"
        for stage in reversed(self._stages):
            stage.response(now_s, self._asked[0], response)
            head = stage.rewrite_response(head)
        if not self._chain.stopped:
            self.send_down(now_s, head)

    def _pass_down(self, now_s: float, data: bytes, body: Body) -> bytes:
        try:
            taken = body.feed(data)
        except ValueError:
            return self._tunnel(now_s, data)
        self.send_down(now_s, data if taken == len(data) else data[:taken])
        if body.done:
            self._finish(now_s)
        return data[taken:]

    def _finish(self, now_s: float) -> None:
        self._down_body = None
        request = self._asked.popleft()
        self.phase = "waiting" if self._asked else "idle"
        if request.method == b"CONNECT":
            self._tunnel(now_s, b"")
            return
        for stage in reversed(self._stages):
            stage.finished(now_s)

    def _tunnel(self, now_s: float, data: bytes) -> bytes:
        if self.phase != "tunnel":
            self.phase = "tunnel"
            self._down_body = None
            self._flush_parts(now_s)
            for stage in self._stages:
                stage.tunnelled(now_s)
        return data

    def _flush_parts(self, now_s: float) -> None:
        """What was held of a head in the other direction goes on too."""
        up, self._up_part = self._up_part, b""
        down, self._down_part = self._down_part, b""
        if up:
            self.send_up(now_s, up)
        if down:
            self.send_down(now_s, down)


def accepts_gzip(request: h11.Request) -> bool:
    """Whether the client takes a response compressed with gzip."""
    return b"gzip" in header(request, b"accept-encoding")

"""A client leaves in the middle of an answer: how long the server goes on making tokens that nobody reads.

Three ways to leave: the connection is closed (FIN), it is reset (RST), or the client vanishes without a word, which
here is a socket that stays open and is not read (for the server the same, as long as its buffers have room). And once
the connection is closed while the model is silent, before its first token.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bench.selfcost.child_process import running

WAYS = ("FIN", "RST", "black hole", "FIN in a silence")
GAP_MS = 50
_LOOK_S = 0.02
_LOOKS_AFTER = 5  # behind an answer's end, which the stack may count a moment later
_PATIENCE_S = 10.0
_NO_LINGER = struct.pack("ii", 1, 0)  # close() then resets the connection


@dataclass(frozen=True)
class Left:
    """What the server did after its client had left: tokens made for nobody, and how long it went on.

    `noticed` is false if it went on to the answer's end.
    """

    tokens: int
    seconds: float
    noticed: bool


def leave_each_way(transport: str, stack: str, seconds: float) -> dict[str, Left]:
    """Start that server (`stack` "" is ours) and leave an answer of `seconds` in each way.

    Raises UserError, OSError.
    """
    options = ("--stack", stack) if stack else ()
    with running("servers", transport, *options) as server:
        url = str(server.line()["url"])
        return {way: _leave(transport, url, way, seconds) for way in WAYS}


def _leave(transport: str, url: str, way: str, seconds: float) -> Left:
    silent = way == WAYS[3]
    tokens = round(seconds * 1000 / GAP_MS)
    stream = {"profile": "fast", "tokens": tokens, "ttft_ms": 0, "ttft_sigma": 0, "gap_ms": GAP_MS, "gap_sigma": 0}
    if silent:
        stream |= {"tokens": 1, "ttft_ms": seconds * 1000}
    started = _stats(url)["streams_started"]
    with _asked(transport, url, stream) as asked:
        if silent:
            _await_start(url, started)
        else:
            _read_until(asked, b'"i": 0')
        before = _stats(url)
        left_ns = time.monotonic_ns()
        _go(asked, way)
        return _watch(url, before, left_ns)


def _watch(url: str, before: Mapping[str, Any], left_ns: int) -> Left:
    """Look until the server says that it has stopped, or the answer is over."""
    tokens, grown_ns, over = before["tokens_sent"], left_ns, 0
    while over < _LOOKS_AFTER:
        time.sleep(_LOOK_S)
        told = _stats(url)
        if told["tokens_sent"] > tokens:
            tokens, grown_ns = told["tokens_sent"], told["now_ns"]
        if told.get("streams_left", 0) > before.get("streams_left", 0):
            return Left(tokens - before["tokens_sent"], (told["left_ns"] - left_ns) / 1e9, noticed=True)
        over += not told["streams_active"]
    completed = told["streams_completed"] > before["streams_completed"]
    return Left(tokens - before["tokens_sent"], (grown_ns - left_ns) / 1e9, noticed=not completed)


def _stats(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/stats", timeout=_PATIENCE_S) as response:  # noqa: S310 - our own server
        told: dict[str, Any] = json.load(response)
    return told


def _await_start(url: str, started: int) -> None:
    """Return when one more answer than `started` has begun. Raises TimeoutError."""
    deadline = time.monotonic() + _PATIENCE_S
    while _stats(url)["streams_started"] <= started:
        if time.monotonic() > deadline:
            raise TimeoutError("the server does not begin the answer")
        time.sleep(_LOOK_S)


def _go(asked: socket.socket, way: str) -> None:
    if way == "black hole":
        return
    if way == "RST":
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    else:
        asked.setblocking(False)
        with suppress(BlockingIOError):  # what is left unread would make it a reset
            asked.recv(1 << 20)
    asked.close()


def _asked(transport: str, url: str, stream: Mapping[str, object]) -> socket.socket:
    """A connection on which an answer has been asked for."""
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=_PATIENCE_S)
    body = json.dumps({"message": "x" * 126, "stream": stream}).encode()  # a WebSocket frame of the length form below
    if transport == "websocket":
        key = base64.b64encode(os.urandom(16)).decode()
        upgrade = f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}"
        connection.sendall(f"GET /chat HTTP/1.1\r\nHost: {parts.netloc}\r\n{upgrade}\r\n\r\n".encode())
        _read_until(connection, b"\r\n\r\n")
        connection.sendall(struct.pack("!BBH4x", 0x81, 0x80 | 126, len(body)) + body)  # masked with zeros
    else:
        head = f"POST /chat HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
    return connection


def _read_until(connection: socket.socket, end: bytes) -> None:
    """Read until `end` has come. Raises OSError."""
    received = b""
    while end not in received:
        piece = connection.recv(65_536)
        if not piece:
            raise ConnectionError(f"the server closed the connection behind {received[-200:]!r}")
        received += piece

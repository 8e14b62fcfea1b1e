"""HTTP as bytes, for what no client library would send."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

SHORT: dict[str, Any] = {"message": "x", "stream": {"profile": "fast", "tokens": 3, "ttft_ms": 0, "gap_ms": 1}}
WEBSOCKET_KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def connected(url: str, timeout_s: float = 10) -> socket.socket:
    """A TCP connection to a server."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=timeout_s)


def head(method: str, target: str, *headers: str, version: str = "1.1") -> bytes:
    """A request's head."""
    lines = (f"{method} {target} HTTP/{version}", "Host: x", *headers, "", "")
    return "\r\n".join(lines).encode("latin-1")


def post(body: object, *headers: str, target: str = "/chat", version: str = "1.1") -> bytes:
    """A POST with its length told."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head("POST", target, f"Content-Length: {len(data)}", *headers, version=version) + data


def upgrade(*headers: str, target: str = "/chat") -> bytes:
    """A WebSocket's opening handshake."""
    handshake = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    return head("GET", target, *handshake, f"Sec-WebSocket-Key: {WEBSOCKET_KEY}", *headers)


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True) -> bytes:
    """A client's frame, masked with zeros (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65_536:
        length = bytes([0x80 | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([0x80 | 127]) + size.to_bytes(8, "big")
    return bytes([(0x80 if fin else 0) | opcode]) + length + bytes(4) + payload


def exchange(url: str, *parts: bytes, half_close: bool = False, timeout_s: float = 10) -> bytes:
    """Send `parts` one after the other; everything that comes until the server closes. Raises TimeoutError."""
    with connected(url, timeout_s) as connection:
        for k, part in enumerate(parts):
            if k:
                time.sleep(0.05)  # into another read of the server
            connection.sendall(part)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65_536):
                received += part
        return received


def responses(received: bytes) -> Iterator[tuple[int, dict[str, str], bytes]]:
    """The responses in `received`, all of which have a length: status, headers (lower case), body."""
    while received:
        top, _, received = received.partition(b"\r\n\r\n")
        status, *lines = top.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", 0))
        yield int(status.split()[1]), headers, received[:size]
        received = received[size:]

"""Clients of bare sockets: such as read nothing, or say less than a request."""

from __future__ import annotations

import json
import random
import re
import socket
from contextlib import ExitStack, closing, suppress
from typing import Any
from urllib.parse import urlsplit

WEBSOCKET_HEAD = (
    b"GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def raw(url: str, receive_bytes: int | None = None) -> socket.socket:
    """A connection to the server at `url`, with a receive buffer of about so many bytes."""
    parts = urlsplit(url)
    connection = socket.socket()
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)  # counts if set before connecting
    connection.settimeout(10)
    connection.connect((parts.hostname, parts.port))
    return connection


def http_post(body: dict[str, Any], version: str = "1.1") -> bytes:
    """A chat request's bytes."""
    data = json.dumps(body).encode()
    return b"POST /chat HTTP/%b\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (version.encode(), len(data), data)


def http_get(path: str) -> bytes:
    """A GET's bytes."""
    return b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode()


def websocket_frame(body: dict[str, Any]) -> bytes:
    """A chat request as a text frame of less than 126 bytes, masked with zeros."""
    data = json.dumps(body).encode()
    return bytes([0x81, 0x80 | len(data), 0, 0, 0, 0]) + data


def silent_reader(url: str, transport: str, body: dict[str, Any]) -> socket.socket:
    """Somebody who asks and then reads nothing. Over polling `body` names a stream that exists."""
    connection = raw(url, 4096)
    if transport == "websocket":
        connection.sendall(WEBSOCKET_HEAD)
        assert connection.recv(12).endswith(b"101")
        connection.sendall(websocket_frame(body))
    elif transport == "polling":
        connection.sendall(http_get(f"/chat/{body['stream_id']}?from=0"))
    else:
        connection.sendall(http_post(body))
    return connection


def read_until(connection: socket.socket, pattern: bytes) -> bytes:
    """What comes, until all of it together matches."""
    came = b""
    while not re.search(pattern, came):
        part = connection.recv(65_536)
        assert part, f"the server closed after {came!r}"
        came += part
    return came


def free_ports(count: int) -> range:
    """So many ports in a row that nobody uses now, and that no system gives away by itself."""
    for _ in range(100):
        ports = range(first := random.randrange(20_000, 30_000), first + count)
        with ExitStack() as stack, suppress(OSError):
            for port in ports:
                stack.enter_context(closing(socket.socket())).bind(("127.0.0.1", port))
            return ports
    raise AssertionError("no free ports in a row")

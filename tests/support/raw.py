"""Questions and answers over raw sockets."""

from __future__ import annotations

import re
import socket


def chat(body: str) -> bytes:
    """The request of a question."""
    head = f"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return f"{head}{body}".encode()


def read(peer: socket.socket, until: bytes) -> bytes:
    """What comes, until all of it together matches."""
    data = b""
    while not re.search(until, data):
        part = peer.recv(65_536)
        assert part, f"the server closed after {data!r}"
        data += part
    return data

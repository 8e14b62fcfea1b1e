"""Blocking: an independent client and the bytes of its messages."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

from support.feeding import encoded, encoded_end
from support.independent import Answer, request
from support.scripted import response
from support.sockets import http_post, read_until

from servers.blocking import wire
from servers.stream import Schedule

TOKEN = re.compile(rb'"sent": \d+\}')
END = re.compile(rb'"sha256": "[0-9a-f]{64}"\}\r\n0\r\n\r\n')  # it is read as a whole, to its last chunk


def ask(url: str, body: dict[str, Any]) -> Answer:
    """By POST."""
    status, headers, data = request(url, "POST", "/chat", body)
    assert status == 200
    message = json.loads(data)
    return Answer(message.pop("tokens"), message, headers["stream-id"])


def responses(peer: socket.socket, body: dict[str, Any]) -> Iterator[bytes]:
    """One, in chunks."""
    peer.sendall(http_post(body))
    yield read_until(peer, END.pattern + rb"\Z")


def whole(answer: Schedule) -> bytes:
    """A server's response."""
    return response(wire.encode_part(encoded(answer), encoded_end(answer), begun=False))

"""Chunked HTTP: an independent client and the bytes of its messages."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

from support.feeding import encoded, encoded_end
from support.independent import Answer, request
from support.scripted import streamed
from support.sockets import http_post, read_until

from servers.chunked import wire
from servers.stream import Schedule

TOKEN = re.compile(rb'"sent": \d+\}\n')
END = re.compile(rb'"sha256": "[0-9a-f]{64}"\}\n')
HEARTBEAT = b"\n"


def ask(url: str, body: dict[str, Any]) -> Answer:
    """By POST."""
    status, headers, data = request(url, "POST", "/chat", body)
    assert (status, headers["content-type"]) == (200, "application/x-ndjson")
    answer = Answer(stream_id=headers["stream-id"])
    assert data.endswith(b"\n")
    for line in data.split(b"\n"):
        if line:
            answer.add(json.loads(line))
    return answer


def responses(peer: socket.socket, body: dict[str, Any]) -> Iterator[bytes]:
    """One, in chunks."""
    peer.sendall(http_post(body))
    yield read_until(peer, rb"\r\n0\r\n\r\n\Z")


def pieces(answer: Schedule) -> list[bytes]:
    """As scripted."""
    tokens = [wire.encode_token(token) for token in encoded(answer)]
    return streamed(wire.CONTENT_TYPE, tokens, wire.encode_end(encoded_end(answer)))

"""WebSocket: an independent client and the bytes of its messages."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

from support.feeding import encoded, encoded_end
from support.independent import TIMEOUT_S, Answer
from support.scripted import frame
from support.sockets import read_until
from websockets.sync.client import connect

from servers.stream import Schedule

TOKEN = re.compile(rb'"sent": \d+\}')
END = re.compile(rb'"sha256": "[0-9a-f]{64}"\}')
HEARTBEAT = b"\x89"  # a ping; no second one before its pong
UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def ask(url: str, body: dict[str, Any]) -> Answer:
    """Over a connection of its own."""
    answer = Answer(stream_id=body.get("stream_id"))
    with connect(url.replace("http", "ws") + "/chat", open_timeout=TIMEOUT_S) as websocket:
        websocket.send(json.dumps(body))
        while answer.end is None:
            answer.add(json.loads(websocket.recv(timeout=TIMEOUT_S)))
    return answer


def responses(peer: socket.socket, body: dict[str, Any]) -> Iterator[bytes]:
    """To the handshake, and to the question."""
    peer.sendall(UPGRADE)
    yield read_until(peer, rb"\r\n\r\n\Z")
    asked = json.dumps(body).encode()
    peer.sendall(bytes([0x81, 0xFE]) + len(asked).to_bytes(2, "big") + bytes(4) + asked)
    yield read_until(peer, END.pattern + rb"\Z")


def pieces(answer: Schedule) -> list[bytes]:
    """As scripted, behind the handshake."""
    return [b"", *map(frame, encoded(answer)), frame(encoded_end(answer))]

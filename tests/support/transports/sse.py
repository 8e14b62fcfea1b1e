"""SSE: an independent client and the bytes of its messages."""

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

from servers.sse import wire
from servers.stream import Schedule

TOKEN = re.compile(rb'"sent": \d+\}\n\n')
END = re.compile(rb'"sha256": "[0-9a-f]{64}"\}\n\n')
HEARTBEAT = b": heartbeat\n"


def events(body: bytes) -> Iterator[dict[str, str]]:
    """The blocks of an event stream, by the standard's rules for LF-only streams with one data line an event."""
    for block in body.decode().split("\n\n")[:-1]:
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        yield {name: value.removeprefix(" ") for name, _, value in (line.partition(":") for line in lines)}


def read_sse(body: bytes) -> Answer:
    answer, ended = Answer(), False
    for event in events(body):
        if event["data"] == "[DONE]":
            ended = True
        elif event.get("event") == "end":
            answer.end = json.loads(event["data"])
        else:
            token = json.loads(event["data"])
            answer.stream_id, index = re.fullmatch(r"([A-Za-z0-9_-]+)/(\d+)", event["id"]).groups()  # type: ignore[union-attr]
            assert int(index) == token["i"]
            answer.tokens.append(token)
    assert ended == (answer.end is not None)
    return answer


def ask(url: str, body: dict[str, Any]) -> Answer:
    """By POST."""
    status, headers, data = request(url, "POST", "/chat", body)
    assert status == 200
    assert headers["content-type"].split(";")[0] == "text/event-stream"
    answer = read_sse(data)
    assert answer.stream_id in (None, headers["stream-id"])
    answer.stream_id = headers["stream-id"]
    return answer


def responses(peer: socket.socket, body: dict[str, Any]) -> Iterator[bytes]:
    """One, in chunks."""
    peer.sendall(http_post(body))
    yield read_until(peer, rb"\r\n0\r\n\r\n\Z")


def pieces(answer: Schedule) -> list[bytes]:
    """As scripted."""
    tokens = [wire.encode_token(b"s", i, token) for i, token in enumerate(encoded(answer))]
    return streamed(wire.CONTENT_TYPE, tokens, wire.encode_end(encoded_end(answer)))

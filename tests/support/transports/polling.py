"""Polling: an independent client and the bytes of its messages."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

from support.feeding import encoded, encoded_end
from support.independent import TIMEOUT_S, Answer, request
from support.scripted import response
from support.sockets import http_post, read_until

from servers.polling import wire
from servers.stream import Schedule

TOKEN = re.compile(rb'"sent": \d+\}')
END = re.compile(rb'"sha256": "[0-9a-f]{64}"\}')
ACCEPTED = response(wire.encode_accepted("s"), status="202 Accepted")


def ask(url: str, body: dict[str, Any], query: str = "") -> Answer:
    """A poll every 20 ms."""
    status, headers, data = request(url, "POST", "/chat", body)
    assert status == 202
    accepted = json.loads(data)
    answer = Answer(stream_id=accepted["stream_id"])
    assert headers["stream-id"] == answer.stream_id
    position, deadline = body.get("from", 0), time.monotonic() + TIMEOUT_S
    while answer.end is None and time.monotonic() < deadline:
        status, _, data = request(url, "GET", f"{accepted['poll']}?from={position}{query}")
        assert status == 200
        page = json.loads(data)
        answer.tokens += page["tokens"]
        position = page["next"]
        if page["done"]:
            answer.end = {"done": True, "n": page["n"], "sha256": page["sha256"]}
        else:
            time.sleep(0.02)
    return answer


def responses(peer: socket.socket, body: dict[str, Any]) -> Iterator[bytes]:
    """To the question, a page with the first token, and one with the rest."""
    peer.sendall(http_post(body))
    yield read_until(peer, rb'"/chat/s"\}\Z')
    first = 0
    while True:
        peer.sendall(b"GET /chat/s?from=%d&wait=5 HTTP/1.1\r\nHost: x\r\n\r\n" % first)
        told = read_until(peer, rb'"done": false\}\Z|"[0-9a-f]{64}"\}\Z')
        yield told
        if END.search(told):
            return
        first += told.count(b'"sent"')
        time.sleep(0.5)  # the rest falls due and is written


def page(answer: Schedule, first: int, reached: int) -> bytes:
    """A server's page of tokens `first` to `reached`."""
    end = encoded_end(answer) if reached == answer.n else None
    return response(wire.encode_page(encoded(answer)[first:reached], reached, end))

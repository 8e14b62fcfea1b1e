"""Clients that know only the contract: the standard library and a WebSocket client, none of the project's code."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from websockets.sync.client import connect

TIMEOUT_S = 20


@dataclass
class Answer:
    """What came: token messages, the end message, and the stream's id where the transport tells it."""

    tokens: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] | None = None
    stream_id: str | None = None

    @property
    def text(self) -> str:
        return "".join(token["t"] for token in self.tokens)

    def check(self, first: int = 0) -> Answer:
        """Whole, in order, and (from index 0) of the right hash."""
        assert self.end is not None, "no end message"
        assert [token["i"] for token in self.tokens] == list(range(first, self.end["n"]))
        assert all(token["sent"] >= token["due"] for token in self.tokens)
        if first == 0:
            assert hashlib.sha256(self.text.encode()).hexdigest() == self.end["sha256"]
        return self


def connection(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)


def request(
    url: str, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """One exchange: status, headers (lower case), body."""
    http_connection = connection(url)
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    http_connection.request(method, path, data, headers or {})
    response = http_connection.getresponse()
    result = response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    http_connection.close()
    return result


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


def _sort(message: dict[str, Any], answer: Answer) -> None:
    if message.get("done"):
        answer.end = message
    else:
        answer.tokens.append(message)


def ask_sse(url: str, body: dict[str, Any]) -> Answer:
    status, headers, data = request(url, "POST", "/chat", body)
    assert status == 200
    assert headers["content-type"].split(";")[0] == "text/event-stream"
    answer = read_sse(data)
    assert answer.stream_id in (None, headers["stream-id"])
    answer.stream_id = headers["stream-id"]
    return answer


def ask_chunked(url: str, body: dict[str, Any]) -> Answer:
    status, headers, data = request(url, "POST", "/chat", body)
    assert (status, headers["content-type"]) == (200, "application/x-ndjson")
    answer = Answer(stream_id=headers["stream-id"])
    assert data.endswith(b"\n")
    for line in data.split(b"\n"):
        if line:
            _sort(json.loads(line), answer)
    return answer


def ask_blocking(url: str, body: dict[str, Any]) -> Answer:
    status, headers, data = request(url, "POST", "/chat", body)
    assert status == 200
    message = json.loads(data)
    return Answer(message.pop("tokens"), message, headers["stream-id"])


def ask_polling(url: str, body: dict[str, Any], query: str = "") -> Answer:
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


def ask_websocket(url: str, body: dict[str, Any]) -> Answer:
    answer = Answer(stream_id=body.get("stream_id"))
    with connect(url.replace("http", "ws") + "/chat", open_timeout=TIMEOUT_S) as websocket:
        websocket.send(json.dumps(body))
        while answer.end is None:
            _sort(json.loads(websocket.recv(timeout=TIMEOUT_S)), answer)
    return answer


ASK = {
    "sse": ask_sse,
    "chunked": ask_chunked,
    "websocket": ask_websocket,
    "polling": ask_polling,
    "blocking": ask_blocking,
}

"""Each transport's bytes as docs/wire-format.md has them, written down once more (pure).

The servers' own encoders are not used: whatever is wrong with them, or with their stamps, must not hide here.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

TEXT = " golden"
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True)
class GoldenFormat:
    """How a streamed answer is written: what goes before it, one token of stream `name`, and what ends it."""

    head: bytes
    token: Callable[[str, int], bytes]
    end: Callable[[int], bytes]


def golden_texts(tokens: int) -> list[str]:
    """The answer."""
    return [TEXT] * tokens


@cache
def token_message(i: int) -> bytes:
    """Its `due` and `sent` say nothing: the stamps do not travel with the tokens."""
    return json.dumps({"i": i, "t": TEXT, "due": 10**14, "sent": 10**14}).encode()


def end_fields(tokens: int) -> dict[str, object]:
    """What the end message says beside `done`."""
    return {"n": tokens, "sha256": hashlib.sha256("".join(golden_texts(tokens)).encode()).hexdigest()}


def end_message(tokens: int) -> bytes:
    """The answer is complete."""
    return json.dumps({"done": True, **end_fields(tokens)}).encode()


def tokens_page(first: int, until: int, tokens: int) -> bytes:
    """What a poll brings, or a whole answer: the tokens from `first` to before `until`, of `tokens` in all."""
    found = [json.loads(token_message(i)) for i in range(first, until)]
    fields: dict[str, object] = {"tokens": found, "next": until, "done": until == tokens}
    return json.dumps(fields | (end_fields(tokens) if until == tokens else {})).encode()


def whole_response(status: str, body: bytes) -> bytes:
    """A whole HTTP response."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def switching(key: bytes) -> bytes:
    """The answer to a WebSocket's opening handshake (RFC 6455 section 4.2.2)."""
    accept = base64.b64encode(hashlib.sha1(key + _WEBSOCKET_GUID, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


def frame(payload: bytes) -> bytes:
    """A text frame of a server (RFC 6455 section 5.2)."""
    size = len(payload)
    return bytes([0x81, size]) + payload if size < 126 else b"\x81\x7e" + size.to_bytes(2, "big") + payload


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _chunked_head(content_type: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()


def _sse_token(name: str, i: int) -> bytes:
    return _chunk(b"id: %b/%d\ndata: %b\n\n" % (name.encode(), i, token_message(i)))


GOLDEN_FORMATS = {
    "sse": GoldenFormat(
        _chunked_head("text/event-stream"),
        _sse_token,
        lambda n: _chunk(b"event: end\ndata: %b\n\ndata: [DONE]\n\n" % end_message(n)) + b"0\r\n\r\n",
    ),
    "chunked": GoldenFormat(
        _chunked_head("application/x-ndjson"),
        lambda _, i: _chunk(token_message(i) + b"\n"),
        lambda n: _chunk(end_message(n) + b"\n") + b"0\r\n\r\n",
    ),
    "websocket": GoldenFormat(b"", lambda _, i: frame(token_message(i)), lambda n: frame(end_message(n))),
}
"""Of the transports that push tokens; the others bring pages."""

GOLDEN_TRANSPORTS = (*GOLDEN_FORMATS, "polling", "blocking")

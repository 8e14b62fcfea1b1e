"""The bytes that a soak's connections send, by transport: questions, probes, wrong requests (pure)."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import msgspec
from websockets.protocol import Protocol, Side

PROBE = b"GET /healthz HTTP/1.1\r\nHost: soak\r\n\r\n"
HALF_A_HEAD = b"POST /chat HTTP/1.1\r\nHost: soak\r\nContent-Le"
UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: soak\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_CLOSE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"  # normal closure, masked with zeros (RFC 6455 §5.2)
_BAD_CHUNK = b"POST /chat HTTP/1.1\r\nHost: soak\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n"
_BOMB_BYTES = 64 * 2**20
HEAVY_EVERY = 100  # bad requests: one in so many is large
WAIT_S = 20


@dataclass(frozen=True)
class SoakScript:
    """What one connection sends: a step when the answer to the one before has begun. `reads`: also after the last."""

    steps: tuple[bytes, ...] = ()
    reads: bool = True


def question_script(transport: str, body: Mapping[str, object], *, reads: bool = True) -> SoakScript:
    """Ask, and read the answer (or not). Polling needs a `stream_id` in the body."""
    data = msgspec.json.encode(body)
    if transport == "websocket":
        return SoakScript((UPGRADE, _text_frame(data)), reads)
    asked = post(data)
    return SoakScript((asked, _poll(body)) if transport == "polling" else (asked,), reads)


def kept_answer(transport: str, stream_id: str) -> SoakScript:
    """Ask for an answer that the server keeps, and read nothing of it."""
    body = {"message": "x", "stream_id": stream_id}
    return (
        SoakScript((_poll(body),), reads=False)
        if transport == "polling"
        else question_script(transport, body, reads=False)
    )


def post(body: bytes, *headers: bytes, path: bytes = b"/chat", length: int | None = None) -> bytes:
    """A POST with a body; `length` is what it says of that."""
    size = len(body) if length is None else length
    lines = [b"POST %b HTTP/1.1" % path, b"Host: soak", b"Content-Length: %d" % size, *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _poll(body: Mapping[str, object]) -> bytes:
    return b"GET /chat/%b?from=0&wait=%d HTTP/1.1\r\nHost: soak\r\n\r\n" % (str(body["stream_id"]).encode(), WAIT_S)


def bad_request(transport: str, number: int) -> tuple[str, SoakScript]:
    """The name and the bytes of the bad request of this number; they take turns. Each ends its connection."""
    kinds = _heavy() if number % HEAVY_EVERY == HEAVY_EVERY - 1 else _light(transport)
    names = tuple(kinds)
    turn = number // HEAVY_EVERY if kinds is _heavy() else number
    name = names[turn % len(names)]
    return name, kinds[name]


@cache
def _light(transport: str) -> dict[str, SoakScript]:
    plain = {name: SoakScript((data,)) for name, data in _wrong_http(transport).items()}
    if transport != "websocket":
        return plain
    return plain | {name: SoakScript((UPGRADE, frame, _CLOSE)) for name, frame in _wrong_frames().items()}


@cache
def _heavy() -> dict[str, SoakScript]:
    bomb = gzip.compress(bytes(_BOMB_BYTES), 9)
    packed = b"Content-Encoding: gzip"
    return {
        "gzip bomb": SoakScript((post(bomb, packed, b"Connection: close"),)),
        "body over 1 MiB": SoakScript((post(b" " * (2**20 + 1), b"Connection: close"),)),
        "path of 6 kB": SoakScript((_get(b"/chat/" + b"x" * 6_000),)),
    }


def _get(target: bytes, *headers: bytes) -> bytes:
    lines = [b"GET %b HTTP/1.1" % target, b"Host: soak", b"Connection: close", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _wrong_http(transport: str) -> dict[str, bytes]:
    """Requests that any server has to refuse with a status from 400 to 499."""
    close = b"Connection: close"
    wrong = {
        "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        "header without a colon": b"GET /chat HTTP/1.1\r\nHost soak\r\n\r\n",
        "unknown path": _get(b"/nowhere"),
        "wrong method": b"DELETE /chat HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n",
        "malformed chunk": _BAD_CHUNK,
        "not JSON": post(b'{"message": ', close),
        "not gzip": post(b"hello", b"Content-Encoding: gzip", close),
        "origin of rubbish": post(b"[]", b"Origin: http://[", close),
        "seed below zero": post(b'{"message": "x", "seed": -1}', close),
        "unknown profile": post(b'{"message": "x", "stream": "nobody"}', close),
        "nested too deeply": post(b'{"message": "x", "stream": ' + b"[" * 3000, close),
        "from of nothing": post(b'{"message": "x", "from": 5}', close),
    }
    return wrong | _wrong_queries(transport)


def _wrong_queries(transport: str) -> dict[str, bytes]:
    if transport == "sse":
        return {"query of rubbish": _get(b"/chat?message=x&stream={[[[")}
    if transport == "polling":
        return {
            "from of 400 digits": _get(b"/chat/abc?from=" + b"9" * 400),
            "wait of nan": _get(b"/chat/abc?wait=nan"),
            "unknown stream": _get(b"/chat/never-begun?from=0"),
        }
    return {}


def _text_frame(data: bytes, side: Side = Side.CLIENT) -> bytes:
    """A text message as one side sends it: only a client masks."""
    sender = Protocol(side)
    sender.send_text(data)
    return b"".join(sender.data_to_send())


def _wrong_frames() -> dict[str, bytes]:
    """Frames that a WebSocket server has to answer with an error message or a close."""
    return {
        "frame: not JSON": _text_frame(b'{"message": '),
        "frame: binary": b"\x82\x82\x00\x00\x00\x00{}",
        "frame: not UTF-8": _text_frame(b"\xff\xfe"),
        "frame: unmasked": _text_frame(b"{}", Side.SERVER),
        "frame: reserved opcode": b"\x83\x80\x00\x00\x00\x00",
    }


def refusal_fault(name: str, received: bytes) -> str:
    """What is wrong with the answer to a bad request; empty if it was refused as documented."""
    if name.startswith("frame: "):
        # An error message, or a close frame alone (RFC 6455 §7.1.7: what is no WebSocket has no message).
        answer = received.partition(b"\r\n\r\n")[2]
        return "" if b'"error"' in answer or answer[:1] == b"\x88" else f"answered {answer[:20]!r}"
    if not received:
        return "closed without an answer"
    status = received[9:12].decode("latin-1")
    if not status.startswith("4"):
        return f"status {status}"
    return "" if b'{"error":' in received else f"status {status} without the error as JSON"

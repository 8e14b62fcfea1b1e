"""Conversations that mean harm, seeded: HTTP and WebSocket as they should not be, in any order, cut anywhere."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from support.proxies import CHUNKED_HEAD, CLOSE_HEAD, OK, REQUEST, SWITCHING, UPGRADE, chunk

Message = tuple[str, bytes]
"""Which way ("up", "down", "fin up", "fin down"), and what."""

Make = Callable[[random.Random], bytes]

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
SIZES = (
    b"0",
    b"1",
    b"5",
    b"05",
    b"5 ",
    b"5;x=y",
    b"-6",
    b"-1",
    b"+5",
    b"0x5",
    b"0_5",
    b" 5",
    b"",
    b";",
    b"g",
    b"F" * 16,
)
LENGTHS = (b"0", b"2", b"5", b"-5", b"+5", b"5, 5", b"5, 6", b"5_0", b"9" * 30, b"", b"x", b"1e9", b"\xb2")
CODINGS = (b"chunked", b"gzip, chunked", b"chunked, gzip", b"identity", b"CHUNKED", b"\r\n chunked", b"xchunked", b"\0")
METHODS = (b"GET", b"POST", b"HEAD", b"PURGE", b"QUERY", b"CONNECT", b"get", b"M-SEARCH", b"X" * 40, b"G\0T", b"")
VERSIONS = (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.9", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"")
STATUSES = (b"200", b"100", b"101", b"103", b"199", b"204", b"304", b"404", b"503", b"99", b"1000", b"xxx", b"-1")
FIELDS = (
    b"Connection: close",
    b"Connection: Upgrade\r\nUpgrade: websocket",
    b"Accept-Encoding: gzip",
    b"Content-Type: text/html",
    b"Content-Type: text/event-stream",
    b"Content-Encoding: gzip",
    b"X-Accel-Buffering: no",
    b"Expect: 100-continue",
    b" folded",
    b"no colon",
    b"Space : before",
    b": nameless",
    b"NUL: \0",
    b"Long: " + b"x" * 300,
    b"\xff\xfe: \xff",
)


def conversation(draw: random.Random) -> list[Message]:
    """Requests and responses, of which some are none; at last, perhaps, the ends."""
    plausible = draw.random() < 0.7  # else in any order
    messages: list[Message] = []
    for _ in range(draw.randint(1, 4)):
        kinds = [_UP, _DOWN] if plausible else [_UP + _DOWN]
        messages += [_message(draw, draw.choice(of_a_way)) for of_a_way in kinds]
    for way in draw.sample(["up", "down"], draw.randint(0, 2)):
        end = draw.randint(len(messages) // 2, len(messages))
        messages = messages[:end] + [(f"fin {way}", b"")] + [message for message in messages[end:] if message[0] != way]
    return messages


def pieces(draw: random.Random, messages: list[Message], most_bytes: int = 60) -> Iterator[Message]:
    """The same messages, cut anywhere."""
    for what, data in messages:
        at = 0
        while at < len(data):
            size = draw.choice((1, 2, most_bytes, len(data))) if draw.random() < 0.3 else draw.randint(1, most_bytes)
            yield what, data[at : at + size]
            at += size
        if not data:
            yield what, data


def _message(draw: random.Random, kind: tuple[str, Make]) -> Message:
    what, make = kind
    data = make(draw)
    while draw.random() < 0.15:
        data = _damaged(draw, data)
    return what, data or b"\0"


def _damaged(draw: random.Random, data: bytes) -> bytes:
    at = draw.randint(0, len(data))
    until = min(len(data), at + draw.randint(1, 20))
    new = draw.choice((b"", draw.randbytes(draw.randint(1, 9)), data[at:until] * 2, b"\r\n", b"\n", b"\0", b"\xc3\xa9"))
    return data[:at] + new + data[until:]


def _head(draw: random.Random, first: bytes) -> bytes:
    fields = draw.sample(FIELDS, draw.randint(0, 2)) if draw.random() < 0.7 else []
    if draw.random() < 0.5:
        fields.append(b"Content-Length: " + draw.choice(LENGTHS))
    if draw.random() < 0.4:
        fields.append(b"Transfer-Encoding: " + draw.choice(CODINGS))
    return b"\r\n".join([first, *fields, b"", b""])


def _request(draw: random.Random) -> bytes:
    line = draw.choice(METHODS) + b" " + draw.choice((b"/", b"*", b"/\xff", b"")) + b" " + draw.choice(VERSIONS)
    return _head(draw, line + b"\r\nHost: x") + draw.choice((b"", b"hello", _chunks(draw)))


def _response(draw: random.Random) -> bytes:
    line = draw.choice(VERSIONS[:3]) + b" " + draw.choice(STATUSES) + b" Some\tReason"
    return _head(draw, line) + draw.choice((b"", b"ok", b"hello", _chunks(draw)))


def _chunks(draw: random.Random) -> bytes:
    """Chunks, most of them right, some with a size that is none."""
    good = [chunk(draw.choice((b"hello", "thére".encode(), b"x" * 200))) for _ in range(draw.randint(0, 4))]
    bad = [draw.choice(SIZES) + b"\r\nhello\r\n"] if draw.random() < 0.3 else []
    return b"".join(good + bad + [draw.choice((b"0\r\n\r\n", b"0\r\nTrailer: x\r\n\r\n", b"", b"0\r\n"))])


def _frames(draw: random.Random) -> bytes:
    """WebSocket frames by their form: any opcode, lengths that never come."""
    data = b""
    for _ in range(draw.randint(1, 3)):
        length = draw.choice((0, 5, 125, 126, 127))
        data += bytes([draw.randrange(256), length | draw.choice((0, 0x80))])
        data += draw.randbytes({126: 2, 127: 8}.get(length, 0)) + draw.randbytes(draw.randint(0, 130))
    return data


_ASK_GZIP = REQUEST.replace(b"\r\n\r\n", b"\r\nAccept-Encoding: gzip\r\n\r\n")
_UP: list[tuple[str, Make]] = [
    ("up", _request),
    ("up", lambda draw: REQUEST * draw.randint(1, 3)),
    ("up", lambda _: REQUEST),
    ("up", lambda _: _ASK_GZIP),
    ("up", lambda _: UPGRADE),
    ("up", lambda draw: UPGRADE + _frames(draw)),
    ("up", lambda draw: CHUNKED_POST + _chunks(draw)),
    ("up", lambda draw: b"\r\n" * draw.randint(1, 4) + REQUEST),
    ("up", lambda draw: draw.randbytes(draw.randint(1, 50))),
]
_DOWN: list[tuple[str, Make]] = [
    ("down", _response),
    ("down", lambda draw: CHUNKED_HEAD + _chunks(draw)),
    ("down", lambda draw: HINTS + CHUNKED_HEAD + _chunks(draw)),
    ("down", lambda draw: CHUNKED_HEAD.replace(b"event-stream", b"html") + _chunks(draw)),
    ("down", lambda draw: OK * draw.randint(1, 2)),
    ("down", lambda draw: CLOSE_HEAD + draw.randbytes(20)),
    ("down", lambda draw: SWITCHING + _frames(draw)),
    ("down", lambda draw: draw.randbytes(draw.randint(1, 50))),
]

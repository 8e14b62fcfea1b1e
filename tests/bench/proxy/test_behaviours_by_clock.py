"""Every behaviour as a table: what goes in at what time, and what comes out when. No socket, no waiting."""

from __future__ import annotations

import gzip
import random
import zlib
from typing import Any, Literal

import msgspec
import pytest
from support.proxies import CHUNKED_HEAD, CLOSE_HEAD, OK, REQUEST, SWITCHING, UPGRADE, Clockwork, chunk
from websockets.frames import BINARY, CLOSE, TEXT, Close, Frame

from bench.proxy.behaviours import (
    BEHAVIOURS,
    Bandwidth,
    Cache,
    ChunkedTruncation,
    Coalescing,
    Cut,
    CutAll,
    FirstByteTimeout,
    GzipHoldback,
    HeadHoldback,
    IdleTimeout,
    KeepaliveTimeout,
    Latency,
    MaxAge,
    MaxDuration,
    MaxRequests,
    Nagle,
    Noop,
    Refuse,
    ResponseBuffering,
    Slicing,
    SlowClose,
    Unreachable,
    Upgrade,
    Upstreams,
    WebsocketClose,
)
from bench.proxy.behaviours.cache import MAX_RESPONSES, Responses
from bench.proxy.behaviours.response_buffering import MAX_HELD_BYTES
from bench.proxy.behaviours.websocket_close import FrameBoundaries
from bench.proxy.http_bytes import closing, plain_response
from bench.proxy.rule import Rule
from bench.proxy.stage import Common

Steps = list[tuple[float, str, bytes]]
Seen = list[tuple[float, str, Any]]
END = b"0\r\n\r\n"
HELLO, THERE = chunk(b"hello"), chunk("thére".encode())


def text(data: bytes) -> bytes:
    return Frame(TEXT, data).serialize(mask=False)


def same(*steps: tuple[float, str, bytes]) -> Seen:
    """What passes unchanged."""
    return list(steps)


def aged(age_s: int) -> bytes:
    """The head of the stream as a cache gives it."""
    return CHUNKED_HEAD.replace(b"OK\r\n", b"OK\r\nAge: %d\r\n" % age_s)


def answered(at_s: float, status: int, by: str) -> Seen:
    return [(at_s, "fin", by), (at_s, "down", plain_response(status)), (at_s, "fin down", b"")]


def cut(at_s: float, action: str, by: str) -> Seen:
    return [(at_s, action, by)] + ([(at_s, "fin down", b"")] if action == "fin" else [])


TALK: Steps = [(1, "up", b"a"), (2, "down", b"b"), (3, "fin up", b""), (4, "fin down", b"")]
ASK: Steps = [(0, "up", REQUEST)]
STREAM: Steps = [
    (0, "up", REQUEST),
    (1, "down", CHUNKED_HEAD),
    (2, "down", HELLO),
    (3, "down", THERE),
    (4, "down", END),
]
LEASE = (0, "lease", None)
WITH_COOKIE = b"GET / HTTP/1.1\r\nHost: x\r\nCookie: a=b; SERVERID=0\r\n\r\n"
AGAIN = (10.0, "up", REQUEST)
CONTINUE, HINTS = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
CLOSING = OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")
SOCKET: Steps = [(0, "up", UPGRADE), (1, "down", SWITCHING)]

CASES: list[tuple[str, Rule, Steps, Seen]] = [
    ("noop", Noop(), TALK, same(*TALK)),
    # idle_timeout
    ("idle from the start", IdleTimeout(idle_timeout_s=60), [], cut(60, "fin", "idle_timeout")),
    (
        "idle, either side resets",
        IdleTimeout(idle_timeout_s=60),
        [(59, "up", b"a"), (118, "down", b"b")],
        [(59, "up", b"a"), (118, "down", b"b"), *cut(178, "fin", "idle_timeout")],
    ),
    (
        "idle, only the server resets",
        IdleTimeout(idle_timeout_s=60, reset_by="down", action="rst"),
        [(30, "down", b"b"), (59, "up", b"a")],
        [(30, "down", b"b"), (59, "up", b"a"), *cut(90, "rst", "idle_timeout")],
    ),
    (
        "idle, only the client resets",
        IdleTimeout(idle_timeout_s=60, reset_by="up", action="black_hole"),
        [(30, "up", b"a"), (59, "down", b"b")],
        [(30, "up", b"a"), (59, "down", b"b"), *cut(90, "black_hole", "idle_timeout")],
    ),
    (
        "idle, each side by itself",
        IdleTimeout(idle_timeout_s=60, reset_by="each"),
        [(30, "up", b"a"), (40, "down", b"b"), (80, "down", b"b")],
        [(30, "up", b"a"), (40, "down", b"b"), (80, "down", b"b"), *cut(90, "fin", "idle_timeout")],
    ),
    (
        "idle before the response: a status",
        IdleTimeout(idle_timeout_s=60, status=504),
        ASK,
        [*ASK, *answered(60, 504, "idle_timeout")],
    ),
    (
        "idle in the response: no status, no last chunk",
        IdleTimeout(idle_timeout_s=60, status=504),
        STREAM[:3],
        [*STREAM[:3], *cut(62, "fin", "idle_timeout")],
    ),
    (
        "idle after the response, whole connection",
        IdleTimeout(idle_timeout_s=60, status=504),
        STREAM,
        [*STREAM, *cut(64, "fin", "idle_timeout")],
    ),
    ("idle after the response, only requests count", IdleTimeout(idle_timeout_s=60, scope="request"), STREAM, STREAM),
    (
        "idle in a second request",
        IdleTimeout(idle_timeout_s=60, scope="request", status=524),
        [*STREAM, (100, "up", REQUEST)],
        [*STREAM, (100, "up", REQUEST), *answered(160, 524, "idle_timeout")],
    ),
    (
        "idle WebSocket, though requests may idle",
        IdleTimeout(idle_timeout_s=60, scope="websocket"),
        [*SOCKET, (30, "down", text(b"hi"))],
        [*SOCKET, (30, "down", text(b"hi")), *cut(90, "fin", "idle_timeout")],
    ),
    ("a WebSocket is no request", IdleTimeout(idle_timeout_s=60, scope="request"), SOCKET, SOCKET),
    (
        "idle within a response, which may be late itself",
        IdleTimeout(idle_timeout_s=60, scope="response", reset_by="down"),
        [*ASK, (100, "down", STREAM[1][2])],
        [*ASK, (100, "down", STREAM[1][2]), *cut(160, "fin", "idle_timeout")],
    ),
    (
        "a response that is over is not idle",
        IdleTimeout(idle_timeout_s=60, scope="response"),
        [*ASK, (100, "down", OK)],
        [*ASK, (100, "down", OK[:-2]), (100, "down", b"ok")],
    ),
    (
        "plain TCP counts as a WebSocket",
        IdleTimeout(idle_timeout_s=60, scope="websocket"),
        [(5, "up", b"hello")],
        [(5, "up", b"hello"), *cut(65, "fin", "idle_timeout")],
    ),
    (
        "idle after an interim response: still a status",
        IdleTimeout(idle_timeout_s=60, status=504),
        [*ASK, (1, "down", CONTINUE), (2, "down", HINTS)],
        [*ASK, (1, "down", CONTINUE), (2, "down", HINTS), *answered(62, 504, "idle_timeout")],
    ),
    (
        "idle, of two pipelined requests the second counts from its turn on",
        IdleTimeout(idle_timeout_s=60, scope="request", reset_by="down", status=504),
        [*ASK, (50, "up", REQUEST), (59, "down", OK)],
        [*ASK, (59, "down", OK[:-2]), (59, "down", b"ok"), (59, "up", REQUEST), *answered(119, 504, "idle_timeout")],
    ),
    # keepalive_timeout
    (
        "keep-alive does not touch an upload whose answer came early",
        KeepaliveTimeout(keepalive_timeout_s=75),
        [(0, "up", UPLOAD), (1, "down", OK), (100, "up", b"hello"), (101, "down", b"")],
        [
            (0, "up", UPLOAD),
            (1, "down", OK[:-2]),
            (1, "down", b"ok"),
            (100, "up", b"hello"),
            *cut(175, "fin", "keepalive_timeout"),
        ],
    ),
    (
        "keep-alive over",
        KeepaliveTimeout(keepalive_timeout_s=75),
        [*STREAM, (70, "up", REQUEST), (71, "down", OK)],
        [
            *STREAM,
            (70, "up", REQUEST),
            (71, "down", OK[:-2]),
            (71, "down", b"ok"),
            *cut(146, "fin", "keepalive_timeout"),
        ],
    ),
    ("keep-alive does not touch a slow response", KeepaliveTimeout(keepalive_timeout_s=75), STREAM[:3], STREAM[:3]),
    (
        "keep-alive does not touch what is no HTTP any more",
        KeepaliveTimeout(keepalive_timeout_s=75),
        [*STREAM, (10, "up", b"\x16\x03\x01 no request\r\n\r\n"), (300, "down", b"x")],
        [*STREAM, (10, "up", b"\x16\x03\x01 no request\r\n\r\n"), (300, "down", b"x")],
    ),
    # max_age
    (
        "an old connection's next response is its last",
        MaxAge(max_age_s=10),
        [*STREAM, (20, "up", REQUEST), (21, "down", OK)],
        [
            *STREAM,
            (20, "up", REQUEST),
            (21, "down", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"),
            (21, "down", b"ok"),
            *cut(21, "fin", "max_age"),
        ],
    ),
    ("age alone closes nothing", MaxAge(max_age_s=10), STREAM, STREAM),
    # max_requests
    (
        "the response to the last request that is granted is the last",
        MaxRequests(max_requests=2),
        [*STREAM, (20, "up", REQUEST), (21, "down", OK)],
        [
            *STREAM,
            (20, "up", REQUEST),
            (21, "down", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"),
            (21, "down", b"ok"),
            *cut(21, "fin", "max_requests"),
        ],
    ),
    ("fewer requests close nothing", MaxRequests(max_requests=2), STREAM, STREAM),
    # max_duration
    (
        "duration of a request, however active",
        MaxDuration(max_duration_s=2.5, status=504),
        STREAM,
        [*STREAM[:3], *cut(2.5, "fin", "max_duration")],
    ),
    (
        "duration before a response",
        MaxDuration(max_duration_s=30, status=504),
        ASK,
        [*ASK, *answered(30, 504, "max_duration")],
    ),
    (
        "duration before a response, after an interim one",
        MaxDuration(max_duration_s=30, status=504),
        [*ASK, (1, "down", HINTS)],
        [*ASK, (1, "down", HINTS), *answered(30, 504, "max_duration")],
    ),
    (
        "duration of the first of two pipelined requests",
        MaxDuration(max_duration_s=30, status=504),
        [*ASK, (29, "up", REQUEST)],
        [*ASK, *answered(30, 504, "max_duration")],
    ),
    ("a request that became a WebSocket has ended", MaxDuration(max_duration_s=30), SOCKET, SOCKET),
    ("duration not reached", MaxDuration(max_duration_s=30), STREAM, STREAM),
    (
        "duration of the connection",
        MaxDuration(max_duration_s=3.5, scope="connection", action="rst"),
        STREAM,
        [*STREAM[:4], *cut(3.5, "rst", "max_duration")],
    ),
    (
        "duration of a WebSocket",
        MaxDuration(max_duration_s=30, scope="websocket"),
        SOCKET,
        [*SOCKET, *cut(31, "fin", "max_duration")],
    ),
    # first_byte_timeout
    (
        "no first byte",
        FirstByteTimeout(first_byte_timeout_s=30, status=503),
        ASK,
        [*ASK, *answered(30, 503, "first_byte_timeout")],
    ),
    (
        "no first byte, an interim response is none",
        FirstByteTimeout(first_byte_timeout_s=30, status=503),
        [*ASK, (1, "down", CONTINUE)],
        [*ASK, (1, "down", CONTINUE), *answered(30, 503, "first_byte_timeout")],
    ),
    (
        "no first byte of the second of two pipelined requests",
        FirstByteTimeout(first_byte_timeout_s=30),
        [*ASK, (1, "up", REQUEST), (20, "down", OK)],
        [
            *ASK,
            (20, "down", OK[:-2]),
            (20, "down", b"ok"),
            (20, "up", REQUEST),
            *answered(50, 504, "first_byte_timeout"),
        ],
    ),
    ("a first byte, then nothing", FirstByteTimeout(first_byte_timeout_s=30), STREAM[:2], STREAM[:2]),
    # response_buffering
    (
        "held until complete",
        ResponseBuffering(until_complete=True),
        STREAM,
        [ASK[0], (4, "down", CHUNKED_HEAD + HELLO + THERE + END)],
    ),
    (
        "held until the server closes",
        ResponseBuffering(until_complete=True),
        [*ASK, (1, "down", CLOSE_HEAD), (2, "down", b"hello"), (3, "fin down", b"")],
        [*ASK, (3, "down", CLOSE_HEAD + b"hello"), (3, "fin down", b"")],
    ),
    (
        "held in whole buffers",
        ResponseBuffering(buffer_bytes=100),
        [*ASK, (1, "down", CLOSE_HEAD), (2, "down", b"x" * 120), (3, "down", b"y" * 10), (4, "fin down", b"")],
        [
            *ASK,
            (2, "down", (CLOSE_HEAD + b"x" * 120)[:100]),
            (4, "down", (CLOSE_HEAD + b"x" * 120)[100:] + b"y" * 10),
            (4, "fin down", b""),
        ],
    ),
    (
        "held for a time",
        ResponseBuffering(flush_s=1.5),
        STREAM,
        [*ASK, (2.5, "down", CHUNKED_HEAD + HELLO), (4, "down", THERE + END)],
    ),
    ("chunks pass", ResponseBuffering(buffer_bytes=4096, chunked="pass"), STREAM, STREAM),
    (
        "X-Accel-Buffering: no is honoured",
        ResponseBuffering(until_complete=True, honour_x_accel_buffering=True),
        [*ASK, (1, "down", b"HTTP/1.1 200 OK\r\nX-Accel-Buffering: no\r\n\r\n"), (2, "down", b"hello")],
        [*ASK, (1, "down", b"HTTP/1.1 200 OK\r\nX-Accel-Buffering: no\r\n\r\n"), (2, "down", b"hello")],
    ),
    ("other content passes", ResponseBuffering(until_complete=True, content_types=("text/html",)), STREAM, STREAM),
    (
        "the first bytes held, and no more than those",
        ResponseBuffering(first_bytes=len(HELLO) + 1),
        STREAM,
        [*ASK, (3, "down", CHUNKED_HEAD + HELLO + THERE), (4, "down", END)],
    ),
    (
        "fewer than the first bytes: held to the end",
        ResponseBuffering(first_bytes=1024),
        STREAM,
        [*ASK, (4, "down", CHUNKED_HEAD + HELLO + THERE + END)],
    ),
    (
        "the first bytes held for a time, and no more than those",
        ResponseBuffering(first_bytes=1024, flush_s=1.5),
        STREAM,
        [*ASK, (2.5, "down", CHUNKED_HEAD + HELLO), *STREAM[3:]],
    ),
    # head_holdback
    ("the head waits for the body", HeadHoldback(), STREAM, [*ASK, (2, "down", CHUNKED_HEAD + HELLO), *STREAM[3:]]),
    (
        "a head without a body waits for nothing",
        HeadHoldback(),
        [*ASK, (1, "down", EMPTY), (2, "up", REQUEST), (3, "down", CHUNKED_HEAD), (4, "down", HELLO)],
        [*ASK, (1, "down", EMPTY), (2, "up", REQUEST), (4, "down", CHUNKED_HEAD + HELLO)],
    ),
    (
        "the head waits for an end as well",
        HeadHoldback(),
        [*ASK, (1, "down", CLOSE_HEAD), (3, "fin down", b"")],
        [*ASK, (3, "down", CLOSE_HEAD), (3, "fin down", b"")],
    ),
    ("an upgrade has no body to wait for", HeadHoldback(), SOCKET, SOCKET),
    ("an interim response is no head", HeadHoldback(), [*ASK, (1, "down", HINTS)], [*ASK, (1, "down", HINTS)]),
    # limited to some exchanges
    (
        "first byte: POSTs may be late where GETs may not",
        FirstByteTimeout(first_byte_timeout_s=30, methods=("GET",)),
        [(0, "up", UPLOAD + b"hello"), (40, "down", OK), (50, "up", REQUEST)],
        [
            (0, "up", UPLOAD),
            (0, "up", b"hello"),
            (40, "down", OK[:-2]),
            (40, "down", b"ok"),
            (50, "up", REQUEST),
            *answered(80, 504, "first_byte_timeout"),
        ],
    ),
    ("buffering of other methods", ResponseBuffering(until_complete=True, methods=("POST",)), STREAM, STREAM),
    ("head of other content", HeadHoldback(content_types=("application/json",)), STREAM, STREAM),
    ("other methods may be idle", IdleTimeout(idle_timeout_s=9, scope="request", methods=("POST",)), ASK, ASK),
    ("other methods may last", MaxDuration(max_duration_s=9, methods=("POST",)), STREAM[:3], STREAM[:3]),
    (
        "cut in responses of a type, and never in what is no response",
        Cut(action="rst", after_bytes=10, since="response", content_types=("text/html",)),
        [*STREAM, (5, "up", UPGRADE), (6, "down", SWITCHING), (7, "down", text(b"hello there"))],
        [*STREAM, (5, "up", UPGRADE), (6, "down", SWITCHING), (7, "down", text(b"hello there"))],
    ),
    ("a WebSocket is not buffered", ResponseBuffering(until_complete=True), SOCKET, SOCKET),
    # cut
    (
        "FIN behind so many bytes",
        Cut(action="fin", after_bytes=3),
        [(1, "down", b"ab"), (2, "down", b"cd")],
        [(1, "down", b"ab"), (2, "down", b"c"), *cut(2, "fin", "cut")],
    ),
    ("RST after a time", Cut(action="rst", after_s=5), TALK[:2], [*TALK[:2], *cut(5, "rst", "cut")]),
    (
        "bytes counted per response",
        Cut(action="rst", after_bytes=len(CHUNKED_HEAD) + 12, since="response"),
        [*ASK, (1, "down", OK), (2, "up", REQUEST), (3, "down", CHUNKED_HEAD), (4, "down", HELLO + THERE)],
        [
            *ASK,
            (1, "down", OK[:-2]),
            (1, "down", b"ok"),
            (2, "up", REQUEST),
            (3, "down", CHUNKED_HEAD),
            (4, "down", (HELLO + THERE)[:12]),
            *cut(4, "rst", "cut"),
        ],
    ),
    (
        "bytes counted on where a response cannot be followed any more",
        Cut(action="rst", after_bytes=len(CHUNKED_HEAD) + len(HELLO) + 10, since="response"),
        [*ASK, (1, "down", CHUNKED_HEAD), (2, "down", HELLO + b"nonsense\r\nand more")],
        [
            *ASK,
            (1, "down", CHUNKED_HEAD),
            (2, "down", HELLO),
            (2, "down", b"nonsense\r\n"),
            *cut(2, "rst", "cut"),
        ],
    ),
    (
        "bytes counted where the server speaks first",
        Cut(action="rst", after_bytes=10, since="response"),
        [(1, "down", b"220 ready"), (2, "down", b"220 ready")],
        [(1, "down", b"220 ready"), (2, "down", b"2"), *cut(2, "rst", "cut")],
    ),
    ("never, with probability 0", Cut(action="rst", after_s=5, probability=0), TALK, TALK),
    # cache
    (
        "the same again from the cache, until it is too old",
        Cache(max_age_s=60),
        [*STREAM, (10, "up", REQUEST), (65, "up", REQUEST)],
        [*STREAM, (10, "down", aged(6)), (10, "down", HELLO + THERE + END), (65, "up", REQUEST)],
    ),
    (
        "an upgrade is not answered from the cache",
        Cache(max_age_s=60),
        [(0, "up", UPGRADE), (1, "down", OK), (10, "up", UPGRADE)],
        [(0, "up", UPGRADE), (1, "down", OK[:-2]), (1, "down", b"ok"), (10, "up", UPGRADE)],
    ),
    (
        "a response that ends its connection is not kept, as those who get it from the cache keep theirs",
        Cache(max_age_s=60),
        [(0, "up", REQUEST), (1, "down", CLOSING[:-2]), (1, "down", b"ok"), AGAIN],
        [(0, "up", REQUEST), (1, "down", CLOSING[:-2]), (1, "down", b"ok"), AGAIN],
    ),
    ("what the cache is not for", Cache(max_age_s=60, methods=("POST",)), [*STREAM, AGAIN], [*STREAM, AGAIN]),
    ("what is too large to keep", Cache(max_age_s=60, max_bytes=99), [*STREAM, AGAIN], [*STREAM, AGAIN]),
    (
        "another type",
        Cache(max_age_s=60, content_types=("application/json",)),
        [*STREAM, AGAIN],
        [*STREAM, AGAIN],
    ),
    (
        "the body of a request that was answered goes nowhere",
        Cache(max_age_s=60, methods=("POST",)),
        [(0, "up", UPLOAD + b"hello"), (1, "down", OK), (2, "up", UPLOAD), (3, "up", b"hello"), (4, "up", REQUEST)],
        [
            (0, "up", UPLOAD),
            (0, "up", b"hello"),
            (1, "down", OK[:-2]),
            (1, "down", b"ok"),
            (2, "down", OK[:-2].replace(b"OK\r\n", b"OK\r\nAge: 1\r\n")),
            (2, "down", b"ok"),
            (4, "up", REQUEST),
        ],
    ),
    # cut_all
    ("cut at a moment", CutAll(at_s=5, action="rst"), TALK[:2], [*TALK[:2], *cut(5, "rst", "cut_all")]),
    ("all become black holes", CutAll(at_s=5, action="black_hole"), [], cut(5, "black_hole", "cut_all")),
    ("a moment that is over", CutAll(at_s=0), TALK, TALK),
    ("again and again", CutAll(at_s=0, every_s=7), [], cut(7, "fin", "cut_all")),
    (
        "after a grace, in mid-response, which says that it is the last",
        CutAll(at_s=0.5, grace_s=2),
        STREAM,
        [*ASK, (1, "down", closing(CHUNKED_HEAD)), (2, "down", HELLO), *cut(2.5, "fin", "cut_all")],
    ),
    (
        "in the grace, behind the response",
        CutAll(at_s=2.5, grace_s=20),
        STREAM,
        [*STREAM, *cut(4, "fin", "cut_all")],
    ),
    ("a grace is not for who waits", CutAll(at_s=9, grace_s=20), STREAM, [*STREAM, *cut(9, "fin", "cut_all")]),
    ("a grace for who has not asked yet", CutAll(at_s=9, grace_s=20), [], cut(29, "fin", "cut_all")),
    (
        "a grace for a WebSocket",
        CutAll(at_s=9, grace_s=20, action="rst"),
        SOCKET,
        [*SOCKET, *cut(29, "rst", "cut_all")],
    ),
    # refuse
    ("refused", Refuse(), [], cut(0, "rst", "refuse")),
    ("refused by FIN", Refuse(mode="fin"), [], cut(0, "fin", "refuse")),
    ("not refused", Refuse(probability=0), TALK, TALK),
    ("503", Refuse(mode="status"), ASK, answered(0, 503, "refuse")),
    # latency
    (
        "later by as much, both ways, order and end too",
        Latency(latency_ms=1500),
        TALK,
        [(2.5, "up", b"a"), (3.5, "down", b"b"), (4.5, "fin up", b""), (5.5, "fin down", b"")],
    ),
    ("later one way", Latency(latency_ms=500, way="down"), TALK[:2], [(1, "up", b"a"), (2.5, "down", b"b")]),
    # bandwidth: 8 kbit/s is 1000 bytes/s
    (
        "at the rate",
        Bandwidth(rate_kbit=8, way="down"),
        [(0, "down", b"x" * 500), (0.1, "down", b"y" * 500), (0.2, "fin down", b""), (0.3, "up", b"a")],
        [(0.3, "up", b"a"), (0.5, "down", b"x" * 500), (1, "down", b"y" * 500), (1, "fin down", b"")],
    ),
    (
        "a burst first",
        Bandwidth(rate_kbit=8, burst_bytes=500, way="down"),
        [(1, "down", b"x" * 500), (1.1, "down", b"y" * 200)],
        [(1, "down", b"x" * 500), (1.2, "down", b"y" * 200)],
    ),
    # slicing
    (
        "sliced",
        Slicing(slice_bytes=2, delay_ms=10),
        [(0, "down", b"abcde"), (0, "fin down", b"")],
        [(0.0, "down", b"ab"), (0.01, "down", b"cd"), (0.02, "down", b"e"), (0.02, "fin down", b"")],
    ),
    # nagle
    (
        "small pieces wait for the acknowledgement that is late, until the receiver says something",
        Nagle(),
        [(0, "down", b"0"), (0.01, "down", b"1"), (0.06, "up", b"x"), (0.08, "down", b"2"), (0.09, "down", b"3")],
        [(0, "down", b"0"), (0.04, "down", b"1"), (0.06, "up", b"x"), (0.08, "down", b"2"), (0.12, "down", b"3")],
    ),
    (
        "small pieces behind an acknowledgement that was late go on at once",
        Nagle(),
        [(0, "down", b"0"), (0.01, "down", b"1"), (0.05, "down", b"2"), (0.06, "down", b"3")],
        [(0, "down", b"0"), (0.04, "down", b"1"), (0.05, "down", b"2"), (0.06, "down", b"3")],
    ),
    (
        "small pieces wait for each acknowledgement, the first does not",
        Nagle(late_acks="all"),
        [(i / 100, "down", bytes([48 + i])) for i in range(10)],
        [(0, "down", b"0"), (0.04, "down", b"123"), (0.08, "down", b"4567"), (0.12, "down", b"89")],
    ),
    ("pieces that are far enough apart", Nagle(), TALK, TALK),
    (
        "an acknowledgement that comes with data, and the end",
        Nagle(),
        [(0, "down", b"a"), (0.01, "down", b"b"), (0.02, "up", b"x"), (0.03, "down", b"c"), (0.035, "fin down", b"")],
        [
            (0, "down", b"a"),
            (0.02, "up", b"x"),
            (0.02, "down", b"b"),
            (0.035, "down", b"c"),
            (0.035, "fin down", b""),
        ],
    ),
    (
        "a whole segment waits for none, and the second is acknowledged at once",
        Nagle(segment_bytes=3, way="up"),
        [(0, "up", b"a"), (0.01, "up", b"bcde"), (0.02, "up", b"f"), (0.03, "up", b"ghi"), (0.05, "down", b"z")],
        [(0, "up", b"a"), (0.01, "up", b"bcd"), (0.03, "up", b"efghi"), (0.05, "down", b"z")],
    ),
    # coalescing
    (
        "joined",
        Coalescing(coalesce_ms=200),
        [(0, "down", b"a"), (0.1, "down", b"b"), (0.3, "down", b"c"), (0.4, "fin down", b"")],
        [(0.2, "down", b"ab"), (0.4, "down", b"c"), (0.4, "fin down", b"")],
    ),
    (
        "joined up to a size",
        Coalescing(coalesce_ms=200, coalesce_bytes=3, way="both"),
        [(0, "up", b"ab"), (0.1, "up", b"cd"), (0.15, "up", b"e")],
        [(0.1, "up", b"abcd"), (0.35, "up", b"e")],
    ),
    # slow_close
    (
        "closed late",
        SlowClose(close_delay_s=10),
        TALK,
        [(1, "up", b"a"), (2, "down", b"b"), (3, "fin up", b""), (14, "fin down", b"")],
    ),
    # upgrade
    ("upgrade refused", Upgrade(), [(0, "up", UPGRADE)], answered(0, 403, "upgrade")),
    (
        "upgrade stripped",
        Upgrade(action="strip"),
        [(0, "up", UPGRADE)],
        [(0, "up", b"GET /chat HTTP/1.1\r\nHost: x\r\n\r\n")],
    ),
    ("no upgrade, no refusal", Upgrade(), ASK, ASK),
    (
        "the second of two pipelined requests refused, behind the first one's answer",
        Upgrade(),
        [(0, "up", REQUEST + UPGRADE), (1, "down", OK)],
        [*ASK, (1, "down", OK[:-2]), (1, "down", b"ok"), *answered(1, 403, "upgrade")],
    ),
    # upstreams
    ("a server for each connection", Upstreams(), TALK, TALK),
    (
        "a server for each request, from its first byte to the end of the exchange",
        Upstreams(each="request"),
        [*STREAM, (9, "up", REQUEST), (9, "down", OK)],
        [
            LEASE,
            *STREAM,
            (4, "release", b""),
            (9, "lease", None),
            (9, "up", REQUEST),
            (9, "down", OK[:-2]),
            (9, "down", b"ok"),
            (9, "release", b""),
        ],
    ),
    (
        "a server that closes behind its response is kept to that",
        Upstreams(each="request"),
        [*ASK, (1, "down", CLOSE_HEAD), (2, "down", b"hello"), (3, "fin down", b"")],
        [LEASE, *ASK, (1, "down", CLOSE_HEAD), (2, "down", b"hello"), (3, "fin down", b"")],
    ),
    ("a WebSocket keeps its server", Upstreams(each="request"), SOCKET, [LEASE, *SOCKET]),
    (
        "a cookie for who has none, and its server for who has one",
        Upstreams(each="request", sticky="cookie"),
        [*ASK, (1, "down", OK), (2, "up", WITH_COOKIE), (3, "down", OK)],
        [
            LEASE,
            *ASK,
            (1, "down", OK[:-2].replace(b"OK\r\n", b"OK\r\nSet-Cookie: SERVERID=0; Path=/; HttpOnly\r\n")),
            (1, "down", b"ok"),
            (1, "release", b""),
            (2, "lease", 0),
            (2, "up", WITH_COOKIE),
            (3, "down", OK[:-2]),
            (3, "down", b"ok"),
            (3, "release", b""),
        ],
    ),
    # chunked_truncation
    (
        "no last chunk",
        ChunkedTruncation(),
        STREAM,
        [*STREAM[:4], (4, "down", b""), *cut(4, "fin", "chunked_truncation")],
    ),
    (
        "stops between chunks",
        ChunkedTruncation(where="chunk_boundary"),
        [*STREAM[:2], (2, "down", HELLO + THERE)],
        [*STREAM[:2], (2, "down", HELLO), *cut(2, "fin", "chunked_truncation")],
    ),
    (
        "stops in a chunk",
        ChunkedTruncation(where="inside_chunk", after_chunks=2),
        STREAM,
        [*STREAM[:3], (3, "down", THERE[:-3]), *cut(3, "fin", "chunked_truncation")],
    ),
    (
        "stops in a chunk that comes in pieces",
        ChunkedTruncation(where="inside_chunk", after_chunks=2),
        [*STREAM[:3], (3, "down", THERE[:-2]), (4, "down", THERE[-2:])],
        [*STREAM[:3], (3, "down", THERE[:-3]), *cut(3, "fin", "chunked_truncation")],
    ),
    (
        "no last chunk, not even half of it",
        ChunkedTruncation(),
        [*STREAM[:4], (4, "down", END[:1]), (5, "down", END[1:])],
        [*STREAM[:4], *cut(5, "fin", "chunked_truncation")],
    ),
    (
        "what might be the last chunk and is not, or is left behind",
        ChunkedTruncation(),
        [*STREAM[:3], (3, "down", b"0"), (4, "down", b"5\r\nthere\r\n"), (5, "down", b"0"), (6, "fin down", b"")],
        [*STREAM[:3], (4, "down", b"05\r\nthere\r\n"), (6, "down", b"0"), (6, "fin down", b"")],
    ),
    (
        "stops in a character",
        ChunkedTruncation(where="inside_character"),
        STREAM,
        [*STREAM[:3], (3, "down", b"6\r\nth\xc3"), *cut(3, "fin", "chunked_truncation")],
    ),
]


@pytest.mark.parametrize(("rule", "steps", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_behaviour(rule: Rule, steps: Steps, expected: Seen) -> None:
    seen = Clockwork(rule).play(steps)
    assert [step for step in seen if step[2] != b"" or step[1] not in ("up", "down")] == [
        step for step in expected if step[2] != b"" or step[1] not in ("up", "down")
    ]


def test_each_has_a_case() -> None:
    elsewhere = {"gzip_holdback", "websocket_close", "unreachable"}
    assert {case[1].name for case in CASES} | elsewhere == set(BEHAVIOURS)


@pytest.mark.parametrize(
    "rule",
    [
        ResponseBuffering(until_complete=True),
        ResponseBuffering(buffer_bytes=10**12),
        ResponseBuffering(first_bytes=10**12),
    ],
    ids=lambda rule: rule.words(),
)
def test_a_response_is_held_up_to_64_mib(rule: Rule) -> None:
    """Whatever a profile says: then it is passed on."""
    works = Clockwork(rule)
    works.play([*ASK, (0, "down", CLOSE_HEAD)], until_s=0)
    piece = bytes(1 << 22)
    for _ in range(MAX_HELD_BYTES // len(piece) + 1):
        works.chain.down(1, piece)
    assert sum(len(data) for _, what, data in works.seen if what == "down") >= MAX_HELD_BYTES


WORDS = random.Random(1).randbytes(1500).hex().encode()  # hardly compressible


@pytest.mark.parametrize("sync_flush", [False, True])
def test_gzip(sync_flush: bool) -> None:
    """Without a flush the compressor withholds tokens; the text arrives all the same."""
    tokens = [WORDS[i : i + 5] for i in range(0, len(WORDS), 5)]
    ask = REQUEST.replace(b"\r\n\r\n", b"\r\nAccept-Encoding: gzip\r\n\r\n")
    steps = [(0, "up", ask), (1, "down", CHUNKED_HEAD)]
    steps += [(2 + i, "down", chunk(token)) for i, token in enumerate(tokens)]
    steps += [(1000, "down", END)]
    seen = Clockwork(GzipHoldback(sync_flush=sync_flush, content_types=())).play(steps)
    head, *body = [data for _, what, data in seen if what == "down"]
    assert b"Content-Encoding: gzip" in head
    compressed = b"".join(piece.split(b"\r\n", 1)[1][:-2] for piece in body)
    assert gzip.decompress(compressed) == WORDS
    assert (len(body) >= len(tokens)) == sync_flush
    if not sync_flush:
        assert seen[3][0] > 100  # the gzip header comes at once, then long nothing


@pytest.mark.parametrize("step", [10_000, 1])
def test_gzip_ends_where_the_servers_framing_breaks(step: int) -> None:
    """What was compressed cannot be ended in order: the client must not take it for whole."""
    works = Clockwork(GzipHoldback(content_types=(), sync_flush=True))
    works.chain.up(0, REQUEST.replace(b"\r\n\r\n", b"\r\nAccept-Encoding: gzip\r\n\r\n"))
    data = CHUNKED_HEAD + HELLO + b"-6\r\nhello\r\n"
    for at in range(0, len(data), step):
        if not works.chain.stopped:
            works.chain.down(1, data[at : at + step])
    _, *body = [data for _, what, data in works.seen if what == "down"]
    compressed = b"".join(piece.split(b"\r\n", 1)[1][:-2] for piece in body)
    assert zlib.decompressobj(wbits=31).decompress(compressed) == b"hello"
    assert works.seen[-2:] == cut(1, "fin", "gzip_holdback")


def test_gzip_only_for_who_accepts_it() -> None:
    assert Clockwork(GzipHoldback(content_types=())).play(STREAM) == STREAM


@pytest.mark.parametrize(
    ("rule", "at_s"),
    [(WebsocketClose(after_s=30, close_code=1012, reason="bye"), 31), (WebsocketClose(idle_timeout_s=50), 60)],
    ids=["after a time", "after silence"],
)
def test_websocket_close(rule: WebsocketClose, at_s: float) -> None:
    frames = text(b"one") + Frame(BINARY, b"x" * 70_000).serialize(mask=False)
    seen = Clockwork(rule).play([*SOCKET, (10, "down", frames)])
    assert seen[3][:2] == (at_s, "up")  # masked with a random key
    assert seen[4:] == [(at_s, "down", close_frame(rule)), *cut(at_s, "fin", "websocket_close")]


def close_frame(rule: WebsocketClose) -> bytes:
    return Frame(CLOSE, Close(rule.close_code, rule.reason).serialize()).serialize(mask=False)


def test_websocket_close_waits_for_the_end_of_a_frame() -> None:
    frame = text(b"a long message")
    compressed = bytes([frame[0] | 0x40]) + frame[1:]  # permessage-deflate sets a reserved bit
    seen = Clockwork(WebsocketClose(after_s=30)).play(
        [*SOCKET, (20, "down", compressed[:5]), (40, "down", compressed[5:])]
    )
    assert [at_s for at_s, what, _ in seen if what == "fin"] == [40]


def test_websocket_close_waits_for_the_end_of_a_clients_frame_too() -> None:
    """Each way gets its Close at its first boundary, and nothing behind it."""
    rule = WebsocketClose(after_s=30)
    frame = Frame(TEXT, b"a long message").serialize(mask=True)
    steps = [(20, "up", frame[:5]), (32, "down", b"late"), (33, "up", frame[5:] + frame), (34, "up", frame)]
    seen = Clockwork(rule).play([*SOCKET, *steps])[2:]
    assert seen[:3] == [(20, "up", frame[:5]), (31, "down", close_frame(rule)), (33, "up", frame[5:])]
    assert seen[3][:2] == (33, "up")
    assert seen[3][2][:2] == b"\x88\x82"
    assert seen[4:] == cut(33, "fin", "websocket_close")


def test_websocket_close_does_not_wait_for_ever() -> None:
    rule = WebsocketClose(after_s=30)
    seen = Clockwork(rule).play([*SOCKET, (20, "up", b"\x81\xff" + b"\x7f" * 8)])
    assert seen[3:] == [(31, "down", close_frame(rule)), *cut(41, "fin", "websocket_close")]


def test_websocket_close_leaves_what_is_no_websocket_alone() -> None:
    steps = [(1, "down", b"220 ready\r\n"), (2, "up", b"hello")]
    assert Clockwork(WebsocketClose(after_s=30)).play(steps) == steps


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_frame_boundaries_agree_with_the_library(size: int, masked: bool) -> None:
    frames = [Frame(BINARY, b"x" * size).serialize(mask=masked), Frame(TEXT, b"hi").serialize(mask=masked)]
    data = b"".join(frames)
    assert FrameBoundaries().feed(data) == len(frames[0])
    boundaries, ends = FrameBoundaries(), []
    for at in range(len(data)):
        if boundaries.feed(data[at : at + 1]) is not None:
            ends.append(at + 1)
    assert ends == [len(frames[0]), len(data)]


STRIKES: list[tuple[Rule, Steps]] = [
    (Latency(latency_ms=5), TALK),
    (Bandwidth(rate_kbit=8), [(0, "down", b"x" * 500)]),
    (Slicing(slice_bytes=1), [(0, "down", b"ab")]),
    (Coalescing(coalesce_ms=5), TALK),
    (SlowClose(close_delay_s=5), TALK),
    (ResponseBuffering(buffer_bytes=100_000), STREAM),
    (Nagle(), [(0, "down", b"a"), (0, "down", b"b")]),
    (HeadHoldback(), STREAM),
    (Upgrade(action="strip"), SOCKET),
    (Upgrade(action="refuse"), SOCKET),
    (MaxAge(max_age_s=0.5), STREAM),
    (Upstreams(each="request", sticky="cookie"), STREAM),
    (IdleTimeout(idle_timeout_s=60), ASK),
    (Refuse(mode="status"), ASK),
    (GzipHoldback(content_types=()), [(0, "up", REQUEST[:-2] + b"Accept-Encoding: gzip\r\n\r\n"), *STREAM[1:]]),
    (ChunkedTruncation(where="inside_character"), STREAM),
]


@pytest.mark.parametrize(("rule", "steps"), STRIKES, ids=[rule.words() for rule, _ in STRIKES])
def test_a_behaviour_that_has_an_effect_says_so(rule: Rule, steps: Steps) -> None:
    works = Clockwork(rule)
    works.play(steps)
    assert works.chain.stages[0].struck


NO_STRIKES: list[tuple[Rule, Steps]] = [
    (Noop(), TALK),
    (Latency(latency_ms=0), TALK),
    (Nagle(), TALK),
    (SlowClose(close_delay_s=5), TALK[:2]),
    (ResponseBuffering(buffer_bytes=1), STREAM),
    (HeadHoldback(), [*ASK, (1, "down", OK)]),
    (Upgrade(action="strip"), ASK),
    (MaxAge(max_age_s=60), STREAM),
    (GzipHoldback(content_types=()), STREAM),
    (KeepaliveTimeout(keepalive_timeout_s=60), ASK),
    (ChunkedTruncation(where="inside_character"), [*STREAM[:2], (2, "down", chunk(b"th\\u00e9re")), STREAM[4]]),
]


@pytest.mark.parametrize(("rule", "steps"), NO_STRIKES, ids=[rule.words() for rule, _ in NO_STRIKES])
def test_a_behaviour_without_an_effect_does_not(rule: Rule, steps: Steps) -> None:
    works = Clockwork(rule)
    works.play(steps)
    assert not works.chain.stages[0].struck


@pytest.mark.parametrize("holder", [HeadHoldback(), ResponseBuffering(until_complete=True)], ids=lambda r: r.name)
def test_a_first_byte_counts_where_it_passes(holder: Rule) -> None:
    """On the client's side of what withholds the head, the limit strikes; on the server's side it does not."""
    early = [*ASK, (1, "down", CHUNKED_HEAD)]
    limit = FirstByteTimeout(first_byte_timeout_s=30)
    assert Clockwork(limit, holder).play(early) == [*ASK, *answered(30, 504, "first_byte_timeout")]
    assert Clockwork(holder, limit).play(early) == ASK


def test_a_cache_is_the_proxys_not_a_connections() -> None:
    rule, common, no_store = Cache(max_age_s=60), Common(), OK.replace(b"OK\r\n", b"OK\r\nCache-Control: no-store\r\n")
    page = [(0.0, "up", b"GET /a?from=0 HTTP/1.1\r\nHost: x\r\n\r\n"), (0.0, "down", no_store)]
    Clockwork(rule, common=common).play(page)
    seen = Clockwork(rule, common=common, at_s=9).play([(9, *page[0][1:])])
    assert [what for _, what, _ in seen] == ["down", "down"]
    other = [(9.0, "up", page[0][2].replace(b"from=0", b"from=1"))]
    assert Clockwork(rule, common=common, at_s=9).play(other) == other
    for honest in (Cache(max_age_s=60, honour_cache_control=True), Cache(max_age_s=60, ignore_query=True)):
        Clockwork(honest, common=common).play(page)
        seen = Clockwork(honest, common=common, at_s=9).play(other)
        assert [what for _, what, _ in seen] == (["up"] if honest.honour_cache_control else ["down", "down"])


def test_a_cache_holds_no_more_than_so_many() -> None:
    responses = Responses(60)
    for number in range(MAX_RESPONSES + 1):
        responses.put(0, b"GET /%d" % number, OK)
    assert responses.get(1, b"GET /0") is None
    assert responses.get(1, b"GET /1") == OK.replace(b"OK\r\n", b"OK\r\nAge: 1\r\n")


OUTAGE = CutAll(at_s=10, every_s=100, grace_s=5, outage_s=3)


@pytest.mark.parametrize("status", [None, 503])
@pytest.mark.parametrize(
    ("at_s", "served"), [(1, True), (14.5, True), (15, False), (17.9, False), (18, True), (116, False)]
)
def test_an_outage_behind_the_moment(at_s: float, served: bool, status: int | None) -> None:
    works = Clockwork(msgspec.structs.replace(OUTAGE, status=status), at_s=at_s)
    seen = works.play([(at_s, "up", REQUEST)], until_s=at_s)
    refused = answered(at_s, 503, "cut_all") if status else cut(at_s, "rst", "cut_all")
    assert seen == ([(at_s, "up", REQUEST)] if served else refused)


def test_moments_that_are_counted_anew() -> None:
    """As at the start of a cell's measured part: who was to be cut soon is cut then."""
    common = Common()
    works = Clockwork(CutAll(at_s=10), common=common)
    works.run_until(8)
    common.start_s = 7.0
    assert works.play([]) == cut(17, "fin", "cut_all")


POST = UPLOAD + b"hello"


@pytest.mark.parametrize(("retry", "request_bytes"), [("none", REQUEST), ("idempotent", POST)])
def test_a_request_that_its_server_lost_is_answered(retry: Literal["none", "idempotent"], request_bytes: bytes) -> None:
    works = Clockwork(Upstreams(each="request", retry=retry))
    works.play([(0, "up", request_bytes)], until_s=0)
    assert works.chain.abandoned(1)
    assert works.seen[-3:] == answered(1, 502, "upstreams")


def test_a_request_that_its_server_lost_is_sent_once_more_and_no_oftener() -> None:
    works = Clockwork(Upstreams(each="request", retry="idempotent"))
    works.play(ASK, until_s=0)
    assert works.chain.abandoned(1)
    assert works.seen == [LEASE, *ASK, (1, "lease fresh", None), (1, "up", REQUEST)]
    assert works.chain.abandoned(2)
    assert works.seen[-3:] == answered(2, 502, "upstreams")


def test_unreachable() -> None:
    works = Clockwork(Unreachable(status=502))
    assert works.chain.unreachable(0.0)
    assert works.play(ASK) == answered(0, 502, "unreachable")
    assert not Clockwork(Noop()).chain.unreachable(0.0)


def test_unreachable_for_what_is_not_http() -> None:
    works = Clockwork(Unreachable())
    works.chain.unreachable(0.0)
    assert works.play([(1, "up", b"hello")]) == cut(1, "rst", "unreachable")


def test_latency_jitter_keeps_order_and_is_seeded() -> None:
    steps = [(i / 100, "down", bytes([i])) for i in range(50)]
    rule = Latency(latency_ms=50, jitter_ms=40)
    seen = Clockwork(rule, seed="1/1").play(steps)
    assert [data for _, _, data in seen] == [data for _, _, data in steps]
    delays = [out[0] - went[0] for out, went in zip(seen, steps, strict=True)]
    assert 0.01 <= min(delays) < max(delays) - 0.02 <= 0.07
    assert Clockwork(rule, seed="1/1").play(steps) == seen
    assert Clockwork(rule, seed="1/2").play(steps) != seen


def test_slicing_varies() -> None:
    seen = Clockwork(Slicing(slice_bytes=10, variation_bytes=5)).play([(0, "down", b"x" * 1000)])
    sizes = {len(data) for _, _, data in seen[:-1]}
    assert 5 <= min(sizes) < max(sizes) <= 15


def test_refusals_come_at_the_probability() -> None:
    refused = sum(bool(Clockwork(Refuse(probability=0.3), seed=f"7/{n}").seen) for n in range(1000))
    assert 250 < refused < 350


def test_a_line_that_holds_too_much_stops_reading() -> None:
    seen = Clockwork(Bandwidth(rate_kbit=8000, way="down")).play([(0, "down", b"x" * 1_200_000)])
    holds = [(at_s, what) for at_s, what, _ in seen if what.startswith(("hold", "go on"))]
    assert [what for _, what in holds] == ["hold down", "go on down"]
    assert 0.6 < holds[1][0] < 0.7  # half a MiB is left of 1.2 MB at 1 MB/s


def test_one_way_black_hole_leaves_the_other_way() -> None:
    works = Clockwork(Cut(action="black_hole", after_s=1, way="down", since="connection"))
    assert works.play([(2, "up", b"a")]) == [(1, "black_hole", "cut"), (2, "up", b"a")]


def test_the_first_to_cut_is_the_one_named() -> None:
    seen = Clockwork(IdleTimeout(idle_timeout_s=60), Cut(action="rst", after_s=60)).play([])
    assert seen == cut(60, "fin", "idle_timeout")


def test_a_fin_comes_behind_what_is_on_its_way() -> None:
    works = Clockwork(Latency(latency_ms=1000), Cut(action="fin", after_bytes=2))
    assert works.play([(0, "down", b"abc")]) == [(0, "fin", "cut"), (1, "down", b"ab"), (1, "fin down", b"")]

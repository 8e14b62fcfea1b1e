"""Following HTTP/1.1: whatever the cut of the bytes, the same is passed on and the same is noticed."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.proxies import CHUNKED_HEAD, CLOSE_HEAD, OK, REQUEST, SWITCHING, UPGRADE, Clockwork, chunk

from bench.proxy.chain import Chain
from bench.proxy.http import ChunkedBody, plain_response, with_header, without_headers
from bench.proxy.rule import Rule
from bench.proxy.stage import Stage

POST = b"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
BODY = chunk(b"one") + chunk(b"0\r\n\r\n") + b"3;name=value\r\ntwo\r\n" + b"0\r\nTrailer: x\r\n\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Spy(Rule, frozen=True, kw_only=True):
    name = "spy"

    def stage(self, chain: Chain, draw: object) -> Stage:
        return SpyStage(self, chain)


class SpyStage(Stage):
    """Notes what the exchange tells it."""

    http = True

    def __init__(self, rule: Rule, chain: Chain) -> None:
        super().__init__(rule, chain)
        self.heard: list[str] = []

    def request(self, now_s: float, request: h11.Request) -> None:
        self.heard.append(f"{request.method.decode()} {self.chain.phase}")

    def response(self, now_s: float, request: h11.Request, response: h11.Response) -> None:
        self.heard.append(f"{response.status_code} {self.chain.phase}")

    def finished(self, now_s: float) -> None:
        self.heard.append(f"finished {self.chain.phase}")

    def tunnelled(self, now_s: float) -> None:
        self.heard.append("tunnelled")


def follow(up: list[bytes], down: list[bytes], *, ends: bool = False) -> tuple[list[str], bytes, bytes]:
    """Requests and responses in turn, each in the given pieces: what was heard, and what was passed each way."""
    works = Clockwork(Spy())
    for data in up:
        works.chain.up(0, data)
    for data in down:
        works.chain.down(0, data)
    if ends:
        works.chain.down_eof(0)
    passed = {way: b"".join(data for _, what, data in works.seen if what == way) for way in ("up", "down")}
    stage = works.chain.stages[0]
    assert isinstance(stage, SpyStage)
    return stage.heard, passed["up"], passed["down"]


CASES = [
    ("chunked", REQUEST, CHUNKED_HEAD + BODY, ["GET waiting", "200 responding", "finished idle"]),
    ("length", POST, LENGTH, ["POST waiting", "200 responding", "finished idle"]),
    ("chunked request", CHUNKED_POST, OK, ["POST waiting", "200 responding", "finished idle"]),
    ("until close", REQUEST, CLOSE_HEAD + b"hello", ["GET waiting", "200 responding", "finished idle"]),
    ("no content", REQUEST, b"HTTP/1.1 204 No Content\r\n\r\n", ["GET waiting", "204 responding", "finished idle"]),
    (
        "HEAD",
        b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n",
        LENGTH[:-5],
        ["HEAD waiting", "200 responding", "finished idle"],
    ),
    (
        "100 first",
        POST,
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        ["POST waiting", "200 responding", "finished idle"],
    ),
    ("WebSocket", UPGRADE, SWITCHING + b"\x81\x02hi", ["GET waiting", "tunnelled"]),
    ("upgrade answered with 200", UPGRADE, OK, ["GET waiting", "200 responding", "finished idle"]),
    (
        "pipelined",
        REQUEST + POST,
        OK + LENGTH,
        ["GET waiting", "POST waiting", "200 responding", "finished waiting", "200 responding", "finished idle"],
    ),
    ("HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n", CLOSE_HEAD + b"x", ["GET waiting", "200 responding", "finished idle"]),
    ("bare line feeds", REQUEST.replace(b"\r", b""), OK, ["GET waiting", "200 responding", "finished idle"]),
    ("not HTTP", b"hello", b"world", ["tunnelled"]),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00", b"\x16\x03", ["tunnelled"]),
    ("a server that speaks first", b"", b"220 mail ready\r\n", ["tunnelled"]),
    ("half a request", b"GET / HT", b"", []),
    ("a broken request", b"GET / \x00\r\n\r\n", b"", ["tunnelled"]),
    ("a broken response", REQUEST, b"nonsense", ["GET waiting", "tunnelled"]),
    (
        "a broken chunk",
        REQUEST,
        CHUNKED_HEAD + b"5\r\nhello\r\nzz\r\n",
        ["GET waiting", "200 responding", "tunnelled"],
    ),
]


@pytest.mark.parametrize(("up", "down", "heard"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
@pytest.mark.parametrize("step", [10_000, 1, 7])
def test_any_cut(up: bytes, down: bytes, heard: list[str], step: int) -> None:
    pieces = [[data[at : at + step] for at in range(0, len(data), step)] for data in (up, down)]
    seen, passed_up, passed_down = follow(*pieces, ends=bool(down))
    assert seen == heard
    assert (passed_up, passed_down) == (up if heard else b"", down)


def test_a_head_is_held_until_it_is_whole_but_bytes_that_are_not_http_never() -> None:
    works = Clockwork(Spy())
    works.chain.up(0, b"GET / HT")
    assert works.seen == []
    works.chain.up(0, b"TP/1.1\r\nHost: x\r\n\r\n")
    assert works.seen == [(0, "up", REQUEST)]
    plain = Clockwork(Spy())
    plain.chain.up(0, b"PING")
    assert plain.seen == [(0, "up", b"PING")]


def test_a_head_without_an_end_is_not_held_for_ever() -> None:
    _, up, _ = follow([b"GET / HTTP/1.1\r\n" + b"x" * 70_000], [])
    assert len(up) > 70_000


def test_what_is_held_when_the_client_ends_goes_on() -> None:
    works = Clockwork(Spy())
    works.chain.up(0, b"GET / HT")
    works.chain.up_eof(1)
    assert works.seen == [(1, "up", b"GET / HT"), (1, "fin up", b"")]


chunks = st.lists(st.binary(min_size=1, max_size=40), max_size=8)


@given(chunks, st.lists(st.integers(1, 30), min_size=1), st.binary(max_size=5))
def test_chunked_body_agrees_with_h11(parts: list[bytes], steps: list[int], rest: bytes) -> None:
    data = b"".join(map(chunk, parts)) + b"0\r\n\r\n"
    body, taken, fed, n_ends = ChunkedBody(), 0, data + rest, 0
    turn = 0
    while fed and not body.done:
        step = steps[turn % len(steps)]
        turn += 1
        used = body.feed(fed[:step])
        n_ends += len(body.chunk_ends)
        taken += used
        fed = fed[used:]
    assert (body.done, taken, fed, n_ends) == (True, len(data), rest, len(parts))
    assert h11_body(data) == b"".join(parts)


def h11_body(data: bytes) -> bytes:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(CHUNKED_HEAD + data)
    got = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        got += event.data if isinstance(event, h11.Data) else b""
    return got


def test_heads_are_rewritten() -> None:
    head = b"HTTP/1.1 200 OK\r\nA: 1\r\nConnection: keep-alive\r\n\r\n"
    assert without_headers(head, b"connection") == b"HTTP/1.1 200 OK\r\nA: 1\r\n\r\n"
    assert with_header(head, b"B: 2").startswith(b"HTTP/1.1 200 OK\r\nB: 2\r\nA: 1\r\n")


@pytest.mark.parametrize("status", [408, 503, 524])
def test_made_up_answers_are_http(status: int) -> None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(plain_response(status))
    response, body, end = connection.next_event(), connection.next_event(), connection.next_event()
    assert isinstance(response, h11.Response)
    assert response.status_code == status
    assert isinstance(body, h11.Data)
    assert isinstance(end, h11.EndOfMessage)

"""Following HTTP/1.1: whatever the cut of the bytes, the same is passed on and the same is noticed."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.proxies import CHUNKED_HEAD, CLOSE_HEAD, OK, REQUEST, SWITCHING, UPGRADE, Clockwork, chunk

from bench.proxy.http_bytes import ChunkedBody, RequestHead, ResponseHead, plain_response, with_header, without_headers
from bench.proxy.rule import Rule
from bench.proxy.stage import Context, Stage

POST = b"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
BODY = chunk(b"one") + chunk(b"0\r\n\r\n") + b"3;name=value\r\ntwo\r\n" + b"0\r\nTrailer: x\r\n\r\n"
CODED_HEAD = CHUNKED_HEAD.replace(b"chunked", b"gzip, Chunked")
FOLDED_HEAD = CHUNKED_HEAD.replace(b" chunked", b"\r\n\tchunked")
CODED_POST = CHUNKED_POST.replace(b"chunked", b"gzip, chunked")
CONNECT = b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


OVER = ("finished idle", "over")


class Spy(Rule, frozen=True, kw_only=True):
    name = "spy"

    def stage(self, chain: Context, draw: object) -> Stage:
        return SpyStage(self, chain)


class SpyStage(Stage):
    """Notes what the exchange tells it."""

    http = True

    def __init__(self, rule: Rule, chain: Context) -> None:
        super().__init__(rule.name, chain)
        self.heard: list[str] = []

    def request(self, now_s: float, request: RequestHead) -> None:
        self.heard.append(f"{request.method.decode()} {self.chain.phase}")

    def response(self, now_s: float, request: RequestHead, response: ResponseHead) -> None:
        self.heard.append(f"{response.status_code} {self.chain.phase}")

    def finished(self, now_s: float) -> None:
        self.heard.append(f"finished {self.chain.phase}")

    def idle(self, now_s: float) -> None:
        self.heard.append("over")

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
    ("chunked", REQUEST, CHUNKED_HEAD + BODY, ["GET waiting", "200 responding", *OVER]),
    ("length", POST, LENGTH, ["POST waiting", "200 responding", *OVER]),
    ("chunked request", CHUNKED_POST, OK, ["POST waiting", "200 responding", *OVER]),
    ("until close", REQUEST, CLOSE_HEAD + b"hello", ["GET waiting", "200 responding", *OVER]),
    ("no content", REQUEST, b"HTTP/1.1 204 No Content\r\n\r\n", ["GET waiting", "204 responding", *OVER]),
    (
        "HEAD",
        b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n",
        LENGTH[:-5],
        ["HEAD waiting", "200 responding", *OVER],
    ),
    (
        "100 first",
        POST,
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        ["POST waiting", "200 responding", *OVER],
    ),
    ("WebSocket", UPGRADE, SWITCHING + b"\x81\x02hi", ["GET waiting", "tunnelled"]),
    ("upgrade answered with 200", UPGRADE, OK, ["GET waiting", "200 responding", *OVER]),
    (
        "pipelined",
        REQUEST + POST,
        OK + LENGTH,
        ["GET waiting", "200 responding", *OVER, "POST waiting", "200 responding", *OVER],
    ),
    ("an unknown method", REQUEST.replace(b"GET", b"QUERY"), OK, ["QUERY waiting", "200 responding", *OVER]),
    ("another", REQUEST.replace(b"GET", b"X-PURGE"), OK, ["X-PURGE waiting", "200 responding", *OVER]),
    ("empty lines first", b"\r\n\n\r\n" + REQUEST, OK, ["GET waiting", "200 responding", *OVER]),
    (
        "an empty line behind a body, as old clients send",
        POST + b"\r\n" + REQUEST,
        OK + LENGTH,
        ["POST waiting", "200 responding", *OVER, "GET waiting", "200 responding", *OVER],
    ),
    ("chunks of something", REQUEST, CODED_HEAD + BODY, ["GET waiting", "200 responding", *OVER]),
    ("a folded header", REQUEST, FOLDED_HEAD + BODY, ["GET waiting", "200 responding", *OVER]),
    (
        "coded, not in chunks, and a length that does not count",
        REQUEST,
        LENGTH.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: gzip\r\n\r\n") + b" and more",
        ["GET waiting", "200 responding", *OVER],
    ),
    ("a coded request in chunks", CODED_POST, OK, ["POST waiting", "200 responding", *OVER]),
    (
        "CONNECT, refused, and another request",
        CONNECT + REQUEST,
        b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno" + OK,
        ["CONNECT waiting", "407 responding", *OVER, "GET waiting", "200 responding", *OVER],
    ),
    (
        "CONNECT",
        CONNECT + b"\x16\x03\x01",
        b"HTTP/1.1 200 OK\r\n\r\nok",
        ["CONNECT waiting", "200 responding", "tunnelled"],
    ),
    (
        "103 first",
        REQUEST,
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
        ["GET waiting", "200 responding", *OVER],
    ),
    ("HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n", CLOSE_HEAD + b"x", ["GET waiting", "200 responding", *OVER]),
    ("bare line feeds", REQUEST.replace(b"\r", b""), OK, ["GET waiting", "200 responding", *OVER]),
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
    for data in (b"PING\r\n", b"hello", b"SSH-2.0-x\r\n", b"AMQP\0", b"PRI * HTTP/2.0\r\n"):
        plain = Clockwork(Spy())
        plain.chain.up(0, data)
        assert plain.seen == [(0, "up", data)]


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


def test_a_pipelined_request_is_held_until_the_answer_before_it_is_over() -> None:
    works = Clockwork(Spy())
    works.chain.up(0, POST + POST + REQUEST)
    works.chain.up_eof(0)
    assert b"".join(data for _, what, data in works.seen if what == "up") == POST
    works.chain.down(1, OK)
    works.chain.down(2, OK)
    assert works.seen[-2:] == [(2, "up", REQUEST), (2, "fin up", b"")]


def test_what_is_held_is_bounded_and_goes_on() -> None:
    works = Clockwork(Spy())
    works.chain.up(0, REQUEST)
    for _ in range(7):
        works.chain.up(1, b"x" * 10_000)
    assert [what for _, what, _ in works.seen] == ["up", "hold up"]
    works.chain.down(2, OK)
    assert works.seen[-2:] == [(0, "go on up", b""), (2, "up", b"x" * 70_000)]


def test_a_server_that_has_ended_is_asked_nothing_more() -> None:
    """And the client's end reaches it all the same: a connection must not stay open for what was never sent."""
    works = Clockwork(Spy())
    works.chain.up(0, REQUEST + POST * 2000)
    works.chain.down(1, CHUNKED_HEAD)
    works.chain.up_eof(1)
    works.chain.down_eof(2)
    assert [what for _, what, _ in works.seen] == ["up", "hold up", "down", "go on up", "fin up", "fin down"]


def test_an_early_answer_is_followed_by_the_rest_of_its_request() -> None:
    head, body = POST[:-5], POST[-5:]
    works = Clockwork(Spy())
    works.chain.up(0, head + body[:2])
    works.chain.down(1, OK)
    works.chain.up(2, body[2:] + REQUEST)
    works.chain.down(3, OK)
    stage = works.chain.stages[0]
    assert isinstance(stage, SpyStage)
    first = ["POST waiting", "200 responding", "finished uploading", "over"]
    assert stage.heard == [*first, "GET waiting", "200 responding", *OVER]


BAD_SIZES = [b"-6", b"-1", b"+5", b"0x5", b"0_5", b" 5", b"5 5", b"", b";a", b"\xb2", b"5\x00", b"1" * 17, b"g"]


@pytest.mark.parametrize("size", BAD_SIZES)
@pytest.mark.parametrize("step", [10_000, 1])
def test_a_chunk_size_is_hexadecimal_digits(size: bytes, step: int) -> None:
    """`int(size, 16)` takes most of these; a negative one made the proxy loop for ever."""
    data = CHUNKED_HEAD + chunk(b"one") + size + b"\r\nhello\r\n0\r\n\r\n"
    works = Clockwork(Spy())
    works.chain.up(0, REQUEST)
    for at in range(0, len(data), step):
        works.chain.down(0, data[at : at + step])
    assert works.unfollowed == ["a chunk size that is none"]
    assert b"".join(piece for _, what, piece in works.seen if what == "down") == data


@pytest.mark.parametrize(
    ("data", "quick"),
    [
        (chunk(b"hello"), True),
        (chunk(b"x"), True),
        (chunk(b"x" * 4095), True),
        (chunk(b"x" * 4096), False),
        (b"0A\r\n" + b"x" * 10 + b"\r\n", False),
        (b"", False),
        (b"0000000a;x\r\n", False),
        (b"0\r\n\r\n", False),
        (b"5\r\nhello\n\n", False),
        (b"+5\r\nhello\r\n", False),
        (b"-3\r\n\r\n", False),
        (chunk(b"one") * 2, False),
        (b"5\nhello\r\n", False),
    ],
)
def test_the_quick_way_takes_whole_chunks_only(data: bytes, quick: bool) -> None:
    assert ChunkedBody().contains(data) == quick
    inside = ChunkedBody()
    inside.feed(b"ff\r\n")
    assert not inside.contains(data)


@pytest.mark.parametrize("size", [b"5", b"05", b"5 ", b"5\t ;x", b"5;x=y;z", b'5 ; x="\xff"', b"0" * 15 + b"5"])
def test_what_a_chunk_size_may_look_like(size: bytes) -> None:
    body = ChunkedBody()
    data = size + b"\r\nhello\r\n0\r\n\r\n"
    assert (body.feed(data), body.done, body.spans) == (len(data), True, [(len(size) + 2, len(size) + 7)])


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"5;" + b"x" * 9_000, "a chunk's line without an end"),
        (b"0\r\nx: " + b"x" * 9_000, "a chunk's line without an end"),
        (b"5\r\nhello!!", "a chunk longer than its size"),
        (b"5\nhello\r\n", "a chunk size that is none"),
    ],
)
@pytest.mark.parametrize("step", [10_000, 100, 1])
def test_chunks_that_are_none(body: bytes, why: str, step: int) -> None:
    works = Clockwork(Spy())
    works.chain.up(0, REQUEST)
    works.chain.down(0, CHUNKED_HEAD)
    for at in range(0, len(body), step):
        works.chain.down(0, body[at : at + step])
    assert works.unfollowed == [why]


@pytest.mark.parametrize(
    ("up", "down", "why"),
    [
        (b"hello", b"", "what the client sends is no HTTP/1.1 request"),
        (b"GET / HTTP/1.1\r\nAuthorization : secret\r\n\r\n", b"", "a malformed request head"),
        (b"GET / HTTP/1.1\r\n" + b"x" * 70_000, b"", "a head above 64 KiB"),
        (
            REQUEST.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: gzip\r\n\r\n"),
            b"",
            "a request body without an end",
        ),
        (b"", b"220 mail ready\r\n", "the server sends what it was not asked for"),
        (REQUEST, b"nonsense", "what the server sends is no HTTP/1.1 response"),
        (REQUEST, OK + OK, "the server sends what it was not asked for"),
        (REQUEST, b"HTTP/1.1 secret\r\n\r\n", "a malformed response head"),
        (REQUEST, b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "a malformed response head"),
    ],
)
def test_where_http_cannot_be_followed_it_says_why_and_nothing_of_what_was_sent(
    up: bytes, down: bytes, why: str
) -> None:
    works = Clockwork(Spy())
    works.chain.up(0, up)
    works.chain.down(0, down)
    assert works.unfollowed == [why]
    assert works.chain.phase == "tunnel"


@pytest.mark.parametrize(("up", "down"), [(UPGRADE, SWITCHING + b"\x81\x02hi"), (CONNECT + b"x", CLOSE_HEAD + b"x")])
def test_a_tunnel_that_was_asked_for_is_no_news(up: bytes, down: bytes) -> None:
    works = Clockwork(Spy())
    works.chain.up(0, up)
    works.chain.down(0, down)
    assert (works.chain.phase, works.unfollowed) == ("tunnel", [])

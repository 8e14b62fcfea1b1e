"""Every transport × what no client library sends: the documented error as JSON, at once, and nothing in the log."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import struct
import zlib
from collections.abc import Callable

import pytest
from support.independent import request
from support.processes import RunningServer, running_server
from support.rawhttp import SHORT, connected, exchange, frame, head, post, responses, upgrade
from support.transports import ASK

from servers.transport import TRANSPORTS

Servers = Callable[[str], RunningServer]
HTTP = [name for name in TRANSPORTS if name != "websocket"]
CLOSE = "Connection: close"
NESTED = '{"a":' * 1500

# Requests that are no HTTP, or HTTP that no server has to take; each in the reads that the server makes.
NO_HTTP: dict[str, tuple[bytes, ...]] = {
    "bytes": (b"\x00\x01\x02\x03\r\n\r\n",),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 100 + b"\r\n\r\n",),
    "another protocol": (b"SSH-2.0-client\r\n\r\n",),
    "a line without an end": (b"GET /" + b"a" * 20_000,),
    "a header without an end": (b"GET /chat HTTP/1.1\r\nX: " + b"a" * 20_000,),
    "too many headers": (head("GET", "/chat", *["X: y"] * 5000),),
    "a folded header": (head("GET", "/chat", "X: a\r\n b"),),
    "no version": (b"GET /chat HTTP/9.9\r\nHost: x\r\n\r\n",),
    "HTTP/2 without its preface": (b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n",),
    "HTTP/0.9 with a head": (b"GET /healthz HTTP/0.9\r\nHost: x\r\n\r\n",),
    "an unknown method": (head("BLAH", "/chat"),),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",),
    "a target that is none": (head("GET", "http://[/chat"),),
    "a negative length": (head("POST", "/chat", "Content-Length: -5"),),
    "two lengths": (head("POST", "/chat", "Content-Length: 5", "Content-Length: 6") + b"abcde",),
    "a length beyond all numbers": (head("POST", "/chat", "Content-Length: " + "9" * 40),),
    "an encoding that is none": (head("POST", "/chat", "Transfer-Encoding: gzip") + b"abc",),
    "a chunk that is none": (head("POST", "/chat", "Transfer-Encoding: chunked") + b"zz\r\nabc",),
}

# Requests to /chat that HTTP allows and we refuse: the status over HTTP, then the one of the WebSocket server.
REFUSED: dict[str, tuple[tuple[bytes, ...], int]] = {
    "gzip that is none": ((post(SHORT, "Content-Encoding: gzip", CLOSE),), 400),
    "gzip that ends too soon": ((post(gzip.compress(b"{}")[:-4], "Content-Encoding: gzip", CLOSE),), 400),
    "gzip with something behind it": ((post(gzip.compress(b"{}") + b"x", "Content-Encoding: gzip", CLOSE),), 400),
    "an unknown encoding": ((post(SHORT, "Content-Encoding: br", CLOSE),), 415),
    "a coding beside the chunks": (
        (head("POST", "/chat", "Transfer-Encoding: gzip, chunked", CLOSE) + b'e\r\n{"message":""}\r\n0\r\n\r\n',),
        400,
    ),
    "encoding in bytes": ((post(SHORT, "Content-Encoding: \xff\xfe", CLOSE),), 415),
    "a bad chunk in a later read": (
        (head("POST", "/chat", "Transfer-Encoding: chunked", CLOSE), b"5\r\nabcde\r\n", b"zz\r\n"),
        400,
    ),
    "an expectation in bytes": ((post(SHORT, "Expect: \xff\xfe", CLOSE),), 400),
    "an expectation": ((post(SHORT, "Expect: miracles", CLOSE),), 417),
}


def check_error(received: bytes) -> tuple[int, dict[str, str]]:
    """The one refusal in `received`: its status and headers, once it is known to be as documented."""
    ((status, headers, body),) = responses(received)
    assert headers["content-type"].startswith("application/json")
    assert headers["cache-control"] == "no-store"
    error = json.loads(body)["error"]
    assert error["code"]
    assert 0 < len(error["message"]) < 600
    return status, headers


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_is_no_http_gets_400_as_json(server: Servers, transport: str) -> None:
    url = server(transport).url
    for case, parts in NO_HTTP.items():
        assert check_error(exchange(url, *parts))[0] == 400, case


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_is_not_wanted_gets_4xx_as_json(server: Servers, transport: str) -> None:
    url = server(transport).url
    for case, (parts, status) in REFUSED.items():
        told, _ = check_error(exchange(url, *parts))
        wanted = 426 if transport == "websocket" and "expectation" not in case else status
        assert told == wanted, case


@pytest.mark.parametrize("transport", HTTP)
@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
def test_packed_bodies_are_read(server: Servers, transport: str, pack: Callable[[bytes], bytes]) -> None:
    encoding = "gzip" if pack is gzip.compress else "deflate"
    body = post(pack(json.dumps(SHORT).encode()), f"Content-Encoding: {encoding}", CLOSE)
    assert exchange(server(transport).url, body).partition(b" ")[2].startswith((b"200", b"202"))


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("origin", ["http://[", "\xff\xfe", "http://", "http://" + "a" * 7000, "[", "null"])
def test_an_origin_that_is_none_is_a_foreign_one(guarded: Servers, transport: str, origin: str) -> None:
    cookie = ("Cookie: tokenderby=s3cret", f"Origin: {origin}", CLOSE)
    asked = upgrade(*cookie) if transport == "websocket" else post(SHORT, *cookie)
    assert check_error(exchange(guarded(transport).url, asked))[0] == 403


@pytest.mark.parametrize(
    ("transport", "target"),
    [
        ("polling", "/chat/x?from=" + "1" * 400),
        ("polling", "/chat/x?wait=" + "1" * 5000),
        ("sse", "/chat?message=x&from=" + "1" * 5000),
        ("sse", "/chat?message=x&seed=" + "1" * 400),
        ("sse", "/chat?message=x&stream={" + "[" * 5000),
        ("sse", "/chat?message=x&stream=" + NESTED),
        ("sse", "/chat?message=x&stream=[" + "[" * 5000),
        ("sse", "/chat?message=x&stream={%22" + "k" * 7000 + "%22:1}"),
    ],
)
def test_a_query_beyond_measure_is_400(server: Servers, transport: str, target: str) -> None:
    assert check_error(exchange(server(transport).url, head("GET", target, CLOSE)))[0] == 400


# ---- bounded before the work


BOMB = gzip.compress(b"\0" * (2**20 * 900), 1)[: 2**20]
COSTLY: dict[str, bytes] = {
    "a gzip bomb": post(BOMB, "Content-Encoding: gzip", CLOSE),
    "a key of a megabyte": post(b'{"message": "", "stream": {"' + b"k" * 1_000_000 + b'": 1}}', CLOSE),
    "a profile of a megabyte": post(b'{"message": "", "stream": "' + b"k" * 1_000_000 + b'"}', CLOSE),
    "a flush of a megabyte": post(b'{"message": "", "stream": {"flush": "' + b"k" * 1_000_000 + b'"}}', CLOSE),
    "a recording of a megabyte": post(b'{"message": "", "stream": {"recording": "' + b"k" * 1_000_000 + b'"}}', CLOSE),
    "an id of a megabyte": post(b'{"message": "", "stream_id": "' + b"k" * 1_000_000 + b'"}', CLOSE),
    "a number of a megabyte": post(b'{"message": "", "seed": ' + b"9" * 1_000_000 + b"}", CLOSE),
    "brackets of a megabyte": post(b"[" * 1_000_000, CLOSE),
    "objects of a megabyte": post(b'{"a":' * 200_000, CLOSE),
    "a hundred thousand keys": post(
        b'{"message": "", "stream": {' + b",".join(b'"%d":1' % k for k in range(90_000)) + b"}}", CLOSE
    ),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_a_request_costs_is_bounded_before_the_work(server: Servers, transport: str) -> None:
    running = server(transport)
    for case, asked in COSTLY.items():
        before_s = running.get("/stats")["cpu_seconds"]
        received = exchange(running.url, *_over_websocket(asked) if transport == "websocket" else (asked,))
        cost_s = running.get("/stats")["cpu_seconds"] - before_s
        assert cost_s < 0.15, f"{case}: {cost_s:.2f} s"
        assert len(received) < 1500, case
        if transport != "websocket":
            assert check_error(received)[0] in (400, 413), case


def _over_websocket(asked: bytes) -> tuple[bytes, ...]:
    return upgrade(), frame(asked.partition(b"\r\n\r\n")[2]), frame(b"\x03\xe8", 8)


def test_a_body_that_is_told_to_be_too_large_is_not_read(server: Servers) -> None:
    asked = head("POST", "/chat", f"Content-Length: {2**20 + 1}")
    with connected(server("chunked").url) as connection:
        connection.sendall(asked)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413")


# ---- what HTTP asks of a server


@pytest.mark.parametrize("transport", HTTP)
@pytest.mark.parametrize("headers", [(), ("Connection: keep-alive",)], ids=["plain", "keep-alive"])
def test_http_1_0_gets_an_answer_with_an_end(server: Servers, transport: str, headers: tuple[str, ...]) -> None:
    with connected(server(transport).url) as connection:
        connection.sendall(post(SHORT, *headers, version="1.0"))
        received = b""
        while part := connection.recv(65_536):
            received += part
            top, separator, body = received.partition(b"\r\n\r\n")
            if separator and f"content-length: {len(body)}\r\n".encode() in top.lower() + b"\r\n":
                break  # it has a length; then the connection may stay
    top, _, body = received.partition(b"\r\n\r\n")
    assert top.partition(b" ")[2].startswith((b"200", b"202"))
    assert b"chunked" not in top.lower()
    assert body.count(b'"due"') == (0 if transport == "polling" else 3)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_plain_http_is_answered_by_all(server: Servers, transport: str) -> None:
    url = server(transport).url
    probe = head("GET", "/healthz")
    both = list(responses(exchange(url, probe + head("GET", "/healthz", CLOSE))))
    assert [json.loads(body) for _, _, body in both] == [{"transport": transport}] * 2
    ((status, _, body),) = responses(exchange(url, head("GET", f"{url}/healthz", CLOSE)))
    assert (status, json.loads(body)) == (200, {"transport": transport})
    received = exchange(url, head("HEAD", "/healthz", CLOSE))
    assert received.startswith(b"HTTP/1.1 200")
    assert received.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nothing_may_be_kept_by_a_cache(server: Servers, transport: str) -> None:
    url = server(transport).url
    for method, path in (("GET", "/healthz"), ("GET", "/stats"), ("GET", "/clock"), ("GET", "/no"), ("PUT", "/chat")):
        assert request(url, method, path)[1]["cache-control"] == "no-store", path
    if transport != "websocket":
        assert request(url, "POST", "/chat", SHORT)[1]["cache-control"] == "no-store"
        assert request(url, "POST", "/chat", b"{")[1]["cache-control"] == "no-store"


# ---- a client that has nothing more to say


@pytest.mark.parametrize("transport", HTTP)
def test_a_client_that_half_closes_gets_its_answer(server: Servers, transport: str) -> None:
    asked = post({"message": "x", "stream": {"profile": "fast", "tokens": 4, "ttft_ms": 150, "gap_ms": 50}})
    received = exchange(server(transport).url, asked, half_close=True)
    assert received.partition(b" ")[2].startswith((b"200", b"202"))
    if transport != "polling":
        assert received.count(b'"due"') == 4
        assert b'"done": true' in received


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_all_that_was_asked_before_half_closing_is_answered(server: Servers, transport: str) -> None:
    received = exchange(server(transport).url, head("GET", "/healthz") * 3, half_close=True)
    assert [status for status, _, _ in responses(received)] == [200] * 3


@pytest.mark.parametrize("transport", HTTP)
def test_a_body_that_is_cut_off_is_refused_at_once(server: Servers, transport: str) -> None:
    received = exchange(server(transport).url, head("POST", "/chat", "Content-Length: 9"), b"{", half_close=True)
    assert check_error(received)[0] == 400


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("sent", [b"", b"GET /he"], ids=["nothing", "half a head"])
def test_a_client_that_closes_without_a_question_is_let_go(server: Servers, transport: str, sent: bytes) -> None:
    assert exchange(server(transport).url, sent, half_close=True) == b""


# ---- the log


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_bad_requests_and_early_aborts_are_not_in_the_log(transport: str, capfd: pytest.CaptureFixture[str]) -> None:
    with running_server(transport, "--allow-origin", "*") as running:
        for parts in (*NO_HTTP.values(), *(parts for parts, _ in REFUSED.values())):
            exchange(running.url, *parts)
        exchange(running.url, post(SHORT, "Origin: \xff\xfe", CLOSE))
        for asked in (head("GET", "/chat")[:20], post(SHORT)[:-5], post(SHORT), upgrade(), upgrade() + frame(b"{")):
            for reads in (False, True):
                _abort(running.url, asked, reads=reads)
        if transport == "websocket":
            ASK[transport](running.url, SHORT).check()
        else:
            assert request(running.url, "POST", "/chat", SHORT)[0] in (200, 202)
    assert capfd.readouterr().err == ""


def _abort(url: str, asked: bytes, *, reads: bool) -> None:
    """Send something and reset the connection, at once or when something has come."""
    with connected(url, timeout_s=0.1) as connection:
        connection.sendall(asked)
        if reads:
            with contextlib.suppress(OSError):
                connection.recv(10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

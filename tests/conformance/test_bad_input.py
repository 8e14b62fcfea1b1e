"""Every transport × every bad request: the documented error, nothing started, and the server goes on serving."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from support.independent import request
from support.processes import RunningServer
from support.transports import ASK
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from servers.transport import TRANSPORTS

Servers = Callable[[str], RunningServer]

BAD: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 400, "bad_json"),
    "not JSON": (b"{message: hello}", 400, "bad_json"),
    "cut off": (b'{"message": "hel', 400, "bad_json"),
    "not UTF-8": (b'{"message": "\xff"}', 400, "bad_json"),
    "half a surrogate pair": (b'{"message": "\\ud800"}', 400, "bad_json"),
    "deeply nested": (b"[" * 100_000, 400, "bad_json"),
    "a list": (b"[]", 400, "bad_request"),
    "null": (b"null", 400, "bad_request"),
    "no message": (b"{}", 400, "bad_request"),
    "message is a number": (b'{"message": 1}', 400, "bad_request"),
    "seed is text": (b'{"message": "", "seed": "1"}', 400, "bad_request"),
    "seed is negative": (b'{"message": "", "seed": -1}', 400, "bad_request"),
    "seed is huge": (b'{"message": "", "seed": 1' + b"0" * 400 + b"}", 400, "bad_request"),
    "seed is a fraction": (b'{"message": "", "seed": 1.5}', 400, "bad_request"),
    "seed is true": (b'{"message": "", "seed": true}', 400, "bad_request"),
    "unknown profile": (b'{"message": "", "stream": "warp"}', 400, "bad_stream"),
    "stream is a number": (b'{"message": "", "stream": 5}', 400, "bad_stream"),
    "misspelt parameter": (b'{"message": "", "stream": {"tokenz": 5}}', 400, "bad_stream"),
    "negative tokens": (b'{"message": "", "stream": {"tokens": -5}}', 400, "bad_stream"),
    "huge tokens": (b'{"message": "", "stream": {"tokens": 1' + b"0" * 30 + b"}}", 400, "bad_stream"),
    "huge float": (b'{"message": "", "stream": {"gap_ms": 1e308}}', 400, "bad_stream"),
    "endless answer": (b'{"message": "", "stream": {"tokens": 20000, "gap_ms": 60000}}', 400, "bad_stream"),
    "unknown recording": (b'{"message": "", "stream": {"recording": "0123"}}', 400, "bad_stream"),
    "a path as recording": (b'{"message": "", "stream": {"recording": "/etc/passwd"}}', 400, "bad_stream"),
    "stream_id with a slash": (b'{"message": "", "stream_id": "a/b"}', 400, "bad_request"),
    "stream_id with a line end": (b'{"message": "", "stream_id": "a\\n"}', 400, "bad_request"),
    "stream_id too long": (b'{"message": "", "stream_id": "' + b"a" * 65 + b'"}', 400, "bad_request"),
    "from is negative": (b'{"message": "", "from": -1}', 400, "bad_request"),
    "from is huge": (b'{"message": "", "from": 1' + b"0" * 30 + b"}", 400, "bad_request"),
    "from of an unknown stream": (b'{"message": "", "from": 3, "stream_id": "nobody"}', 404, "unknown_stream"),
    "too large": (b'{"message": "' + b"a" * 2**20 + b'"}', 413, "too_large"),
}


def refusal(running: RunningServer, body: bytes) -> tuple[int, dict[str, str]]:
    """Status (or close code) and error of a bad request."""
    if running.transport != "websocket":
        status, headers, answer = request(running.url, "POST", "/chat", body)
        assert headers["content-type"].startswith("application/json")
        return status, json.loads(answer)["error"]
    with connect(running.url.replace("http", "ws") + "/chat") as websocket:
        websocket.send(body, text=True)
        try:
            error = json.loads(websocket.recv(timeout=5))["error"]
        except ConnectionClosed:
            return websocket.close_code or 0, {}
        with pytest.raises(ConnectionClosed):
            websocket.recv(timeout=5)
        assert websocket.close_code is not None
        return websocket.close_code, error


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("case", BAD)
def test_it_is_refused_in_words(server: Servers, transport: str, case: str) -> None:
    body, status, code = BAD[case]
    running = server(transport)
    started = running.get("/stats")["streams_started"]
    told, error = refusal(running, body)
    if transport != "websocket":
        assert told == status
    elif case == "not UTF-8":  # the library's own refusal, as RFC 6455 asks, before we see the frame
        assert told == 1007
        return
    else:
        assert told == (1007 if code == "bad_json" else 1008)
    assert error["code"] == code
    assert error["message"]
    assert running.get("/stats")["streams_started"] == started


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_token_that_an_answer_does_not_have_cannot_be_asked_for(server: Servers, transport: str) -> None:
    asked = {"message": "x", "stream_id": f"short-{transport}", "stream": {"profile": "fast", "tokens": 3}}
    ASK[transport](server(transport).url, asked).check()
    told, error = refusal(server(transport), json.dumps(asked | {"from": 9}).encode())
    assert told == (1008 if transport == "websocket" else 400)
    assert "answer has" in error["message"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_it_goes_on_serving(server: Servers, transport: str) -> None:
    for body, _, _ in BAD.values():
        refusal(server(transport), body)
    ASK[transport](server(transport).url, {"message": "x", "stream": {"profile": "fast", "tokens": 3}}).check()


@pytest.mark.parametrize("transport", [name for name in TRANSPORTS if name != "websocket"])
def test_unknown_paths_and_methods_are_refused_as_json(server: Servers, transport: str) -> None:
    for method, path, expected in (("GET", "/nothing", 404), ("DELETE", "/chat", 405), ("POST", "/healthz", 405)):
        status, _, body = request(server(transport).url, method, path)
        assert status == expected
        assert json.loads(body)["error"]["code"]


def test_unknown_paths_are_refused_by_the_websocket_server(server: Servers) -> None:
    for path, expected in (("/nothing", 404), ("/chat", 426)):
        status, _, body = request(server("websocket").url, "GET", path)
        assert status == expected
        assert json.loads(body)["error"]["code"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("from=-1", 400),
        ("from=x", 400),
        ("from=1e9", 400),
        ("wait=-1", 400),
        ("wait=nan", 400),
        ("wait=inf", 400),
        ("wait=301", 400),
        ("from=0", 404),
    ],
)
def test_polls_are_checked_too(server: Servers, query: str, status: int) -> None:
    told, _, body = request(server("polling").url, "GET", f"/chat/nobody?{query}")
    assert told == status
    assert json.loads(body)["error"]["message"]


@pytest.mark.parametrize("value", ["x", "x/", "x/-1", "x/1.5", "/1", "a b/1", "x/" + "9" * 40])
def test_a_wrong_last_event_id_is_refused(server: Servers, value: str) -> None:
    status, _, body = request(server("sse").url, "POST", "/chat", {"message": ""}, {"Last-Event-ID": value})
    assert status == 400
    assert "Last-Event-ID" in json.loads(body)["error"]["message"]


def test_a_last_event_id_of_an_unknown_stream_is_not_found(server: Servers) -> None:
    status, _, _ = request(server("sse").url, "POST", "/chat", {"message": ""}, {"Last-Event-ID": "nobody/4"})
    assert status == 404

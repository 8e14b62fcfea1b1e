"""Every stack × transport keeps docs/wire-format.md: seen by an independent client, where a token is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
from support import sources
from support.independent import Answer, connection, request
from support.processes import RunningServer, running_server, wait_until
from support.transports.sse import events, read_sse
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from servers.stacks import STACKS
from servers.stream import StreamSpec, build

pytestmark = pytest.mark.slow

SECRET = "s3cret"
BEARER = {"Authorization": f"Bearer {SECRET}"}
FOREIGN = {"Origin": "http://evil.example"}
SHORT: dict[str, Any] = {"profile": "fast", "tokens": 12, "ttft_ms": 0, "gap_ms": 1}
HAZARDS: dict[str, Any] = {"profile": "hazards", "ttft_ms": 0, "gap_ms": 0, "gap_sigma": 0}
# Whose application is another stack's too: the same code over chunked is not asked twice.
SAME_CODE = {"fastapi-hypercorn", "fastapi-granian", "flask-gthread", "flask-gevent", "flask-dev"}
SOUND = [
    (stack.name, transport)
    for stack in STACKS.values()
    for transport in stack.transports
    if not stack.is_trap and not (stack.name in SAME_CODE and transport == "chunked")
]
# These take what is sent to a closed WebSocket and say nothing: only `receive` would (docs/stacks.md).
NOTICES_NOTHING = {("fastapi-hypercorn", "websocket"), ("fastapi-granian", "websocket")}
# What is asked over SSE has the same code under it as over chunked.
_MARKED = [pytest.param(*pair, marks=[pytest.mark.extra] if pair[1] == "chunked" else []) for pair in SOUND]
each = pytest.mark.parametrize(("stack", "transport"), _MARKED)
Serving = Callable[[str, str], RunningServer]


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    """`serving("fastapi", "sse")`: that server with a token, started when first asked for."""
    with ExitStack() as started:
        known: dict[tuple[str, str], RunningServer] = {}

        def get(stack: str, transport: str) -> RunningServer:
            if (stack, transport) not in known:
                options = ("--stack", stack, "--auth-token", SECRET)
                known[stack, transport] = started.enter_context(running_server(transport, *options))
            return known[stack, transport]

        yield get
        for running in known.values():  # at once: each takes its time
            running.process.terminate()


def opened(running: RunningServer, headers: dict[str, str] = BEARER) -> ClientConnection:
    return connect(running.url.replace("http", "ws") + "/chat", additional_headers=headers, close_timeout=1)


def ask(running: RunningServer, body: dict[str, Any], **headers: str) -> Answer:
    if running.transport == "websocket":
        answer = Answer()
        with opened(running) as websocket:
            websocket.send(json.dumps(body))
            while answer.end is None:
                answer.add(json.loads(websocket.recv(timeout=20)))
        return answer
    status, told, data = request(running.url, "POST", "/chat", body, BEARER | headers)
    assert (status, told["x-accel-buffering"]) == (200, "no")
    assert told["stream-id"]
    if running.transport == "sse":
        return read_sse(data.replace(b"\r\n", b"\n"))  # sse-starlette ends lines so
    answer = Answer()
    for line in data.split(b"\n")[:-1]:
        answer.add(json.loads(line))
    return answer


def refusal(running: RunningServer, body: bytes) -> tuple[int, str]:
    """The status and the code; of a WebSocket, the close code."""
    if running.transport != "websocket":
        status, _, data = request(running.url, "POST", "/chat", body, BEARER)
        return status, json.loads(data)["error"]["code"]
    with opened(running) as websocket:
        websocket.send(body.decode())
        code = json.loads(websocket.recv(timeout=20))["error"]["code"]
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(timeout=20)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, code


@each
def test_hazards_arrive_exactly(serving: Serving, stack: str, transport: str) -> None:
    answer = ask(serving(stack, transport), {"message": "hello", "stream": HAZARDS, "seed": 7}).check()
    assert [token["t"] for token in answer.tokens] == list(build(StreamSpec.parse(HAZARDS), 7).texts)


@each
def test_an_answer_is_counted_and_resumed(serving: Serving, stack: str, transport: str) -> None:
    running = serving(stack, transport)
    before = stats(running)
    body = {"message": "hello", "seed": 3, "stream": SHORT, "stream_id": f"resumed-{stack}"}
    whole = ask(running, body).check()
    rest = ask(running, body | {"from": 5}).check(5)
    assert ([t["t"] for t in rest.tokens], rest.end) == ([t["t"] for t in whole.tokens[5:]], whole.end)
    wait_until(lambda: stats(running)["tokens_sent"] == before["tokens_sent"] + 12 + 7)
    after = stats(running)
    assert after["stack"] == stack
    assert after["requests"] == before["requests"] + 2
    assert after["streams_started"] == before["streams_started"] + 1
    wait_until(lambda: stats(running)["streams_completed"] == before["streams_completed"] + 1)


def stats(running: RunningServer) -> dict[str, Any]:
    status, _, body = request(running.url, "GET", "/stats?since=0", headers=BEARER)
    assert status == 200
    found: dict[str, Any] = json.loads(body)
    return found


@each
def test_a_token_is_asked_for(serving: Serving, stack: str, transport: str) -> None:
    running = serving(stack, transport)
    assert (
        request(running.url, "GET", "/healthz")[2]
        == json.dumps({"transport": transport}, separators=(",", ":")).encode()
    )
    for path in ("/stats", "/clock"):
        assert request(running.url, "GET", path)[0] == 401
    for path in ("/healthz", "/stats", "/clock"):
        status, headers, _ = request(running.url, "GET", path, headers=BEARER)
        assert (status, headers["cache-control"]) == (200, "no-store")
    assert chat_status(running, {}) == 401
    assert chat_status(running, {"Cookie": f"tokenderby={SECRET}"} | FOREIGN) == 403
    assert chat_status(running, {"Cookie": f"tokenderby={SECRET}"}) == 200


def chat_status(running: RunningServer, headers: dict[str, str]) -> int:
    if running.transport != "websocket":
        return request(running.url, "POST", "/chat", {"message": "x", "stream": SHORT}, headers)[0]
    try:
        with opened(running, headers):
            return 200
    except InvalidStatus as refused:
        return refused.response.status_code if b'"error"' in refused.response.body else 0


@pytest.mark.parametrize(
    ("body", "status", "code", "close_code"),
    [
        (b"{", 400, "bad_json", 1007),
        (b"[]", 400, "bad_request", 1008),
        (b'{"message": "x", "stream": "none"}', 400, "bad_stream", 1008),
        (b'{"message": "x", "from": 3}', 404, "unknown_stream", 1008),
        (b'{"message": "' + b"x" * (1 << 20) + b'"}', 413, "too_large", 1008),
    ],
    ids=["no JSON", "no object", "no such stream profile", "nothing to resume", "too large"],
)
@each
def test_bad_input_is_refused_in_words(
    serving: Serving, stack: str, transport: str, body: bytes, status: int, code: str, close_code: int
) -> None:
    expected = close_code if transport == "websocket" else status
    assert refusal(serving(stack, transport), body) == (expected, code)


@pytest.mark.parametrize(("stack", "transport"), [pair for pair in SOUND if pair[1] != "websocket"])
def test_unknown_paths_and_methods_are_refused_as_json(serving: Serving, stack: str, transport: str) -> None:
    for method, path, expected in (("GET", "/nothing", 404), ("DELETE", "/chat", 405), ("POST", "/healthz", 405)):
        status, headers, body = request(serving(stack, transport).url, method, path, headers=BEARER)
        assert (status, bool(headers.get("allow"))) == (expected, expected == 405)
        assert json.loads(body)["error"]["message"]


@pytest.mark.parametrize(("stack", "transport"), [pair for pair in SOUND if pair[1] == "sse"])
def test_an_event_source_resumes_and_is_told_the_end(serving: Serving, stack: str, transport: str) -> None:
    running = serving(stack, transport)
    body = {"message": "hello", "stream": SHORT, "stream_id": f"source-{stack}"}
    ask(running, body).check()
    ask(running, body, **{"Last-Event-ID": f"source-{stack}/4"}).check(5)
    over = BEARER | {"Last-Event-ID": f"source-{stack}/11"}
    assert request(running.url, "GET", "/chat?message=hello", headers=over)[0] == 204
    status, _, data = request(
        running.url, "GET", f"/chat?message=hello&stream={quote(json.dumps(SHORT))}", headers=BEARER
    )
    assert (status, b"[DONE]" in data) == (200, True)


@pytest.mark.parametrize(
    ("stack", "transport"),
    [
        ("fastapi", "sse"),
        ("fastapi", "websocket"),
        ("fastapi-sse", "sse"),
        ("sse-starlette", "sse"),
        ("websockets-send", "websocket"),
    ],
)
def test_a_half_answer_ends_with_its_error(stack: str, transport: str) -> None:
    """Those with an own way to say so, with a source that breaks behind its second token."""
    with running_server(transport, "--stack", stack, "--source", sources.NAME) as running:
        if transport == "sse":
            data = request(running.url, "POST", "/chat", {"message": "breaks"})[2].replace(b"\r\n", b"\n")
            *tokens, error = events(data)
            assert error["event"] == "error"
        else:
            with opened(running, {}) as websocket:
                websocket.send(json.dumps({"message": "breaks"}))
                *tokens, error = [{"data": str(websocket.recv(timeout=20))} for _ in range(3)]
                with pytest.raises(ConnectionClosed):
                    websocket.recv(timeout=20)
            assert websocket.close_code == 1011
    assert [json.loads(token["data"])["t"] for token in tokens] == ["Half", " an"]
    assert json.loads(error["data"])["error"]["code"] == "source_failed"


def test_whoever_leaves_is_sent_no_more(serving: Serving) -> None:
    """All at once, as an answer goes on without its reader."""
    body = {"message": "x", "stream": {"profile": "fast", "tokens": 40, "gap_ms": 20, "gap_sigma": 0}}
    sent_before = {pair: stats(serving(*pair))["tokens_sent"] for pair in SOUND}
    for pair in SOUND:
        leave_early(serving(*pair), body)
    for pair in SOUND:
        wait_until(partial(is_idle, serving(*pair)))
        for_nobody = stats(serving(*pair))["tokens_sent"] - sent_before[pair] == 40
        assert for_nobody == (pair in NOTICES_NOTHING), pair


def is_idle(running: RunningServer) -> bool:
    return not stats(running)["streams_active"]


def leave_early(running: RunningServer, body: dict[str, Any]) -> None:
    """Ask, and close the connection behind the first that comes."""
    if running.transport == "websocket":
        with opened(running) as websocket:
            websocket.send(json.dumps(body))
            websocket.recv(timeout=20)
        return
    asked = connection(running.url)
    asked.request("POST", "/chat", json.dumps(body), BEARER)
    response = asked.getresponse()
    response.readline()
    response.close()
    asked.close()


def test_a_stopped_server_ends_its_answers_and_itself() -> None:
    """Within its grace, although the answer would go on for a minute; what came of it has no end."""
    slow = {"message": "x", "stream": {"profile": "fast", "tokens": 3, "gap_ms": 30_000}}
    with running_server("sse", "--stack", "fastapi") as running:
        asked = connection(running.url)
        asked.request("POST", "/chat", json.dumps(slow))
        response = asked.getresponse()
        response.readline()
        assert running.stop() == 0
        assert b"event: end" not in response.read()
        asked.close()

"""Connections that drop, read slowly or stay silent; servers that are told to stop."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.independent import Answer, request
from support.processes import RunningServer, running_server, wait_until
from support.sockets import http_post, raw, silent_reader
from support.transports import ASK, KNOWN, SCRIPTED, polling
from support.transports.sse import events, read_sse
from websockets.sync.client import connect

from servers.transport import PUSHED, TRANSPORTS

Servers = Callable[[str], RunningServer]
PUSHED_OVER_HTTP = [name for name in PUSHED if name != "websocket"]
LONG: dict[str, Any] = {"profile": "fast", "tokens": 2000, "ttft_ms": 0, "gap_ms": 10}


# ---- SSE for EventSource


def get_sse(url: str, query: str, last_event_id: str | None = None) -> tuple[int, dict[str, str], bytes]:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_event_id} if last_event_id else {})
    return request(url, "GET", f"/chat?{query}", headers=headers)


def test_an_eventsource_gets_the_stream_by_get(server: Servers) -> None:
    url = server("sse").url
    by_post = ASK["sse"](url, {"message": "hi", "seed": 5, "stream": "hazards"})
    status, headers, body = get_sse(url, "message=hi&seed=5&stream=hazards")
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert read_sse(body).check().text == by_post.text
    assert next(events(body))["retry"].isdigit()


def test_an_eventsource_resumes_and_is_told_when_it_has_everything(server: Servers) -> None:
    url, query = server("sse").url, "message=hi&stream=%7B%22profile%22:%22fast%22,%22tokens%22:5%7D"
    answer = read_sse(get_sse(url, query)[2]).check()
    rest = read_sse(get_sse(url, query, f"{answer.stream_id}/2")[2]).check(3)
    assert [t["i"] for t in rest.tokens] == [3, 4]
    status, _, body = get_sse(url, query, f"{answer.stream_id}/4")
    assert (status, body) == (204, b"")


def test_a_post_that_missed_only_the_end_message_gets_it(server: Servers) -> None:
    url, body = server("sse").url, {"message": "hi", "stream": {"profile": "fast", "tokens": 3}}
    whole = ASK["sse"](url, body).check()
    status, _, data = request(url, "POST", "/chat", body, {"Last-Event-ID": f"{whole.stream_id}/2"})
    rest = read_sse(data)
    assert (status, rest.tokens, rest.end) == (200, [], whole.end)


def test_bad_queries_are_refused(server: Servers) -> None:
    for query in (
        "",
        "seed=1",
        "message=x&seed=-1",
        "message=x&seed=x",
        "message=x&stream=%7B",
        "message=x&stream=warp",
    ):
        status, _, body = get_sse(server("sse").url, query)
        assert status == 400
        assert json.loads(body)["error"]["message"]


# ---- long polling


def test_long_polling_waits_for_the_next_token_and_no_longer(server: Servers) -> None:
    running = server("polling")
    body = {
        "message": "x",
        "stream_id": "held",
        "stream": {"profile": "fast", "tokens": 2, "ttft_ms": 700, "ttft_sigma": 0},
    }
    request(running.url, "POST", "/chat", body)
    assert json.loads(request(running.url, "GET", "/chat/held?from=0&wait=0.1")[2]) == {
        "tokens": [],
        "next": 0,
        "done": False,
    }
    page = json.loads(request(running.url, "GET", "/chat/held?from=0&wait=20")[2])
    assert page["tokens"][0]["i"] == 0
    held = Answer(tokens=page["tokens"])
    assert held.text


def test_polls_held_open_use_few_requests(server: Servers) -> None:
    running = server("polling")
    before = running.get("/stats")["requests"]
    stream = {"profile": "fast", "tokens": 5, "gap_ms": 100}
    polling.ask(running.url, {"message": "x", "stream": stream}, query="&wait=20").check()
    assert running.get("/stats")["requests"] - before <= 1 + 5 + 1


# ---- clients that go away or read slowly


@pytest.mark.parametrize("transport", PUSHED)
def test_a_client_that_goes_away_frees_its_connection_and_can_resume(transport: str) -> None:
    with running_server(transport) as running:
        body = {"message": "x", "stream_id": "mine", "stream": LONG | {"tokens": 100}}
        if transport == "websocket":
            with connect(running.url.replace("http", "ws") + "/chat") as websocket:
                websocket.send(json.dumps(body))
                websocket.recv(timeout=5)
        else:
            with raw(running.url) as connection:
                connection.sendall(http_post(body))
                connection.recv(100)
        sent = running.get("/stats")["tokens_sent"]
        wait_until(lambda: running.get("/stats")["streams_active"] == 0)
        assert running.get("/stats")["tokens_sent"] - sent < 50, "it went on sending to nobody"
        assert running.get("/stats")["streams_completed"] == 0
        rest = ASK[transport](running.url, body | {"from": 40}).check(40)
        assert len(rest.tokens) == 60


@pytest.mark.parametrize("transport", PUSHED)
def test_a_slow_reader_still_gets_everything(server: Servers, transport: str) -> None:
    stream = {"profile": "fast", "tokens": 20_000, "ttft_ms": 0, "gap_ms": 0, "gap_sigma": 0}
    body = {"message": "x", "stream": stream}
    if transport == "websocket":
        ASK[transport](server(transport).url, body).check()
        return
    with raw(server(transport).url) as connection:
        connection.sendall(http_post(body))
        received = bytearray()
        while not received.endswith(b"0\r\n\r\n"):
            received += connection.recv(30_000)
            time.sleep(0.001)
    assert received.count(b'"due"') == 20_000


@pytest.mark.parametrize("transport", PUSHED_OVER_HTTP)
def test_http_1_0_gets_the_stream_without_chunks(server: Servers, transport: str) -> None:
    with raw(server(transport).url) as connection:
        connection.sendall(http_post({"message": "x", "stream": {"profile": "fast", "tokens": 3}}, "1.0"))
        received = b""
        while part := connection.recv(4096):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body.count(b'"due"') == 3
    assert b'"done": true' in body


# ---- heartbeats


@pytest.mark.parametrize("transport", SCRIPTED)
def test_heartbeats_fill_the_silence(transport: str) -> None:
    beat = KNOWN[transport].HEARTBEAT
    wanted = 1 if transport == "websocket" else 6  # no second ping before a pong
    stream = {"profile": "fast", "tokens": 2, "ttft_ms": 3000, "ttft_sigma": 0}
    with (
        running_server(transport, "--heartbeat", "0.2") as running,
        silent_reader(running.url, transport, {"message": "x", "stream": stream}) as connection,
    ):
        received = b""
        connection.settimeout(5)
        while received.partition(b"\r\n\r\n")[2].count(beat) < wanted:
            received += connection.recv(4096)
        body = received.partition(b"\r\n\r\n")[2]
        assert b'"due"' not in body


# ---- the end


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_at_once(transport: str, number: int) -> None:
    with running_server(transport) as running:
        redis_pid = running.get("/stats").get("redis_pid")
        started = time.monotonic()
        assert running.stop(number) == 0
        assert time.monotonic() - started < 5
        if redis_pid is not None:
            wait_until(lambda: not _exists(redis_pid))


def _exists(pid: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(pid))


def test_a_killed_polling_server_takes_its_redis_along() -> None:
    with running_server("polling") as running:
        redis_pid = running.get("/stats")["redis_pid"]
        running.stop(signal.SIGKILL)
        wait_until(lambda: not _exists(redis_pid))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_answers_expire(transport: str) -> None:
    with running_server(transport, "--keep", "1") as running:
        body = {"message": "x", "stream_id": "brief", "stream": {"profile": "fast", "tokens": 3}}
        ASK[transport](running.url, body).check()
        time.sleep(2.2)
        if transport == "websocket":
            with connect(running.url.replace("http", "ws") + "/chat") as websocket:
                websocket.send(json.dumps(body | {"from": 1}))
                assert json.loads(websocket.recv(timeout=5))["error"]["code"] == "unknown_stream"
        elif TRANSPORTS[transport].pulls:
            assert request(running.url, "GET", "/chat/brief")[0] == 404
        else:
            assert request(running.url, "POST", "/chat", body | {"from": 1})[0] == 404


def _connected(server: RunningServer) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port))


def test_a_connection_on_which_nobody_asks_is_closed() -> None:
    with running_server("sse", "--keep-alive", "0.3") as server, _connected(server) as idle:
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        idle.settimeout(10)
        assert idle.recv(4096).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        assert idle.recv(4096) == b""
        assert time.monotonic() - began > 0.2


def test_two_requests_on_one_websocket_are_answered_in_turn(server: Servers) -> None:
    with connect(server("websocket").url.replace("http", "ws") + "/chat") as websocket:
        for seed in (1, 2):
            websocket.send(json.dumps({"message": "x", "seed": seed, "stream": {"profile": "fast", "tokens": 4}}))
        for _ in (1, 2):
            messages = [json.loads(websocket.recv(timeout=5)) for _ in range(5)]
            assert [m.get("i") for m in messages] == [0, 1, 2, 3, None]
            assert messages[-1]["done"]

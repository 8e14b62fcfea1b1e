"""Clients that read slowly or not at all, or say nothing: what they cost, when they are given up; how servers end."""

from __future__ import annotations

import asyncio
import importlib
import json
import socket
import threading
import time
from array import array
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import psutil
import pytest
from support.independent import Answer, request
from support.processes import running_server, wait_until
from support.sockets import WEBSOCKET_HEAD, http_get, http_post, raw, read_until, silent_reader, websocket_frame
from support.transports import ASK
from websockets.exceptions import ConnectionClosed

from servers.connection import listening
from servers.generation import Generation
from servers.messages import JsonTexts
from servers.push import Push, ReaderGone
from servers.service import Service, Settings, Stats
from servers.stream import Schedule
from servers.transport import PUSHED, TRANSPORTS

pytestmark = pytest.mark.slow

LONG: dict[str, Any] = {"profile": "fast", "tokens": 2000, "ttft_ms": 0, "gap_ms": 10}
LARGE: dict[str, Any] = {
    "profile": "fast", "tokens": 20_000, "ttft_ms": 0, "ttft_sigma": 0, "gap_ms": 0, "gap_sigma": 0
}  # fmt: skip


# ---- what they cost


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_slow_readers_cost_bounded_memory(transport: str) -> None:
    # 20 readers that take nothing of 2 to 3 MB each; the bound for one is 64 KiB of backlog and one batch of 64 KiB.
    readers = 20
    with running_server(transport) as running:
        whole = ASK[transport](running.url, {"message": "x", "stream_id": "one", "stream": LARGE}).check()
        settled = running.get("/stats")["rss_bytes"]
        body = {"message": "x", "stream_id": "one"}
        connections = [silent_reader(running.url, transport, body) for _ in range(readers)]
        wait_until(lambda: running.get("/stats")["tokens_sent"] >= 20_000 + readers * 100)
        time.sleep(0.5)
        grown = running.get("/stats")["rss_bytes"] - settled
        assert grown < readers * 4 * 65_536 + 10 * 2**20
        assert len(whole.tokens) == 20_000
        for connection in connections:
            connection.close()
        ASK[transport](running.url, {"message": "x", "stream_id": "one"}).check()


class Unread:
    """A connection whose reader takes nothing (servers.push.MessageWriter)."""

    def __init__(self, backlog: int) -> None:
        self.backlog, self.heartbeats = backlog, 0

    def write_token(self, generation: Generation, i: int, sent_ns: int) -> int:
        self.write(i, [generation.token(i, sent_ns)], None)
        return self.backlog

    def write(self, _: int, messages: list[bytes], __: bytes | None) -> None:
        self.backlog += sum(map(len, messages))

    def heartbeat(self) -> None:
        self.heartbeats += 1

    def backlog_bytes(self) -> int:
        return self.backlog

    async def drain(self) -> None:
        await asyncio.sleep(60)


@pytest.mark.parametrize(("backlog", "wanted"), [(0, True), (1, False)])
async def test_heartbeats_do_not_pile_up_behind_a_backlog(backlog: int, wanted: bool) -> None:
    answer = Generation("s", Schedule(("a",), array("q", [10**12])), time.monotonic_ns(), lambda _: None, JsonTexts())
    connection = Unread(backlog)
    push = Push(answer, 0, connection, Stats())
    running = asyncio.create_task(push.run(0.01))
    await asyncio.sleep(0.15)
    push.stop()
    await asyncio.sleep(0)
    running.cancel()
    assert bool(connection.heartbeats) == wanted


# ---- when they are given up


async def test_a_reader_that_takes_a_little_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servers.push.STALL_LIMIT_S", 0.1)
    answer = Generation("s", Schedule(("a" * 70_000, "b"), array("q", [0, 0])), 0, lambda _: None, JsonTexts())
    answer.emit(1)
    connection = Unread(0)
    running = asyncio.create_task(Push(answer, 0, connection, Stats()).run(None))
    for _ in range(8):
        await asyncio.sleep(0.05)
        connection.backlog -= 1
    assert not running.done()
    with pytest.raises(ReaderGone):
        await asyncio.wait_for(running, 5)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("how", ["large", "small"])
async def test_who_reads_nothing_is_given_up(transport: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "small" and not hasattr(socket, "TCP_USER_TIMEOUT"):
        pytest.skip("here only a push gives up")
    monkeypatch.setattr("servers.push.STALL_LIMIT_S", 0.4)
    service = Service(Settings(transport))
    # More than the kernel's buffers take, or so little that nothing in the server waits for it.
    stream = LARGE if how == "large" else LARGE | {"tokens": 300}
    app = importlib.import_module(f"servers.{transport}.app").create(service)
    async with listening(app, service.settings) as port:
        url = f"http://127.0.0.1:{port}"
        body = {"message": "x", "stream_id": "one", "stream": stream}
        if transport == "polling":
            await asyncio.to_thread(ASK["polling"], url, body)
        body = {"message": "x", "stream_id": "one"} if transport == "polling" else body
        with await asyncio.to_thread(_unread, url, transport, body) as connection:
            await _until(lambda: _is_held(connection))  # the server has accepted it
            await _until(lambda: not _is_held(connection))
    service.close()


def _unread(url: str, transport: str, body: dict[str, Any]) -> socket.socket:
    if transport != "websocket":
        return silent_reader(url, transport, body)
    connection = raw(url, 4096)
    connection.sendall(WEBSOCKET_HEAD)
    connection.recv(12)
    data = json.dumps(body).encode()
    connection.sendall(bytes([0x81, 0xFE, *len(data).to_bytes(2, "big"), 0, 0, 0, 0]) + data)
    return connection


def _is_held(client: socket.socket) -> bool:
    """Whether the server, which runs in this process, still has the other end of `client`."""
    address = client.getsockname()
    return any(held.raddr == address for held in psutil.Process().net_connections("tcp"))


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.05)


# ---- the end


def _crowd(url: str, transport: str, others: ExitStack) -> None:
    """Clients that are of no help to a server that wants to stop; they stay as long as `others`."""
    parts_of_requests = [b"", b"POST /ch", http_post({"message": "x"})[:-3], http_get("/healthz")]
    if transport == "websocket":
        parts_of_requests += [WEBSOCKET_HEAD, WEBSOCKET_HEAD + websocket_frame({"message": "x"})[:9]]
    for part in parts_of_requests:
        connection = others.enter_context(raw(url))
        connection.sendall(part)
    unread = {"message": "x", "stream_id": "unread", "stream": "hazards"}
    if transport == "polling":
        request(url, "POST", "/chat", unread | {"stream": LARGE})
    others.enter_context(silent_reader(url, transport, unread))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_sigterm_ends_streams_within_five_seconds(transport: str) -> None:
    with running_server(transport) as running, ExitStack() as others:
        _crowd(running.url, transport, others)
        outcome: list[object] = []

        def ask() -> None:
            try:
                outcome.append(ASK[transport](running.url, {"message": "x", "stream": LONG}))
            except (OSError, ConnectionClosed, AssertionError) as error:
                outcome.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: running.get("/stats")["streams_active"] >= 1)
        time.sleep(0.2)
        started = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - started < 5
        asking.join(10)
        answer = outcome[0]
        if transport in PUSHED and transport != "websocket":  # ended properly, and recognisably incomplete
            assert isinstance(answer, Answer)
            assert answer.tokens
            assert answer.end is None
        elif transport == "websocket":
            assert isinstance(answer, ConnectionClosed)
            assert answer.rcvd is not None
            assert answer.rcvd.code == 1001


def test_sigterm_ends_a_polling_server_whose_redis_says_nothing() -> None:
    with running_server("polling") as running:
        redis_process = psutil.Process(running.get("/stats")["redis_pid"])
        request(running.url, "POST", "/chat", {"message": "x", "stream": LONG})
        redis_process.suspend()
        held = threading.Thread(target=_ask_quietly, args=(running.url,))
        held.start()
        time.sleep(0.3)
        started = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - started < 5
        held.join(10)
        wait_until(lambda: not redis_process.is_running())


def _ask_quietly(url: str) -> None:
    with suppress(OSError):
        request(url, "POST", "/chat", {"message": "x"})


# ---- no descriptor left


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="limits of another process can be set on Linux only")
@pytest.mark.parametrize("transport", [name for name in TRANSPORTS if name != "websocket"])  # it closes after a probe
def test_a_fresh_server_at_its_limit_of_descriptors_answers(transport: str) -> None:
    with running_server(transport) as running, raw(running.url) as connection:
        connection.sendall(http_get("/healthz"))  # then it is accepted
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        process = psutil.Process(running.process.pid)
        process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds(), process.num_fds()))
        connection.sendall(http_post({"message": "x", "stream": {"profile": "fast", "tokens": 3}}))
        assert connection.recv(12) in (b"HTTP/1.1 200", b"HTTP/1.1 202")
        read_until(connection, b'"poll"' if transport == "polling" else b"0\r\n\r\n")
        connection.sendall(http_get("/stats"))
        read_until(connection, b'"rss_bytes"')

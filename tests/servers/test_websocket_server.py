"""The WebSocket server over real sockets: frames of every kind, clients that do not read, and its stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from support.processes import RunningServer, running_server
from support.rawhttp import connected, frame, head, upgrade
from support.transports import ASK
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect

from servers.connection import listening
from servers.service import Service, Settings
from servers.websocket import wire
from servers.websocket.app import OPEN, create

Servers = Callable[[str], RunningServer]
QUICK = {"profile": "fast", "tokens": 2, "ttft_ms": 0, "gap_ms": 0, "gap_sigma": 0}
HUGE = QUICK | {"tokens": 20_000}


def asking(stream: dict[str, Any] = QUICK, **more: Any) -> bytes:
    return json.dumps({"message": "x", "stream": stream} | more).encode()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 1_000_000])
def test_frames_are_those_of_a_library(size: int) -> None:
    payload = b"x" * size
    assert wire.encode_frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)


# ---- what comes in


def test_a_frame_sent_along_with_the_handshake_is_answered(server: Servers) -> None:
    with connected(server("websocket").url) as connection:
        connection.sendall(upgrade() + frame(asking()))
        assert _read_until(connection, b'"done"').startswith(b"HTTP/1.1 101")


def test_a_request_in_fragments_with_pings_between_is_one_request(server: Servers) -> None:
    request = asking()
    with connected(server("websocket").url) as connection:
        connection.sendall(upgrade() + frame(request[:10], fin=False) + frame(b"", 0, fin=False) + frame(b"now", 9))
        assert b"\x8a\x03now" in _read_until(connection, b"\x8a\x03now")
        connection.sendall(frame(request[10:20], 0, fin=False) + frame(request[20:], 0))
        assert _read_until(connection, b'"done"').count(b'"due"') == 2


def test_many_requests_at_once_are_answered_in_turn(server: Servers) -> None:
    with connect(server("websocket").url.replace("http", "ws") + "/chat") as websocket:
        for k in range(60):
            websocket.send(asking(stream_id=f"turn-{k}", seed=k), text=True)
        answers = [[json.loads(websocket.recv(timeout=10)) for _ in range(3)] for _ in range(60)]
    assert all([m.get("i") for m in messages] == [0, 1, None] for messages in answers)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(b"\xff\xfe"), 1007),
        (frame(b'{"message": "\xe2\x82', fin=False) + frame(b'"}', 0), 1007),
        (frame(b"{"), 1007),
        (frame(asking(), 2), 1008),
        (frame(b'{"message": "' + b"a" * 2**20 + b'"}'), 1008),
        (frame(b"x" * (2 * 2**20 + 1)), 1009),
        (frame(b"x" * 2**20, fin=False) + frame(b"x" * (2**20 + 1), 0), 1009),
        (frame(b"x", 0), 1002),
        (frame(b"x", 3), 1002),
        (b"\x81\x01x", 1002),  # not masked
        (frame(b"\x03\xe8", 8), 1000),
    ],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else str(value),
)
def test_what_cannot_be_answered_closes_with_its_code(server: Servers, sent: bytes, code: int) -> None:
    with connected(server("websocket").url) as connection:
        connection.sendall(upgrade())
        connection.sendall(sent)
        received = _read_until(connection, b"\x88")
        close = received[received.index(b"\x88") :] + _read_until(connection, b"")
    assert int.from_bytes(close[2:4], "big") == code


def test_a_client_that_says_goodbye_in_mid_answer_is_let_go(server: Servers) -> None:
    stream = {"profile": "fast", "tokens": 30, "ttft_ms": 0, "gap_ms": 20}
    running = server("websocket")
    with connected(running.url) as connection:
        connection.sendall(upgrade() + frame(asking(stream, stream_id="left")))
        _read_until(connection, b'"i": 2,')
        connection.sendall(frame(b"\x03\xe8bye", 8))
        assert _read_until(connection, None).endswith(b"\x88\x05\x03\xe8bye")
    sent = running.get("/stats")["tokens_sent"]
    time.sleep(0.1)
    assert running.get("/stats")["tokens_sent"] == sent
    ASK["websocket"](running.url, {"message": "x"} | {"stream_id": "left", "from": 28}).check(28)


# ---- clients that do not read, or do not answer


@pytest.fixture
async def own() -> AsyncIterator[Callable[..., Any]]:
    """`await own(heartbeat_s=…)`: a WebSocket server in this process: its port and its open connections."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**options: Any) -> tuple[int, set[Any]]:
            settings = Settings("websocket", **options)
            service = Service(settings)
            stack.callback(service.close)
            app = create(service)
            return await stack.enter_async_context(listening(app, settings)), app[OPEN]

        yield start


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


# More than the kernel holds of either: it takes some megabytes for a client that does not.
@pytest.mark.parametrize(
    ("flood", "limit"),
    [
        (frame(asking(HUGE)) * 10, "kernel's"),
        (frame(asking(HUGE)) * 150_000, "kernel's"),
        (frame(b"p" * 125, 9) * 100_000, "kernel's"),
        (frame(b"p" * 125, 9) * 100_000, "own"),  # no answer is under way whose push would give up
    ],
    ids=["answers", "questions", "pongs", "pongs, as where the kernel sets no limit"],
)
async def test_a_client_that_takes_nothing_costs_little_and_is_given_up(
    own: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, flood: bytes, limit: str
) -> None:
    monkeypatch.setattr("servers.push.STALL_LIMIT_S", 0.4)
    if limit == "own":
        monkeypatch.delattr("socket.TCP_USER_TIMEOUT", raising=False)
    port, still_open = await own()
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        sending = asyncio.create_task(loop.sock_sendall(client, upgrade() + flood))
        await _until(lambda: len(still_open) == 1)
        (websocket,) = still_open
        most = 0
        async with asyncio.timeout(10):
            while still_open:
                most = max(most, websocket.backlog_bytes())
                assert len(flood) < 2**20 or not sending.done(), "it read all that it was sent"
                await asyncio.sleep(0.001)
        assert 65_536 < most < 400_000
        with contextlib.suppress(OSError):
            await sending


async def test_a_client_that_answers_no_ping_is_given_up(
    own: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servers.websocket.protocol.PONG_TIMEOUT_S", 0.2)
    port, still_open = await own(heartbeat_s=0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(upgrade())
    async with asyncio.timeout(10):
        received = await reader.read()
    assert received.count(b"\x89\x00") == 1
    assert received.endswith(b"\x88\x15\x03\xf3no answer to a ping")
    writer.close()
    await _until(lambda: not still_open)


async def test_pings_go_on_while_they_are_answered(own: Callable[..., Any]) -> None:
    port, _ = await own(heartbeat_s=0.02)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(upgrade())
    async with asyncio.timeout(10):
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(5):
            assert await reader.readexactly(2) == b"\x89\x00"
            writer.write(frame(b"", 10))
    writer.close()


# ---- the stop


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_it_stops_whatever_clients_do(transport: str, capfd: pytest.CaptureFixture[str]) -> None:
    silent = [b"", b"GET /he", head("POST", "/chat", "Content-Length: 9") + b"{"]
    if transport == "websocket":
        broken = head("GET", "/chat", "Upgrade: websocket", "Connection: Upgrade")
        silent += [upgrade(), upgrade() + frame(asking(HUGE)), upgrade() + frame(b"x" * 9)[:-4], broken]
    with running_server(transport) as running, contextlib.ExitStack() as stack:
        for sent in silent * 2:
            connection = stack.enter_context(connected(running.url))
            connection.sendall(sent)
        running.get("/healthz")
        began_s = time.monotonic()
        assert running.stop(signal.SIGTERM) == 0
        assert time.monotonic() - began_s < 5
    assert capfd.readouterr().err == ""


def test_a_stop_says_goodbye_to_idle_clients() -> None:
    with running_server("websocket") as running, connected(running.url) as connection:
        connection.sendall(upgrade())
        _read_until(connection, b"\r\n\r\n")
        running.process.send_signal(signal.SIGTERM)
        assert _read_until(connection, None)[2:4] == b"\x03\xe9"  # 1001
        assert running.process.wait(10) == 0


def _read_until(connection: socket.socket, wanted: bytes | None) -> bytes:
    """What comes until `wanted` is in it, or (None) until the end."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while wanted is None or wanted not in received:
            part = connection.recv(65_536)
            if not part:
                break
            received += part
    return received

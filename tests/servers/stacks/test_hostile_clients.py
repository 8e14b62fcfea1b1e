"""What a stack's own code has to bear, since its framework leaves it to whoever writes it: seen over bare sockets."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

import pytest
from support.processes import RunningServer, running_server
from support.rawhttp import SHORT, connected, exchange, frame, head, responses, upgrade
from support.sockets import read_until

# In the others a framework reads the frames, and says good-bye.
FRAMES = ("picows", "websockets-send")
LONG = {"message": "x", "stream": {"profile": "fast", "tokens": 20_000, "ttft_ms": 0, "gap_ms": 0.2}}
MAX_UNREAD_BYTES = 64 * 2**20  # far more than 16 requests and the kernel's buffers take


@pytest.fixture(scope="module", params=FRAMES)
def running(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """A stack that serves nothing but WebSockets."""
    with running_server("websocket", "--stack", request.param) as server:
        yield server


def test_a_request_in_fragments_with_a_ping_between_is_one_request(running: RunningServer) -> None:
    asked = json.dumps(SHORT).encode()
    with connected(running.url) as connection:
        connection.sendall(upgrade() + frame(asked[:5], fin=False) + frame(b"hi", 9))
        connection.sendall(frame(asked[5:20], 0, fin=False) + frame(asked[20:], 0))
        assert read_until(connection, b'"done"').count(b'"i": ') == 3


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(b"\xff\xfe"), 1007),
        (frame(b"x", 0), 1002),
        (frame(b"x", fin=False) + frame(b"x"), 1002),
        (frame(b"x" * 2**20, fin=False) + frame(b"x" * (2**20 + 1), 0), 1009),
        *((frame(b"x", 1 | bit), 1002) for bit in (0x10, 0x20, 0x40)),
    ],
    ids=["no UTF-8", "the rest of none", "a message in another", "too large", "RSV3", "RSV2", "RSV1"],
)
def test_what_is_no_message_closes_with_its_code(running: RunningServer, sent: bytes, code: int) -> None:
    with connected(running.url) as connection:
        connection.sendall(upgrade())
        read_until(connection, rb"\r\n\r\n")
        connection.sendall(sent)
        close = read_until(connection, rb"(?s)\x88...")
    assert int.from_bytes(close[2:4], "big") == code


def test_a_close_without_a_code_is_answered_with_none_that_is_forbidden(running: RunningServer) -> None:
    with connected(running.url) as connection:
        connection.sendall(upgrade())
        read_until(connection, rb"\r\n\r\n")
        connection.sendall(frame(b"", 8))
        assert read_until(connection, rb"\x88\x00|\x88\x02..") in (b"\x88\x00", b"\x88\x02\x03\xe8")


def test_questions_that_nobody_waits_for_are_not_read(running: RunningServer) -> None:
    large = frame(json.dumps(LONG | {"message": "x" * 900_000}).encode())
    sent = 0
    with connected(running.url, timeout_s=0.5) as connection, contextlib.suppress(TimeoutError):
        connection.sendall(upgrade())
        while sent < MAX_UNREAD_BYTES:
            connection.sendall(large)
            sent += len(large)
    assert sent < MAX_UNREAD_BYTES


def test_a_target_that_is_no_address_is_refused_in_words(running: RunningServer) -> None:
    [(status, _, body)] = responses(exchange(running.url, upgrade(target="http://[/chat")))
    assert (status, json.loads(body)["error"]["code"]) == (400, "bad_http")


def test_they_stop_whatever_clients_do() -> None:
    silent = [b"", b"GET /he", upgrade(), upgrade() + frame(b"x")[:-1]]
    with contextlib.ExitStack() as opened:
        servers = [opened.enter_context(running_server("websocket", "--stack", stack)) for stack in FRAMES]
        for server in servers:
            for sent in silent:
                opened.enter_context(connected(server.url)).sendall(sent)
            server.get("/healthz")
        began_s = time.monotonic()
        for server in servers:
            server.process.terminate()  # at once: each takes its time
        assert [server.process.wait(10) for server in servers] == [0, 0]
        assert time.monotonic() - began_s < 5


def test_a_malformed_body_is_the_client_s_fault(capfd: pytest.CaptureFixture[str]) -> None:
    asked = head("POST", "/chat", "Transfer-Encoding: chunked", "Connection: close") + b"0x5\r\nabcde\r\n0\r\n\r\n"
    with running_server("chunked", "--stack", "flask-gthread") as server:
        (status, _, body), *_ = responses(exchange(server.url, asked))
    assert (status, json.loads(body)["error"]["code"]) == (400, "bad_body")
    assert "Traceback" not in capfd.readouterr().err

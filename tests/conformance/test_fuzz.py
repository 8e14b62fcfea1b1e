"""Every transport × requests with something wrong in them, by a seed: no fault of the server, nothing left behind."""

from __future__ import annotations

import contextlib
import random
import socket
import time

import psutil
import pytest
from support.processes import running_server
from support.rawhttp import SHORT, connected, frame, head, post, upgrade

from servers.transport import TRANSPORTS

REQUESTS = 250
GOOD = (
    post(SHORT),
    post(SHORT, "Content-Encoding: gzip"),
    post(SHORT, "Last-Event-ID: a/3", "Origin: http://x", "Cookie: a=b; tokenderby=s", "Expect: 100-continue"),
    head("POST", "/chat", "Transfer-Encoding: chunked") + b"5\r\nabcde\r\n0\r\n\r\n",
    head("GET", '/chat?message=x&stream={"tokens":3}&from=1&seed=4'),
    head("GET", "/chat/abc?from=1&wait=0"),
    head("GET", "/stats") * 3,
    head("OPTIONS", "/chat", "Origin: http://x", "Access-Control-Request-Method: POST"),
    upgrade() + frame(b"{}", fin=False) + frame(b"", 9) + frame(b"x", 0) + frame(b"\x03\xe8", 8),
)
REPEATED = (b"[", b'{"a":', b"\xff", b"%00", b"9")


def spoilt(data: bytes, rng: random.Random) -> bytes:
    """`data` with bytes changed, left out, put in or repeated."""
    parts = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        at = rng.randrange(len(parts) + 1)
        match rng.randrange(4):
            case 0:
                parts[at : at + 1] = rng.randbytes(1)
            case 1:
                del parts[at : at + rng.randrange(1, 20)]
            case 2:
                parts[at:at] = rng.randbytes(rng.randrange(1, 20))
            case _:
                parts[at:at] = rng.choice(REPEATED) * rng.choice((10, 1000, 6000))
    return bytes(parts)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_spoilt_requests_are_the_client_s_fault(transport: str, capfd: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(f"tokenderby/{transport}")
    with running_server(transport, "--allow-origin", "*") as running:
        process = psutil.Process(running.process.pid)
        for _ in range(REQUESTS):
            data = spoilt(rng.choice(GOOD), rng)
            cut = rng.randrange(len(data) + 1)
            with (
                contextlib.suppress(OSError),
                connected(running.url, timeout_s=0.01) as connection,
            ):
                connection.sendall(data[:cut])
                connection.sendall(data[cut:])
                if rng.random() < 0.3:
                    connection.shutdown(socket.SHUT_WR)
                assert b" 500 " not in connection.recv(65_536).partition(b"\r\n")[0], data
        deadline_s = time.monotonic() + 10
        # Who has left in mid-answer is noticed when something is sent: no more may be left than are being answered.
        while _left_behind(process) > running.get("/stats")["streams_active"]:
            assert time.monotonic() < deadline_s, "connections are kept that their clients have closed"
            time.sleep(0.05)
        assert running.get("/healthz") == {"transport": transport}
    assert capfd.readouterr().err == ""


def _left_behind(process: psutil.Process) -> int:
    """Connections that their clients have closed and the server has not."""
    return sum(link.status == psutil.CONN_CLOSE_WAIT for link in process.net_connections("tcp"))

"""Each known trap of a stack: there at the setting that has it, and gone at the one that has not (docs/stacks.md)."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import django
import pytest
from support.independent import connection, request
from support.processes import RunningServer, running_server, wait_until
from support.rawhttp import connected, post
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from servers.process import free_port
from servers.stream import StreamSpec, build

pytestmark = pytest.mark.slow

SECRET = "s3cret"
Ask = tuple[str, ...]
PAUSE: dict[str, Any] = {"profile": "fast", "tokens": 2, "ttft_ms": 0, "gap_ms": 20_000, "gap_sigma": 0}
HAZARDS: dict[str, Any] = {"profile": "hazards", "ttft_ms": 0, "gap_ms": 0, "gap_sigma": 0}


@contextmanager
def servers(*asked: Ask) -> Iterator[list[RunningServer]]:
    """Servers side by side: each is asked for as (transport, stack, options…)."""
    with ExitStack() as started, ThreadPoolExecutor(len(asked)) as threads:

        def start(ask: Ask) -> RunningServer:
            transport, stack, *options = ask
            return started.enter_context(running_server(transport, "--stack", stack, *options))

        running = list(threads.map(start, asked))
        yield running
        for server in running:
            server.process.kill()  # what a trap holds up is not what we came for


def opened(server: RunningServer, stream: dict[str, Any], *headers: str) -> socket.socket:
    """A connection on which an answer has been asked for."""
    asked = connected(server.url)
    asked.sendall(post({"message": "x", "stream": stream}, *headers))
    return asked


def token_comes(asked: socket.socket, within_s: float) -> bool:
    """Whether the first token can be read in time, out of what may be packed."""
    asked.settimeout(within_s)
    received = b""
    with suppress(TimeoutError):
        while piece := asked.recv(65_536):
            received += piece
            head, _, body = received.partition(b"\r\n\r\n")
            text = b"".join(chunks(body))
            if b"content-encoding: gzip" in head.lower():
                text = zlib.decompressobj(31).decompress(text)
            if b'"i": 0' in text:
                return True
    return False


def chunks(body: bytes) -> Iterator[bytes]:
    """The whole chunks of a body."""
    while b"\r\n" in body:
        size, _, rest = body.partition(b"\r\n")
        yield rest[: int(size, 16)]
        body = rest[int(size, 16) + 2 :]


def test_gzip_that_does_not_flush_holds_a_stream() -> None:
    """As FastAPI's own was; it flushes now, and lets events alone."""
    traps = [("sse", "fastapi-gzip-unflushed"), ("chunked", "fastapi-gzip-unflushed")]
    sound = [("sse", "fastapi-gzip"), ("chunked", "fastapi-gzip")]
    with servers(*traps, *sound) as running:
        asked = [opened(server, PAUSE, "Accept-Encoding: gzip") for server in running]
        unasked = [opened(server, PAUSE) for server in running[:2]]  # by a client that takes no gzip
        assert all(token_comes(one, within_s=10) for one in (*asked[2:], *unasked))
        assert not any(token_comes(one, within_s=0.3) for one in asked[:2])
        for one in (*asked, *unasked):
            one.close()


@pytest.mark.skipif(django.VERSION >= (6, 1), reason="mended there: one gzip file, flushed behind each piece")
def test_djangos_gzip_packs_each_piece_by_itself() -> None:
    """More bytes than without, and a reader of one gzip file has no token."""
    body = {"message": "x", "stream": {"profile": "fast", "tokens": 50, "ttft_ms": 0, "gap_ms": 0}}
    with servers(("sse", "django-gzip")) as (server,):
        plain = request(server.url, "POST", "/chat", body)[2]
        _, headers, packed = request(server.url, "POST", "/chat", body, {"Accept-Encoding": "gzip"})
    assert headers["content-encoding"] == "gzip"
    assert len(packed) > len(plain)
    assert zlib.decompressobj(31).decompress(packed) == b"retry: 1000\n"
    assert gzip.decompress(packed).count(b"id: ") == 50  # which goes on with the next file


def test_a_generator_that_blocks_has_room_for_40_streams() -> None:
    with servers(("sse", "fastapi-sync-generator"), ("sse", "fastapi")) as running:
        asked = [opened(server, PAUSE) for server in running for _ in range(40)]
        assert all(token_comes(one, within_s=10) for one in asked)
        time.sleep(0.3)  # each waits for its second token by now, in a thread or not
        held, free = late = [opened(server, PAUSE) for server in running]
        assert token_comes(free, within_s=10)
        assert not token_comes(held, within_s=0.3)
        for one in (*asked, *late):
            one.close()


def test_each_hop_costs_processor_time() -> None:
    """Through BaseHTTPMiddleware's queue, and into a thread and back: twice and thrice as much here."""
    stacks = ("fastapi", "fastapi-base-middleware", "fastapi-sync-generator")
    with servers(*(("sse", stack) for stack in stacks)) as running:
        for server in running:
            spent_s(server, questions=1)  # the first answer costs more than any other
        plain_s, *hops_s = [spent_s(server, questions=20) for server in running]
    assert min(hops_s) > 1.2 * plain_s


def spent_s(server: RunningServer, questions: int) -> float:
    """The processor time of so many answers at once, with nobody else asking: what is late is written together."""
    body = {"message": "x", "stream": {"profile": "fast", "tokens": 100, "ttft_ms": 0, "gap_ms": 5}}
    before_s: float = server.get("/stats")["cpu_seconds"]
    with ThreadPoolExecutor(questions) as threads:
        list(threads.map(lambda _: request(server.url, "POST", "/chat", body), range(questions)))
    return float(server.get("/stats")["cpu_seconds"]) - before_s


def test_the_sync_worker_is_killed_in_the_middle_of_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clock stands still while it streams; that of gthread's process does not."""
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--timeout 2")
    slow = {"profile": "fast", "tokens": 9, "ttft_ms": 0, "gap_ms": 500, "gap_sigma": 0}
    with servers(("chunked", "flask-sync"), ("chunked", "flask-gthread")) as running:
        with ThreadPoolExecutor(2) as threads:
            cut, whole = threads.map(lambda server: body_of(server, slow), running)
        assert whole.count(b"\n") == 10
        assert 1 <= cut.count(b"\n") < 9
        assert cut.endswith(b"}\n")  # and no page of an error in it, as gunicorn before 26.2.1 had


def body_of(server: RunningServer, stream: dict[str, Any]) -> bytes:
    """What came of a chunked answer's body."""
    asked = connection(server.url)
    asked.request("POST", "/chat", json.dumps({"message": "x", "stream": stream}))
    try:
        return asked.getresponse().read()
    except http.client.IncompleteRead as error:
        return error.partial
    finally:
        asked.close()


def test_which_of_flasks_servers_close_the_connection() -> None:
    stacks = ("flask-dev", "flask-sync", "flask-gthread", "flask-gevent")
    body = {"message": "x", "stream": {"profile": "fast", "tokens": 2, "ttft_ms": 0, "gap_ms": 1}}
    with servers(*(("chunked", stack) for stack in stacks)) as running:
        told = [request(server.url, "POST", "/chat", body)[1] for server in running]
    assert {headers["transfer-encoding"] for headers in told} == {"chunked"}
    closing = {stack for stack, headers in zip(stacks, told, strict=True) if headers["connection"] == "close"}
    assert closing == {"flask-dev", "flask-sync"}


def test_an_open_stream_blocks_a_stop_that_has_no_limit() -> None:
    with servers(("sse", "fastapi"), ("sse", "fastapi-no-grace")) as (limited, endless):
        asked = [opened(server, PAUSE) for server in (limited, endless)]
        assert all(token_comes(one, within_s=10) for one in asked)
        endless.process.terminate()
        assert limited.stop() == 0
        time.sleep(0.5)
        assert endless.process.poll() is None
        for one in asked:
            one.close()


def test_splitlines_alters_text_that_is_not_escaped() -> None:
    expected = list(build(StreamSpec.parse(HAZARDS), 0).texts)
    asked = (("fastapi-splitlines", "--raw-text"), ("fastapi", "--raw-text"), ("fastapi-splitlines",))
    with servers(*(("sse", *ask) for ask in asked)) as running:
        split, sound, escaped = (texts(server) for server in running)
    assert sound == expected
    assert escaped == expected
    assert split != expected
    altered = [a for a, b in zip(expected, split, strict=True) if a != b]
    assert any("\u2028" in text for text in altered)
    assert all(len(text.splitlines()) > 1 or text.splitlines() != [text] for text in altered)


def texts(server: RunningServer) -> list[str]:
    """The texts of the hazards as a lenient reader has them: lines of data joined, line breaks in JSON allowed."""
    _, _, body = request(server.url, "POST", "/chat", {"message": "x", "stream": HAZARDS})
    blocks = [block.split("\n") for block in body.decode().split("\n\n")]
    data = ["\n".join(line[6:] for line in lines if line.startswith("data: ")) for lines in blocks]
    read = [json.loads(text, strict=False) for text in data if text and text != "[DONE]"]
    return [message["t"] for message in read if "t" in message]


@pytest.mark.parametrize(
    ("trap", "sound"), [("fastapi-http-middleware", "fastapi"), ("django-http-middleware", "django")]
)
def test_http_middleware_is_not_run_for_a_websocket_upgrade(trap: str, sound: str) -> None:
    """The same check: before requests it refuses, and before an upgrade it does not stand."""
    token = ("--auth-token", SECRET)
    with servers(("websocket", trap, *token), ("websocket", sound, *token)) as (open_door, shut):
        for server in (open_door, shut):
            assert request(server.url, "GET", "/stats")[0] == 401
        with connect(open_door.url.replace("http", "ws") + "/chat", close_timeout=1) as websocket:
            websocket.send(json.dumps({"message": "hello", "stream": PAUSE}))
            assert json.loads(websocket.recv(timeout=20))["i"] == 0
        with pytest.raises(InvalidStatus) as refused, connect(shut.url.replace("http", "ws") + "/chat"):
            pass
        assert refused.value.response.status_code == 401


ANSWER = """
import asyncio, os
from fastapi import FastAPI, WebSocket

app = FastAPI()


async def answer(websocket, question):
    made = 0
    try:
        for made in range(1, 41):
            await asyncio.sleep(0.05)
            await websocket.send_text("token")
    finally:
        open(os.environ["MADE"], "w").write(str(made))
"""
WITHOUT = """
@app.websocket("/chat")
async def chat(websocket: WebSocket):
    await websocket.accept()
    await answer(websocket, await websocket.receive_text())
"""
SERVED: dict[str, tuple[str, ...]] = {
    "hypercorn": ("hypercorn", "app:app", "--bind", "127.0.0.1:{port}"),
    "granian": ("granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}", "app:app"),
}


@pytest.mark.extra
@pytest.mark.parametrize("server", SERVED)
def test_a_second_task_notices_that_a_websocket_is_closed(server: str, tmp_path: Path) -> None:
    """As docs/stacks.md writes it: two tokens or three of the forty; without it all are made."""
    with ThreadPoolExecutor(2) as threads:
        with_it, without = threads.map(
            lambda code: made_for_nobody(server, tmp_path / str(len(code)), code), (snippet(), WITHOUT)
        )
    assert 2 <= with_it < 10
    assert without == 40


def snippet() -> str:
    page = (Path(__file__).parents[3] / "docs" / "stacks.md").read_text(encoding="utf-8")
    found: list[str] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    return next(code for code in found if "leaving" in code)


def made_for_nobody(server: str, folder: Path, code: str) -> int:
    """The tokens that an application makes whose client leaves behind the second."""
    folder.mkdir()
    (folder / "app.py").write_text(ANSWER + code)
    port = free_port()
    argv = [sys.executable, "-m", *(word.format(port=port) for word in SERVED[server])]
    told = folder / "made"
    with subprocess.Popen(argv, cwd=folder, env=os.environ | {"MADE": str(told)}) as process:
        try:
            wait_until(lambda: not asks_in_vain(port), timeout_s=20)
            wait_until(told.exists, timeout_s=20)
        finally:
            process.terminate()
    return int(told.read_text())


def asks_in_vain(port: int) -> bool:
    """Ask, read two tokens and reset the connection; whether nobody listens yet."""
    try:
        with connect(f"ws://127.0.0.1:{port}/chat", close_timeout=0.1) as websocket:
            websocket.send("hello")
            assert [websocket.recv(timeout=20) for _ in range(2)] == ["token"] * 2
            websocket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            websocket.socket.close()
    except OSError:
        return True
    return False

"""The emulated proxies against the real ones: the same server, the same client, the same timeouts, side by side.

Outcome, close type, status and time of the end must agree. Times: nginx does not set a timer anew that would move by
less than 300 ms, so its cuts may come that much early; HAProxy's are exact. On a quiet machine both are within 10 ms
beyond that (docs/proxy.md has the measured table); here a busy one is allowed more.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest
from support.processes import wait_until
from support.proxies import OK, Client, Net, read_request

from bench.proxy.behaviours import Cache, CutAll, Upstreams
from bench.proxy.profile import load_profile
from bench.proxy.real import HAPROXY, KINDS, NGINX_HEAD, SECURE, find_program, real_proxy
from bench.proxy.serve import Proxy
from servers.process import free_port

TIME_SCALE = 80  # 60 s are 0.75 s, 50 s are 0.625 s
NGINX_TIMER_STEP_S = 0.3
BUSY_S = 0.2
TOKEN = b"data: " + b"x" * 52 + b"\n\n"
PING, MESSAGE = b"\x89\x80\0\0\0\0", b"\x81\x02hi"

pytestmark = pytest.mark.alone
kinds = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.needs(kind.program)) for name, kind in KINDS.items() if name not in SECURE],
)


async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Streams as an ordinary server does: in chunks to HTTP/1.1, until the connection's end to HTTP/1.0."""
    while True:
        head = await read_request(reader)
        path = head.split()[1]
        chunked = b" HTTP/1.1\r\n" in head
        if key := re.search(rb"(?i)sec-websocket-key: (\S+)", head):
            if re.search(rb"(?i)\nupgrade: websocket", head):
                await websocket(reader, writer, path, key[1])
                return
            writer.write(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n")
        elif path == b"/mute":
            await reader.read()
        elif path == b"/short":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        else:
            await tokens(writer, 50 if path == b"/flow" else 5, chunked=chunked)
            if path == b"/stall":
                await reader.read()
            elif chunked:
                writer.write(b"0\r\n\r\n")
        if not chunked:
            return


async def tokens(writer: asyncio.StreamWriter, n: int, *, chunked: bool) -> None:
    framing = b"Transfer-Encoding: chunked\r\n" if chunked else b""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing + b"\r\n")
    for _ in range(n):
        await asyncio.sleep(0.01)
        writer.write(b"%x\r\n%b\r\n" % (len(TOKEN), TOKEN) if chunked else TOKEN)


async def websocket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: bytes, key: bytes) -> None:
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    for _ in range(20 if path == b"/talking-server" else 5):
        await asyncio.sleep(0.05)
        writer.write(MESSAGE)
    await reader.read()


class Seen(NamedTuple):
    """What a client saw: status line, whether the body ended in order, how and when the connection ended."""

    status: int
    complete: bool
    n_bytes: int
    n_reads: int
    first_byte_s: float
    closed: str
    ended_s: float


HEADERS = {
    b"ws": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    b"": b"",
}


async def look(address: tuple[str, int], path: str) -> Seen:
    """One request through a proxy, until the connection ends (or 2.5 s are over)."""
    reader, writer = await asyncio.open_connection(*address)
    is_websocket = path in ("/socket", "/talking-server", "/talking-client")
    start_s = time.monotonic()
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n".encode() + HEADERS[b"ws" if is_websocket else b""] + b"\r\n")
    talking = asyncio.create_task(ping(writer)) if path == "/talking-client" else None
    got, n_reads, first_byte_s, closed = b"", 0, 0.0, "fin"
    try:
        async with asyncio.timeout(2.5):
            while data := await reader.read(1 << 16):
                first_byte_s = first_byte_s or time.monotonic() - start_s
                got, n_reads = got + data, n_reads + 1
    except ConnectionResetError:
        closed = "rst"
    except TimeoutError:
        closed = "open"
    ended_s = time.monotonic() - start_s
    if talking:
        talking.cancel()
    writer.transport.abort()
    body = got.partition(b"\r\n\r\n")[2]
    complete = got.endswith(b"0\r\n\r\n") or b"ontent-length: %d\r\n" % len(body) in got.replace(b"Length", b"length")
    status = int(got.split()[1]) if got else 0
    return Seen(status, complete, body.count(b"x"), n_reads, first_byte_s, closed, ended_s)


async def ping(writer: asyncio.StreamWriter) -> None:
    for _ in range(20):
        await asyncio.sleep(0.05)
        writer.write(PING)


class Pair(NamedTuple):
    emulated: Seen
    real: Seen


Compare = Callable[..., Awaitable[list[Pair]]]


@pytest.fixture
async def both(net: Net) -> AsyncIterator[Compare]:
    """`await both(name, path)`: the same request through the emulated and the real one, at the same time."""
    upstream = await net.serve(server)
    async with AsyncExitStack() as stack:

        async def compare(name: str, *paths: str, upstream: tuple[str, int] = upstream) -> list[Pair]:
            real = stack.enter_context(real_proxy(name, upstream, time_scale=TIME_SCALE)).address
            rules = load_profile(name).scaled(TIME_SCALE).rules
            emulated = (await stack.enter_async_context(Proxy(upstream, rules))).address
            seen = await asyncio.gather(*(look(address, path) for path in paths for address in (emulated, real)))
            for path, one, two in zip(paths, seen[::2], seen[1::2], strict=True):
                print(f"{name} {path}\n  emulated {one}\n  real     {two}")
            return [Pair(*pair) for pair in zip(seen[::2], seen[1::2], strict=True)]

        yield compare


def assert_ended_together(pair: Pair, name: str) -> None:
    step_s = NGINX_TIMER_STEP_S if name.startswith("nginx") else 0
    assert -step_s - BUSY_S < pair.real.ended_s - pair.emulated.ended_s < BUSY_S


@kinds
async def test_side_by_side(both: Compare, name: str) -> None:
    sockets = "/socket", "/talking-server", "/talking-client"
    mute, stall, flow, short, *tunnels = await both(name, "/mute", "/stall", "/flow", "/short", *sockets)
    # Before the first byte: the same status, as early.
    assert mute.emulated.status == mute.real.status == 504
    assert abs(mute.emulated.first_byte_s - mute.real.first_byte_s) < BUSY_S
    # Idle in mid-stream: an orderly close, no last chunk, the same bytes lost with it.
    assert (stall.emulated.status, stall.emulated.closed) == (stall.real.status, stall.real.closed) == (200, "fin")
    assert not stall.emulated.complete
    assert not stall.real.complete
    assert stall.emulated.n_bytes == stall.real.n_bytes
    assert_ended_together(stall, name)
    # A stream that flows arrives whole, in about as many pieces, from about the same time on.
    assert flow.emulated.complete
    assert flow.real.complete
    assert flow.emulated.n_bytes == flow.real.n_bytes
    assert 0.5 < flow.emulated.n_reads / flow.real.n_reads < 2
    assert abs(flow.emulated.first_byte_s - flow.real.first_byte_s) < BUSY_S
    # And an idle connection is closed as late.
    assert (short.emulated.closed, short.real.closed) == ("fin", "fin")
    assert_ended_together(short, "exact")
    # WebSockets: silent, or with one side talking; nginx without Upgrade forwarded has none.
    for pair in tunnels:
        if name == "nginx":
            assert pair.emulated.status == pair.real.status == 426
        else:
            assert (pair.emulated.status, pair.emulated.closed) == (pair.real.status, pair.real.closed) == (101, "fin")
            assert_ended_together(pair, name)


@kinds
async def test_a_server_that_is_not_there(both: Compare, net: Net, name: str) -> None:
    if not name.startswith("nginx"):
        return  # HAProxy tries three times, a second apart, before its 503: docs/proxy.md
    (pair,) = await both(name, "/", upstream=await net.closed_port())
    assert pair.emulated.status == pair.real.status == 502


@kinds
def test_as_a_command(name: str) -> None:
    """It starts the real one in front of nothing, and takes it along when it goes."""
    command = [sys.executable, "-m", "bench.proxy", "--profile", f"real:{name}", "--upstream", "127.0.0.1:9"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        ready = json.loads(process.stdout.readline())
        assert ready["profile"] == f"real:{name}"
        host, _, port = ready["url"].removeprefix("http://").rpartition(":")
        socket.create_connection((host, int(port)), timeout=5).close()
        process.terminate()
        assert process.wait(10) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)


@kinds
async def test_a_pipelined_request_waits_for_its_turn(net: Net, name: str) -> None:
    """The server is not asked the second question before it has answered the first one."""
    asked: list[tuple[bytes, float]] = []

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            path = (await read_request(reader)).split()[1]
            asked.append((path, time.monotonic()))
            await asyncio.sleep(0.1)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    upstream = await net.serve(slow)
    emulated = await net.proxy(upstream, *load_profile(name).rules)
    with real_proxy(name, upstream) as real:
        for address in (emulated, real.address):
            asked.clear()
            client = await net.connect(address)
            client.send(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
            got = b""
            while got.count(b"\r\n\r\nok") < 2 and (data := await client.read()):
                got += data
            (first, first_s), (second, second_s) = asked
            assert (first, second) == (b"/1", b"/2")
            assert second_s - first_s > 0.09


async def closes_behind_a_second_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As a server whose keep-alive is over just then."""
    await read_request(reader)
    writer.write(OK)
    await read_request(reader)


async def second_answer(address: tuple[str, int], method: bytes) -> bytes:
    """The status line that the second request of a connection gets, b"" if none."""
    reader, writer = await asyncio.open_connection(*address)
    request = method + b" / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    writer.write(request)
    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
    writer.write(request)
    try:
        return (await asyncio.wait_for(reader.readuntil(b"\r\n"), 5))[9:12]
    except asyncio.IncompleteReadError:
        return b""
    finally:
        writer.close()


POOLS = {
    "nginx": (Upstreams(each="request", keep_s=60, retry="idempotent"), [b"502", b"200"]),
    "haproxy": (Upstreams(each="request", keep_s=60, when_lost="close"), [b"", b""]),
}


@pytest.mark.parametrize("program", [pytest.param(name, marks=pytest.mark.needs(name)) for name in POOLS])
async def test_a_kept_connection_whose_server_closes_first(net: Net, tmp_path: Path, program: str) -> None:
    """What becomes of a POST and a GET that are lost so."""
    rule, expected = POOLS[program]
    upstream = await net.serve(closes_behind_a_second_request)
    with pooling(program, upstream, tmp_path) as real:
        for address in (real, await net.proxy(upstream, rule)):
            assert [await second_answer(address, method) for method in (b"POST", b"GET")] == expected


@contextmanager
def pooling(program: str, upstream: tuple[str, int], folder: Path) -> Iterator[tuple[str, int]]:
    """A real one that keeps its connections to servers; its address. (HAProxy always does.)"""
    if program == "nginx":
        with nginx(upstream, folder, "master_process off;") as (address, _):
            yield address
        return
    listen = ("127.0.0.1", free_port("127.0.0.1"))
    server, at = (f"{host}:{port}" for host, port in (upstream, listen))
    config = HAPROXY.format(keepalive_ms=60_000, idle_ms=60_000, extra="", listen=at, upstream=server)
    (folder / "config").write_text(config)
    with started([find_program("haproxy"), "-db", "-f", f"{folder}/config"], listen):
        yield listen


@contextmanager
def nginx(
    upstream: tuple[str, int], folder: Path, settings: str, location: str = ""
) -> Iterator[tuple[tuple[str, int], subprocess.Popen[bytes]]]:
    """A real nginx with a pool and without buffering, and with a cache if `location` uses it; address and process."""
    listen = ("127.0.0.1", free_port("127.0.0.1"))
    server, at = (f"{host}:{port}" for host, port in (upstream, listen))
    config = (
        f"{settings}\n{NGINX_HEAD.format(folder=folder)}upstream servers {{ server {server}; keepalive 8; }}"
        f"proxy_cache_path {folder}/cache keys_zone=shared:1m;"
        f"server {{ listen {at}; location / {{ proxy_pass http://servers; proxy_http_version 1.1;"
        f'proxy_set_header Connection ""; {location or "proxy_buffering off;"} }} }} }}'
    )
    (folder / "config").write_text(config)
    command = [find_program("nginx"), "-e", f"{folder}/error.log", "-c", f"{folder}/config"]
    with started(command, listen) as process:
        yield listen, process


@contextmanager
def started(command: list[str], listen: tuple[str, int]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command)
    try:
        wait_until(lambda: is_open(listen))
        yield process
    finally:
        process.terminate()
        process.wait()


def is_open(address: tuple[str, int]) -> bool:
    with suppress(OSError), socket.create_connection(address, timeout=1):
        return True
    return False


async def until_end(client: Client, path: bytes) -> tuple[str, bool, float]:
    """How and when (CLOCK_MONOTONIC, s) a connection with one request ended, and whether its response was whole."""
    client.send(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    got, how = await client.until_end()
    return how, got.endswith((b"0\r\n\r\n", b"\r\n\r\nok")), time.monotonic()


@pytest.mark.needs("nginx")
async def test_a_reload_with_a_grace(net: Net, tmp_path: Path) -> None:
    """Who waits for the next request goes at once, a response may end in order, and what is left is cut at last."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await read_request(reader)).split()[1]
        if path == b"/short":
            writer.write(OK)
        else:
            await tokens(writer, 60, chunked=True)
            writer.write(b"0\r\n\r\n" if path == b"/long" else b"")
        await reader.read()

    upstream = await net.serve(answer)
    with nginx(upstream, tmp_path, "worker_shutdown_timeout 1s;") as (real, process):
        emulated = await net.proxy(upstream, CutAll(at_s=0.3, grace_s=1))
        event_s = time.monotonic() + 0.3
        asyncio.get_running_loop().call_later(0.3, process.send_signal, signal.SIGHUP)
        cases = [(address, path) for address in (emulated, real) for path in (b"/short", b"/long", b"/endless")]
        seen = [until_end(await net.connect(address), path) for address, path in cases]
        ends = [(how, whole, end_s - event_s) for how, whole, end_s in await asyncio.gather(*seen)]
    for idle, whole, cut in (ends[:3], ends[3:]):
        assert [end[:2] for end in (idle, whole, cut)] == [("fin", True), ("fin", True), ("fin", False)]
        assert idle[2] < whole[2] < cut[2]
        assert cut[2] > 0.9


CACHE = "proxy_cache shared; proxy_cache_valid 200 1m;"


@pytest.mark.needs("nginx")
@pytest.mark.parametrize("honours", [False, True])
async def test_a_cache(net: Net, tmp_path: Path, honours: bool) -> None:
    """Which requests are answered by it, and what it makes of `Cache-Control: no-store`."""

    async def numbered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in count():
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 2\r\n\r\n%02d" % number)

    upstream = await net.serve(numbered)
    location = CACHE if honours else CACHE + "proxy_ignore_headers Cache-Control;"
    with nginx(upstream, tmp_path, "master_process off;", location) as (real, _):
        for address in (real, await net.proxy(upstream, Cache(max_age_s=60, honour_cache_control=honours))):
            client = await net.connect(address)
            lines = (b"GET /a?from=0", b"GET /a?from=0", b"GET /a?from=1", b"POST /a?from=0", b"GET /a?from=0")
            answers = []
            for line in lines:
                client.send(line + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
                await client.reader.readuntil(b"\r\n\r\n")
                answers.append(int(await client.reader.readexactly(2)))
            assert answers == ([0, 1, 2, 3, 4] if honours else [0, 0, 1, 2, 0])

"""Every behaviour over real sockets: what a client and a server see of it, and what the log says.

Times are short and asserted loosely: exact ones are the tables' business (test_behaviours_by_clock.py).
"""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from contextlib import suppress
from typing import Literal

import aiohttp
import pytest
import websockets
from support.proxies import CHUNKED_HEAD, CLOSE_HEAD, OK, REQUEST, Client, Net, chunk, read_request

from bench.proxy.behaviours import (
    BEHAVIOURS,
    Bandwidth,
    Cache,
    ChunkedTruncation,
    Coalescing,
    Cut,
    CutAll,
    FirstByteTimeout,
    GzipHoldback,
    HeadHoldback,
    IdleTimeout,
    KeepaliveTimeout,
    Latency,
    MaxAge,
    MaxDuration,
    MaxRequests,
    Nagle,
    Noop,
    Refuse,
    ResponseBuffering,
    Slicing,
    SlowClose,
    Unreachable,
    Upgrade,
    WebsocketClose,
)
from bench.proxy.stage import CutAction

TOKENS = [f"t{i} ".encode() for i in range(10)]
STREAM = b"".join(chunk(token) for token in TOKENS) + b"0\r\n\r\n"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)


async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers a request with ten chunks, 10 ms apart."""
    while True:
        await read_request(reader)
        writer.write(CHUNKED_HEAD)
        for token in TOKENS:
            await asyncio.sleep(0.01)
            writer.write(chunk(token))
        writer.write(b"0\r\n\r\n")


async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers a request with the head and one chunk, then stays silent until the proxy goes."""
    await read_request(reader)
    writer.write(CHUNKED_HEAD + chunk(b"hello"))
    await reader.read()


async def mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Never answers."""
    await reader.read()


async def short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each request at once."""
    while True:
        await read_request(reader)
        writer.write(OK)


async def arrivals(client: Client) -> list[tuple[float, bytes]]:
    """Reads until the end, with the time of each read since the first call."""
    start_s, got = time.monotonic(), []
    while data := await client.read():
        got.append((time.monotonic() - start_s, data))
    return got


async def test_noop(net: Net) -> None:
    client = await net.through(echo, Noop())
    client.send(b"hello")
    assert await client.read() == b"hello"
    client.writer.write_eof()
    assert await client.until_end() == (b"", "fin")
    (record,) = await net.records()
    assert (record.ended_by, record.closed, record.bytes_up, record.bytes_down) == ("client", "fin", 5, 5)


@pytest.mark.parametrize("action", ["fin", "rst"])
async def test_idle_timeout(net: Net, action: CutAction) -> None:
    client = await net.through(echo, IdleTimeout(idle_timeout_s=0.15, action=action))
    for _ in range(5):  # twice as long as the timeout, never idle
        client.send(b"x")
        assert await client.read() == b"x"
        await asyncio.sleep(0.06)
    assert await client.until_end() == (b"", action)
    (record,) = await net.records()
    assert (record.ended_by, record.closed, record.bytes_up, record.bytes_down) == ("idle_timeout", action, 5, 5)
    assert 0.15 <= record.idle_s < 0.25
    assert record.ended_at_s > 0.35


async def test_idle_timeout_black_hole(net: Net) -> None:
    rule = IdleTimeout(idle_timeout_s=0.05, action="black_hole", forget_s=0.4)
    client = await net.through(echo, rule)
    await asyncio.sleep(0.1)
    client.send(b"late")
    assert await client.until_end(0.15) == (b"", "silence")
    assert await client.until_end() == (b"", "rst")  # forgotten
    (record,) = await net.records()
    assert (record.ended_by, record.closed, record.bytes_up) == ("idle_timeout", "black_hole", 0)


async def test_idle_timeout_black_hole_that_resets_late_data(net: Net) -> None:
    client = await net.through(echo, IdleTimeout(idle_timeout_s=0.05, action="black_hole", late_data="rst"))
    assert await client.until_end(0.15) == (b"", "silence")
    client.send(b"late")
    assert await client.until_end() == (b"", "rst")


async def test_idle_timeout_before_a_response(net: Net) -> None:
    client = await net.through(mute, IdleTimeout(idle_timeout_s=0.1, status=504))
    client.send(REQUEST)
    answer, how = await client.until_end()
    assert answer.startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
    assert how == "fin"
    (record,) = await net.records()
    assert (record.ended_by, record.closed, record.status) == ("idle_timeout", "fin", 504)


async def test_keepalive_timeout(net: Net) -> None:
    client = await net.through(short, KeepaliveTimeout(keepalive_timeout_s=0.1))
    for _ in range(3):
        client.send(REQUEST)
        assert await client.reader.readexactly(len(OK)) == OK
        await asyncio.sleep(0.05)
    assert await client.until_end() == (b"", "fin")
    assert (await net.records())[0].ended_by == "keepalive_timeout"


async def test_max_age(net: Net) -> None:
    client = await net.through(short, MaxAge(max_age_s=0.1))
    client.send(REQUEST)
    assert await client.reader.readexactly(len(OK)) == OK
    await asyncio.sleep(0.12)
    client.send(REQUEST)
    answer, how = await client.until_end()
    assert answer.endswith(b"\r\n\r\nok")
    assert b"\r\nConnection: close\r\n" in answer
    assert how == "fin"
    assert (await net.records())[0].ended_by == "max_age"


async def test_max_requests(net: Net) -> None:
    client = await net.through(short, MaxRequests(max_requests=3))
    for _ in range(2):
        client.send(REQUEST)
        assert await client.reader.readexactly(len(OK)) == OK
    client.send(REQUEST)
    answer, how = await client.until_end()
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\nok")
    assert how == "fin"
    assert (await net.records())[0].ended_by == "max_requests"


async def test_max_duration(net: Net) -> None:
    client = await net.through(stream, MaxDuration(max_duration_s=0.06))
    client.send(REQUEST)
    answer, how = await client.until_end()
    assert answer.startswith(CHUNKED_HEAD + chunk(TOKENS[0]))
    assert not answer.endswith(b"0\r\n\r\n")
    assert how == "fin"
    assert (await net.records())[0].ended_by == "max_duration"


async def test_first_byte_timeout(net: Net) -> None:
    client = await net.through(mute, FirstByteTimeout(first_byte_timeout_s=0.1, status=503, body="H12"))
    client.send(REQUEST)
    answer, how = await client.until_end()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b"\r\n\r\nH12")
    assert how == "fin"
    assert (await net.records())[0].status == 503


async def test_response_buffering(net: Net) -> None:
    client = await net.through(stream, ResponseBuffering(until_complete=True))
    client.send(REQUEST)
    assert await client.read() == CHUNKED_HEAD + STREAM  # in one read


async def test_response_buffering_of_the_first_bytes(net: Net) -> None:
    """As a browser that looks at the first bytes before it shows any: one late burst, then token by token."""
    client = await net.through(stream, ResponseBuffering(first_bytes=25))
    client.send(REQUEST)
    first = await client.read()
    assert first.startswith(CHUNKED_HEAD)
    assert len(CHUNKED_HEAD) + 25 <= len(first) < len(CHUNKED_HEAD + STREAM)
    rest = await client.reader.readexactly(len(CHUNKED_HEAD + STREAM) - len(first))
    assert first + rest == CHUNKED_HEAD + STREAM


async def test_head_holdback(net: Net) -> None:
    go_on = asyncio.Event()

    async def think(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(CHUNKED_HEAD)
        await go_on.wait()
        writer.write(STREAM)

    client = await net.through(think, HeadHoldback())
    client.send(REQUEST)
    assert await client.until_end(0.15) == (b"", "silence")
    go_on.set()
    assert await client.reader.readexactly(len(CHUNKED_HEAD + STREAM)) == CHUNKED_HEAD + STREAM
    assert (await net.records())[0].struck == ["head_holdback"]


async def test_a_rule_for_one_method(net: Net) -> None:
    client = await net.through(stream, ResponseBuffering(until_complete=True, methods=("POST",)))
    client.send(REQUEST)
    assert len(await client.read()) < len(CHUNKED_HEAD + STREAM)  # a GET's tokens come as they are


async def test_gzip_holdback(net: Net) -> None:
    client = await net.through(stream, GzipHoldback(content_types=("text/event-stream",)))
    client.send(REQUEST[:-2] + b"Accept-Encoding: gzip\r\n\r\n")
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert b"Content-Encoding: gzip" in head
    body = b""
    while size := int(await client.reader.readline(), 16):
        body += (await client.reader.readexactly(size + 2))[:-2]
    assert gzip.decompress(body) == b"".join(TOKENS)


@pytest.mark.parametrize("n", [1, len(CHUNKED_HEAD), len(CHUNKED_HEAD) + 7, len(CHUNKED_HEAD + STREAM) - 1])
@pytest.mark.parametrize("action", ["fin", "rst"])
async def test_cut(net: Net, action: CutAction, n: int) -> None:
    client = await net.through(stream, Cut(action=action, after_bytes=n))
    client.send(REQUEST)
    assert await client.until_end() == ((CHUNKED_HEAD + STREAM)[:n], action)
    (record,) = await net.records()
    assert (record.ended_by, record.closed, record.bytes_down) == ("cut", action, n)


async def test_cache(net: Net) -> None:
    """A second client gets at once what the first one was given, and the server hears nothing of it."""
    asked: list[bytes] = []

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await read_request(reader))
        writer.write(OK)
        await reader.read()

    address = await net.proxy(await net.serve(once), Cache(max_age_s=60))
    for n_bytes in (len(OK), len(OK) + len(b"Age: 0\r\n")):
        client = await net.connect(address)
        client.send(REQUEST)
        answer = await client.reader.readexactly(n_bytes)
        assert answer.endswith(b"\r\n\r\nok")
    assert len(asked) == 1
    assert sorted(record.bytes_up for record in await net.records(2)) == [0, len(REQUEST)]


async def test_cut_all(net: Net) -> None:
    """All at once; who comes in the outage is refused, who comes behind it is served."""
    address = await net.proxy(await net.serve(stall), CutAll(at_s=0.4, action="rst", outage_s=0.3))
    clients = [await net.connect(address) for _ in range(5)]
    for client in clients:
        client.send(REQUEST)
    seen = await asyncio.gather(*(client.until_end() for client in clients))
    assert seen == [(CHUNKED_HEAD + chunk(b"hello"), "rst")] * 5
    assert await (await net.connect(address)).until_end() == (b"", "rst")
    await asyncio.sleep(0.4)
    later = await net.connect(address)
    later.send(REQUEST)
    assert (await later.read()).startswith(CHUNKED_HEAD)
    records = await net.records(7)
    ends = [record.start_ns / 1e9 + record.ended_at_s for record in records[:5]]
    assert max(ends) - min(ends) < 0.1
    assert [record.ended_by for record in records] == ["cut_all"] * 6 + ["client"]


async def test_cut_all_after_a_grace(net: Net) -> None:
    """A reload: who waits for the next request goes at once, who is in a response may go on for a while."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_request(reader)
        writer.write(OK if b"/short" in head else CHUNKED_HEAD)
        await reader.read()

    address = await net.proxy(await net.serve(once), CutAll(at_s=0.3, grace_s=0.4, action="rst"))
    idle, busy = await net.connect(address), await net.connect(address)
    idle.send(REQUEST.replace(b"/ ", b"/short "))
    busy.send(REQUEST)
    assert await idle.until_end() == (OK, "fin")
    assert await busy.until_end() == (CHUNKED_HEAD, "rst")
    first, second = sorted(await net.records(2), key=lambda record: record.connection)
    assert second.ended_at_s - first.ended_at_s > 0.3


@pytest.mark.parametrize("since", ["connection", "response"])
async def test_cut_where_the_server_speaks_first(net: Net, since: Literal["connection", "response"]) -> None:
    """At once, so that its first bytes come together with the news that it is connected; they count as well."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def talk() -> None:
            peer, _ = listener.accept()
            with peer, suppress(ConnectionError):
                peer.sendall(b"x" * 50)
                time.sleep(0.3)
                peer.sendall(b"x" * 200)

        talking = asyncio.create_task(asyncio.to_thread(talk))
        rule = Cut(action="fin", after_bytes=100, since=since)
        client = await net.connect(await net.proxy(listener.getsockname(), rule))
        while not net.proxies[-1].relays:
            await asyncio.sleep(0)
        for _ in range(10):
            time.sleep(0.01)  # noqa: ASYNC251 (the loop is to be busy while the server connects and speaks)
            await asyncio.sleep(0)
        assert await client.until_end() == (b"x" * 100, "fin")
        await talking


@pytest.mark.parametrize(("mode", "seen"), [("rst", b""), ("fin", b""), ("status", b"HTTP/1.1 503 ")])
async def test_refuse(net: Net, mode: Literal["fin", "rst", "status"], seen: bytes) -> None:
    client = await net.through(short, Refuse(mode=mode, retry_after_s=1.2))
    if mode == "status":
        client.send(REQUEST)
    answer, how = await client.until_end()
    assert answer.startswith(seen)
    assert (b"Retry-After: 2\r\n" in answer) == (mode == "status")
    assert how == ("rst" if mode == "rst" else "fin")
    assert (await net.records())[0].ended_by == "refuse"


async def test_latency(net: Net) -> None:
    client = await net.through(echo, Latency(latency_ms=60))
    start_s = time.monotonic()
    client.send(b"x")
    assert await client.read() == b"x"
    assert 0.12 <= time.monotonic() - start_s < 0.3


async def test_bandwidth(net: Net) -> None:
    async def send_20k(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 20_000)

    start_s = time.monotonic()
    client = await net.through(send_20k, Bandwidth(rate_kbit=800))  # 100 kB/s
    got, _ = await client.until_end()
    assert len(got) == 20_000
    assert 0.19 <= time.monotonic() - start_s < 0.5


async def test_slicing(net: Net) -> None:
    async def send_100(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 100)

    got = await arrivals(await net.through(send_100, Slicing(slice_bytes=10, delay_ms=5)))
    assert sum(len(data) for _, data in got) == 100
    assert len(got) >= 5  # a busy machine may join some


async def test_coalescing(net: Net) -> None:
    client = await net.through(stream, Coalescing(coalesce_ms=50), Cut(action="fin", after_s=0.3))
    client.send(REQUEST)
    got = await arrivals(client)
    assert b"".join(data for _, data in got) == CHUNKED_HEAD + STREAM
    assert len(got) <= 5


async def test_nagle(net: Net) -> None:
    """A token every 10 ms comes in bursts; a time scale changes nothing of a kernel's 40 ms."""
    client = await net.through(stream, Nagle(late_acks="all").scaled(1000), Cut(action="fin", after_s=0.4))
    client.send(REQUEST)
    got = await arrivals(client)
    assert b"".join(data for _, data in got) == CHUNKED_HEAD + STREAM
    assert len(got) <= 6


async def test_slow_close(net: Net) -> None:
    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")

    client = await net.through(close, SlowClose(close_delay_s=0.15))
    assert await client.read() == b"bye"
    start_s = time.monotonic()
    assert await client.until_end() == (b"", "fin")
    assert time.monotonic() - start_s > 0.1


async def websocket_echo(net: Net) -> tuple[str, int]:
    async def handler(connection: websockets.ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    server = await websockets.serve(handler, "127.0.0.1", 0)
    net.stack.callback(server.close)
    return "127.0.0.1", server.sockets[0].getsockname()[1]


async def test_upgrade_refused(net: Net) -> None:
    host, port = await net.proxy(await websocket_echo(net), Upgrade(action="refuse", status=403))
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(f"ws://{host}:{port}/")
    assert refused.value.response.status_code == 403


async def test_upgrade_stripped(net: Net) -> None:
    host, port = await net.proxy(await websocket_echo(net), Upgrade(action="strip"))
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(f"ws://{host}:{port}/")
    assert refused.value.response.status_code == 426  # the server saw a plain GET


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_websocket_close(net: Net, compression: str | None) -> None:
    rule = WebsocketClose(idle_timeout_s=0.15, close_code=1012, reason="service restart")
    host, port = await net.proxy(await websocket_echo(net), rule)
    async with websockets.connect(f"ws://{host}:{port}/", compression=compression) as connection:
        for _ in range(4):
            await connection.send("hello " * 20)
            assert await connection.recv() == "hello " * 20
            await asyncio.sleep(0.05)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await connection.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "service restart")
    assert (await net.records())[0].ended_by == "websocket_close"


@pytest.mark.parametrize(
    ("rule", "seen"),
    [
        (ChunkedTruncation(), STREAM[:-5]),
        (ChunkedTruncation(where="chunk_boundary", after_chunks=3), b"".join(map(chunk, TOKENS[:3]))),
    ],
)
async def test_chunked_truncation(net: Net, rule: ChunkedTruncation, seen: bytes) -> None:
    client = await net.through(stream, rule)
    client.send(REQUEST)
    assert await client.until_end() == (CHUNKED_HEAD + seen, "fin")


async def test_a_real_client_notices_the_truncation(net: Net) -> None:
    host, port = await net.proxy(await net.serve(stream), ChunkedTruncation())
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/") as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_unreachable(net: Net) -> None:
    nobody = await net.closed_port()
    client = await net.connect(await net.proxy(nobody, Unreachable(status=502)))
    await asyncio.sleep(0.05)
    client.send(REQUEST)
    answer, how = await client.until_end()
    assert answer.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert how == "fin"
    assert (await net.records())[0].ended_by == "unreachable"


async def test_unreachable_without_a_rule(net: Net) -> None:
    client = await net.connect(await net.proxy(await net.closed_port()))
    assert await client.until_end() == (b"", "rst")
    (record,) = await net.records()
    assert (record.ended_by, record.closed) == ("upstream", "rst")


async def test_buffered_stream_that_goes_idle_is_flushed_then_cut(net: Net) -> None:
    """As nginx does: what it holds goes out before the FIN."""
    rules = ResponseBuffering(buffer_bytes=4096), IdleTimeout(idle_timeout_s=0.1, scope="request", reset_by="down")

    async def close_delimited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(CLOSE_HEAD + b"hello")
        await reader.read()

    client = await net.through(close_delimited, *rules)
    client.send(REQUEST)
    assert await client.until_end() == (CLOSE_HEAD + b"hello", "fin")


def test_each_has_a_test() -> None:
    tests = " ".join(name for name in globals() if name.startswith("test_"))
    elsewhere = {"upstreams"}  # test_pool.py
    assert {name for name in BEHAVIOURS if name not in tests} == elsewhere

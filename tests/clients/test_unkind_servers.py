"""Servers that do what they should not, against both drivers: nothing hangs, nothing grows, nothing is judged wrong."""

from __future__ import annotations

import asyncio
import gc
import gzip
import socket
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count

import pytest
import uvloop
from support.asking import ANSWER, question
from support.drivers import AsyncUser
from support.feeding import encoded, encoded_end
from support.scripted import Connection, blocking, chunk, close_frame, frame, response, scripted, streamed, switching
from support.transports.polling import ACCEPTED, page

from clients.core.http1 import MAX_BARE_BYTES, Http1Response, HttpConnection
from clients.core.record import Outcome
from clients.core.recovery import Policy
from clients.core.response import Unpacker
from clients.core.settings import ClientSettings
from clients.drivers.aio import AioClient
from servers.sse import wire as sse

MakeClient = Callable[..., AsyncUser]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
FLOOD_S = 5.0  # far longer than the message may take
RESET = b"reset"
PATIENCE_S = 60.0  # a client on a busy machine answers some ten thousand pings before it gives up


def flooding(connection: socket.socket) -> None:
    """Heartbeats, faster than anybody can read them, until the client has closed."""
    beats = b": x\n" * 4_000
    data = (b"%x\r\n%b\r\n" % (len(beats), beats)) * 20
    connection.recv(65_536)
    connection.sendall(HEAD)
    end = time.monotonic() + FLOOD_S
    while time.monotonic() < end:
        connection.sendall(data)


async def test_a_flood_does_not_keep_the_clock_from_striking(client: MakeClient) -> None:
    async with blocking(flooding) as url:
        record = await client("sse", url).ask(question(timeout_s=0.3))
    assert (record.outcome, record.detail.split(":")[0]) == (Outcome.TIMEOUT, "timeout")


@contextmanager
def black_hole() -> Iterator[tuple[str, int]]:
    """An address that takes no connection and refuses none: whoever listens there has all that it can hold."""
    with ExitStack() as held, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        with suppress(TimeoutError):
            for _ in range(100):
                knocking = held.enter_context(socket.socket())
                knocking.settimeout(0.1)
                knocking.connect(listening.getsockname())
        yield listening.getsockname()


async def test_an_address_of_a_name_that_says_nothing_does_not_take_all_the_time(
    client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(response(b"{}"))

    async with scripted(script) as server:
        with black_hole() as silent, socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            addresses = [silent, nobody.getsockname(), ("127.0.0.1", int(server.url.rpartition(":")[2]))]
            found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for address in addresses]
            for module in ("socket", "gevent.socket"):
                monkeypatch.setattr(f"{module}.getaddrinfo", lambda *_, **__: found)
            for module in ("aio", "gev"):
                monkeypatch.setattr(f"clients.drivers.{module}.ADDRESS_LIMIT_S", 0.2)
            record = await client("blocking", "http://name.example").ask(question(timeout_s=20))
    assert (record.outcome, record.connections) == (Outcome.PROTOCOL_ERROR, 1), record.detail
    assert record.tcp_ms >= 200


async def test_who_takes_no_connection_has_no_model_at_work(client: MakeClient) -> None:
    with black_hole() as (host, port):
        record = await client("sse", f"http://{host}:{port}", silence_s=0.1).ask(question())
    assert (record.outcome, record.connections, record.drops, record.tokens_wasted) == (Outcome.TIMEOUT, 0, 1, 0)


async def refusing_without_end(connection: Connection) -> None:
    """Refuses at once, and never sends the last byte of why."""
    await connection.request()
    await connection.send(response(b"busy", "text/plain", "503 No")[:-1])
    await connection.hold()


async def test_a_refusal_at_once_leaves_nobody_at_work_however_long_its_body_takes(client: MakeClient) -> None:
    async with scripted(refusing_without_end) as server:
        record = await client("sse", server.url, silence_s=0.3).ask(question())
    assert (record.detail, record.tokens_wasted) == ("status 503", 0)


def pinging(connection: socket.socket) -> None:
    """Shakes hands, and then sends pings and reads nothing, until the client has closed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(switching(connection.recv(65_536)))
    connection.recv(65_536)
    connection.settimeout(PATIENCE_S)
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        connection.sendall(frame(b"p" * 120, 9) * 500)


async def test_a_server_that_takes_no_pongs_is_given_up(client: MakeClient, caplog: pytest.LogCaptureFixture) -> None:
    """Else the answers to its pings pile up in the client's memory for as long as it may take."""
    async with blocking(pinging) as url:
        record = await client("websocket", url).ask(question(timeout_s=PATIENCE_S))
    assert (record.outcome, record.drops) == (Outcome.DROPPED, 1), record.detail
    assert record.detail.endswith("the server takes nothing that it is sent")
    assert caplog.messages == []  # asyncio has a line for each pong that follows, thousands in one read


@pytest.mark.parametrize("said", [b"", response(b"{}"), RESET])
def test_what_comes_before_the_loop_has_time_comes_after_the_connection(said: bytes) -> None:
    """uvloop may read from a connection before it goes on with whoever has opened it."""

    def serve(listening: socket.socket, kept: list[socket.socket]) -> None:
        with suppress(OSError):
            for _ in count():
                kept.append(listening.accept()[0])
                if said is RESET:
                    kept[-1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    kept[-1].close()
                    continue
                kept[-1].sendall(said)
                kept[-1].shutdown(socket.SHUT_WR)

    async def ask(url: str) -> tuple[Outcome, str, int]:
        async def be_busy() -> None:
            while True:
                await asyncio.sleep(0)
                time.sleep(0.001)  # noqa: ASYNC251  # the loop is busy

        busy = asyncio.create_task(be_busy())
        user = AioClient("blocking", ClientSettings(url))
        record = await user.ask(question(timeout_s=2.0))
        await user.close()
        busy.cancel()
        return record.outcome, record.detail.split(":")[0], record.connections

    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening, kept), daemon=True).start()
        found = uvloop.run(ask(f"http://127.0.0.1:{listening.getsockname()[1]}"))
        listening.shutdown(socket.SHUT_RDWR)
    for connection in kept:
        connection.close()
    judged = {b"": (Outcome.TRUNCATED, "fin", 1), RESET: (Outcome.DROPPED, "rst", 1)}
    assert found == judged.get(said, (Outcome.PROTOCOL_ERROR, "format", 1))


@pytest.mark.parametrize("transport", ["sse", "websocket"])
async def test_an_answer_that_was_left_is_no_part_of_the_next(transport: str) -> None:
    """Whoever waited for it was cancelled; its connection and its time limit are of no concern to anybody else."""

    async def script(connection: Connection) -> None:
        if transport == "websocket":
            await connection.upgrade()
            await connection.frame()
        else:
            await connection.request()
            await connection.send(HEAD)
        await connection.hold()

    async with scripted(script) as server:
        user = AioClient(transport, ClientSettings(server.url))
        asking = asyncio.create_task(user.ask(question(timeout_s=0.3)))
        while not server.connections or not server.connections[0].received:
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        record = await user.ask(question(timeout_s=0.5))
        assert (record.outcome, record.connections) == (Outcome.TIMEOUT, 1)
        asking = asyncio.create_task(user.ask(question(timeout_s=0.2)))
        await asyncio.sleep(0.1)
        asking.cancel()
        await user.close()


async def test_a_refusal_with_a_long_page_is_a_refusal(client: MakeClient) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(response(b"x" * 70_000, "text/html", "503 No"))
        await connection.hold()

    async with scripted(script) as server:
        record = await client("sse", server.url).ask(question())
    assert (record.outcome, record.detail, record.noticed_by) == (Outcome.HTTP_ERROR, "status 503", ["status 503"])


async def test_a_refusal_whose_body_never_comes_is_a_refusal(client: MakeClient) -> None:
    async with scripted(refusing_without_end) as server:
        record = await client("sse", server.url, silence_s=0.05).ask(question())
    assert (record.outcome, record.detail) == (Outcome.HTTP_ERROR, "status 503")


async def test_who_has_said_close_asks_no_more_over_that_connection(client: MakeClient) -> None:
    answers = iter([ACCEPTED, page(ANSWER, 0, 2), page(ANSWER, 2, 6)])

    async def script(connection: Connection) -> None:
        while request := await connection.request():
            assert b"Connection: close\r\n" in request
            await connection.send(next(answers))  # and does not close it

    async with scripted(script) as server:
        record = await client("polling", server.url, reuse=False, interval_s=0.0).ask(question())
    assert (record.outcome, record.requests, record.connections) == (Outcome.OK, 3, 3)


async def test_an_id_beyond_latin_1_goes_back_as_it_came(client: MakeClient) -> None:
    tokens = [sse.encode_token("€".encode(), i, token) for i, token in enumerate(encoded(ANSWER))]
    requests: list[bytes] = []

    async def script(connection: Connection) -> None:
        requests.append(await connection.request())
        if len(requests) == 1:
            await connection.send(HEAD + chunk(b"".join(tokens[:2])))
            return
        for piece in streamed(sse.CONTENT_TYPE, tokens[2:], sse.encode_end(encoded_end(ANSWER))):
            await connection.send(piece)

    async with scripted(script) as server:
        record = await client("sse", server.url, recovery=Policy("resume", base_s=0.001)).ask(question())
    assert (record.outcome, record.drops) == (Outcome.OK, 1), record.detail
    assert "Last-Event-ID: €/1\r\n".encode() in requests[1]


async def test_an_upgrade_that_fails_asks_no_model(client: MakeClient) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()

    async with scripted(script) as server:
        record = await client("websocket", server.url).ask(question())
    assert (record.outcome, record.requests, record.tokens_wasted) == (Outcome.TRUNCATED, 1, 0)


async def test_the_end_of_a_websocket_is_no_response(client: MakeClient) -> None:
    async def script(connection: Connection) -> None:
        await connection.upgrade()
        await connection.frame()

    async with scripted(script) as server:
        record = await client("websocket", server.url).ask(question())
    assert (record.requests, len(record.response_ms), record.tokens_wasted) == (2, 1, ANSWER.n)


@pytest.mark.parametrize(("said", "reply"), [(close_frame(1001), 1001), (b"\x83\x00", 1002)])
async def test_the_end_of_a_websocket_is_answered(client: MakeClient, said: bytes, reply: int) -> None:
    """RFC 6455 §5.5.1, §7.1.7: a Close for a Close, and one for what is no frame."""
    replies: list[bytes] = []

    async def script(connection: Connection) -> None:
        await connection.upgrade()
        await connection.frame()
        await connection.send(frame(encoded(ANSWER)[0]) + said)
        replies.append((await connection.frame())[:2])

    async with scripted(script) as server:
        await client("websocket", server.url).ask(question())
        while not replies:
            await asyncio.sleep(0.001)
    assert replies == [reply.to_bytes(2, "big")]


def test_the_body_of_a_second_response_is_not_that_of_an_empty_first() -> None:
    taken = Http1Response()
    taken.feed(response(b"") + response(b"hello"))
    assert (taken.take(), taken.is_complete, taken.is_fit) == (b"", True, False)


@pytest.mark.parametrize("transport", ["sse", "chunked", "websocket"])
async def test_tokens_without_end_are_not_held(client: MakeClient, transport: str) -> None:
    token = encoded(ANSWER)[0]
    pieces = {"sse": sse.encode_token(b"s", 0, token), "chunked": token + b"\n", "websocket": frame(token)}
    many = pieces[transport] * 1_000

    async def script(connection: Connection) -> None:
        if transport == "websocket":
            await connection.upgrade()
            await connection.frame()
        else:
            await connection.request()
            kind = sse.CONTENT_TYPE if transport == "sse" else "application/x-ndjson"
            await connection.send(HEAD.replace(sse.CONTENT_TYPE.encode(), kind.encode()))
        for _ in range(30):
            await connection.send(many if transport == "websocket" else chunk(many))
        await connection.hold()

    async with scripted(script) as server:
        record = await client(transport, server.url).ask(question())
    assert (record.outcome, record.detail) == (Outcome.PROTOCOL_ERROR, "format: tokens without end")
    assert record.tokens_duplicated < 20_000


@pytest.mark.parametrize("endless", [b"0\r\nX: ", b"5;"])
def test_trailers_and_chunk_extensions_have_an_end(endless: bytes) -> None:
    held = Http1Response()
    held.feed(HEAD + endless)
    for _ in range(1 + MAX_BARE_BYTES // 1_000):
        held.feed(b"a" * 1_000)
    assert "more than" in str(held.failure)


def test_what_follows_a_compressed_body_is_not_kept() -> None:
    unpack = Unpacker("gzip")
    assert unpack(gzip.compress(b"x")) == b"x"
    assert [unpack(b"y" * 1_000) for _ in range(3)] == [b""] * 3
    assert not unpack._stream.unused_data


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_all_members_of_a_gzip_file_are_one_body(step: int) -> None:
    """As Django's GZipMiddleware packs a stream, each piece by itself (RFC 1952 §2.2)."""
    packed = b"".join(gzip.compress(piece) for piece in (b"one", b"", b"two" * 50_000, b"three"))
    unpack = Unpacker("gzip")
    pieces = [packed[at : at + step] for at in range(0, len(packed), step)]
    assert b"".join(map(unpack, pieces)) == b"one" + b"two" * 50_000 + b"three"
    assert unpack(b"\0" * 10 + gzip.compress(b"no member")) == b"", "which follows something else"


def test_a_response_is_gone_when_it_is_over_though_nobody_collects_garbage() -> None:
    """As in a load process, whose collector is off while it measures."""
    connection = HttpConnection()
    gc.disable()
    try:
        over = connection.begin()
        connection.receive(response(b"{}"))
        connection.finish()
        alive = weakref.ref(over)
        del over
        assert alive() is None
    finally:
        gc.enable()

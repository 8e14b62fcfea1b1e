"""Users of both drivers over HTTP/2, against a server that says exactly what a test wants, and against real proxies."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from support.asking import ANSWER, question
from support.drivers import AsyncUser
from support.feeding import encoded, encoded_end
from support.http2 import Http2Peer, goaway
from support.processes import RunningServer, running_server
from support.programs import program
from support.scripted import Connection, scripted
from support.tls import certificate, nginx_with_tls
from support.transports.blocking import whole
from support.transports.polling import page

from bench.proxy.real import Running, real_proxy
from bench.proxy.serve import Proxy
from clients.core.record import Outcome, StreamRecord
from clients.core.recovery import Policy
from clients.core.settings import ClientSettings
from clients.core.tls import Trust
from clients.drivers.aio import AioClient, AioPool
from servers.chunked.wire import CONTENT_TYPE
from servers.polling import wire as polling
from servers.stream import StreamSpec, build
from servers.transport import TRANSPORTS

MakeClient = Callable[..., AsyncUser]
Serve = Callable[[Http2Peer, Connection], Awaitable[None]]
TOKENS = [token + b"\n" for token in encoded(ANSWER)]
END = encoded_end(ANSWER) + b"\n"
RESUME = Policy("resume", base_s=0.001)


def speaking(serve: Serve) -> Callable[[Connection], Awaitable[None]]:
    async def script(connection: Connection) -> None:
        with suppress(ConnectionError):
            await serve(Http2Peer(connection), connection)

    return script


async def answer(peer: Http2Peer, first: int = 0, *, complete: bool = True) -> int:
    """Answer the next request from the token `first` on, or not to the end; its stream."""
    stream_id = (await peer.next()).stream_id
    peer.head(stream_id, CONTENT_TYPE)
    for token in TOKENS[first:] if complete else TOKENS[first : first + 2]:
        peer.h2.send_data(stream_id, token)
    if complete:
        peer.h2.send_data(stream_id, END, end_stream=True)
    await peer.flush()
    return stream_id


async def listen_for_ever(peer: Http2Peer) -> None:
    while True:
        await peer.listen()


def summary(record: StreamRecord) -> tuple[object, ...]:
    return record.outcome, record.noticed_by, record.tokens_lost, record.tokens_duplicated, record.connections


async def test_what_is_asked_and_what_comes(client: MakeClient) -> None:
    heads: list[dict[str, str]] = []

    async def serve(peer: Http2Peer, _: Connection) -> None:
        for _number in range(2):
            asked = await peer.next()
            heads.append(asked.head)
            assert b'"message"' in asked.body
            peer.asked.insert(0, asked)
            await answer(peer)
        await listen_for_ever(peer)

    async with scripted(speaking(serve)) as server:
        user = client("chunked", f"{server.url}/base", http=2, auth_token="secret")
        records = [await user.ask(question()) for _ in range(2)]
    assert [summary(record) for record in records] == [(Outcome.OK, [], 0, 0, 1), (Outcome.OK, [], 0, 0, 0)]
    assert all((record.bytes_in or 0) > 400 and (record.bytes_out or 0) > 50 for record in records)
    authority = urlsplit(server.url).netloc
    pseudo = {":method": "POST", ":scheme": "http", ":authority": authority, ":path": "/base/chat"}
    assert heads[0].items() >= (pseudo | {"authorization": "Bearer secret", "content-type": "application/json"}).items()
    assert not {"connection", "host", "transfer-encoding"} & heads[0].keys()
    assert len(server.connections) == 1


async def test_polling_and_blocking(client: MakeClient) -> None:
    async def serve(peer: Http2Peer, _: Connection) -> None:
        while True:
            asked = await peer.next()
            if asked.head[":method"] == "GET":
                status, body = 200, page(ANSWER, 0, ANSWER.n)
            elif b"blocking" in asked.body:
                status, body = 200, whole(ANSWER)
            else:
                status, body = 202, polling.encode_accepted("s")
            peer.head(asked.stream_id, "application/json", status)
            peer.h2.send_data(asked.stream_id, body.partition(b"\r\n\r\n")[2] or body, end_stream=True)
            await peer.flush()

    async with scripted(speaking(serve)) as server:
        for transport in ("polling", "blocking"):
            record = await client(transport, server.url, http=2, interval_s=0).ask(question(text=transport))
            assert summary(record) == (Outcome.OK, [], 0, 0, 1), record.detail


@pytest.mark.parametrize(
    ("ending", "how"),
    [
        (ErrorCodes.INTERNAL_ERROR, "rst_stream internal_error"),
        (ErrorCodes.CANCEL, "rst_stream cancel"),
        (goaway(0, ErrorCodes.ENHANCE_YOUR_CALM), "goaway enhance_your_calm"),
        ("fin", "fin"),
        ("rst", "rst"),
    ],
)
async def test_each_kind_of_drop_is_resumed(client: MakeClient, ending: ErrorCodes | bytes | str, how: str) -> None:
    async def serve(peer: Http2Peer, connection: Connection) -> None:
        if connection is server.connections[0]:
            stream_id = await answer(peer, complete=False)
            if isinstance(ending, ErrorCodes):
                peer.h2.reset_stream(stream_id, ending)
                await peer.flush()
            elif isinstance(ending, bytes):
                await connection.send(ending)
            elif ending == "fin":
                await connection.half_close()
            else:
                connection.rst()
                return
            await connection.hold()
        await answer(peer, first=2)
        await listen_for_ever(peer)

    async with scripted(speaking(serve)) as server:
        record = await client("chunked", server.url, http=2, recovery=RESUME, silence_s=3).ask(question())
    assert (record.outcome, record.noticed_by, record.tokens_lost, record.connections) == (Outcome.OK, [how], 0, 2)


async def test_a_stream_that_is_reset_is_resumed_over_the_same_connection_if_others_are_on_it() -> None:
    async def serve(peer: Http2Peer, _: Connection) -> None:
        first, second = (await peer.next()).stream_id, await answer(peer)
        assert second > first
        peer.h2.reset_stream(first, ErrorCodes.INTERNAL_ERROR)
        await answer(peer)
        await listen_for_ever(peer)

    async with scripted(speaking(serve)) as server:
        settings = ClientSettings(server.url, http=2, recovery=RESUME)
        pool = AioPool(settings)
        users = [AioClient("chunked", settings, pool) for _ in range(2)]
        records = await asyncio.gather(*(user.ask(question()) for user in users))
        for user in users:
            await user.close()
    assert [summary(record) for record in records] == [
        (Outcome.OK, ["rst_stream internal_error"], 0, 0, 1),
        (Outcome.OK, [], 0, 0, 0),
    ]
    assert len(server.connections) == 1


@pytest.mark.parametrize("code", [ErrorCodes.REFUSED_STREAM, ErrorCodes.CANCEL])
async def test_a_refused_stream_has_wasted_nothing(client: MakeClient, code: ErrorCodes) -> None:
    async def serve(peer: Http2Peer, _: Connection) -> None:
        peer.h2.reset_stream((await peer.next()).stream_id, code)
        await listen_for_ever(peer)

    async with scripted(speaking(serve)) as server:
        record = await client("chunked", server.url, http=2).ask(question())
    assert (record.outcome, record.drops) == (Outcome.DROPPED, 1)
    assert record.tokens_wasted == (0 if code == ErrorCodes.REFUSED_STREAM else len(TOKENS))


async def test_a_server_that_leaves_completes_what_is_under_way(client: MakeClient) -> None:
    async def serve(peer: Http2Peer, connection: Connection) -> None:
        stream_id = (await peer.next()).stream_id
        await connection.send(peer.h2.data_to_send() + goaway(stream_id))
        peer.asked.append(type("Again", (), {"stream_id": stream_id}))  # type: ignore[arg-type]
        await answer(peer)
        await listen_for_ever(peer)

    async with scripted(speaking(serve)) as server:
        user = client("chunked", server.url, http=2)
        records = [await user.ask(question()) for _ in range(2)]
    assert [summary(record) for record in records] == [(Outcome.OK, [], 0, 0, 1)] * 2


async def test_a_question_that_the_servers_windows_have_no_room_for(client: MakeClient) -> None:
    async def serve(peer: Http2Peer, _: Connection) -> None:
        peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 50})
        await peer.flush()
        await answer(peer)
        await listen_for_ever(peer)

    async with scripted(speaking(serve)) as server:
        record = await client("chunked", server.url, http=2).ask(question(text="long " * 30_000))
    assert record.outcome is Outcome.OK, record.detail


async def test_silence_is_one_users_own(client: MakeClient) -> None:
    async def serve(peer: Http2Peer, _: Connection) -> None:
        await answer(peer, complete=False)
        await listen_for_ever(peer)

    async with scripted(speaking(serve)) as server:
        record = await client("chunked", server.url, http=2, silence_s=0.1).ask(question())
    assert (record.outcome, record.detail.split(":")[0], record.tokens_received) == (Outcome.TIMEOUT, "silence", 2)


async def test_a_server_that_has_no_http2_is_said(client: MakeClient, server: Callable[[str], RunningServer]) -> None:
    record = await client("sse", server("sse").url, http=2).ask(question())
    assert record.outcome in (Outcome.PROTOCOL_ERROR, Outcome.TRUNCATED, Outcome.DROPPED), record.detail


@pytest.mark.parametrize(
    ("settings", "limit", "expected"),
    [
        ({"share": 2}, None, 3),
        ({"share": 50}, None, 1),
        ({"share": 50, "reuse": False}, None, 6),
        ({"share": 50}, 2, 3),
    ],
)
async def test_users_share_as_many_connections_as_they_need(
    settings: dict[str, Any], limit: int | None, expected: int
) -> None:
    async def serve(peer: Http2Peer, _: Connection) -> None:
        if limit is not None:
            peer.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: limit})
        while True:
            await answer(peer)

    async with scripted(speaking(serve)) as server:
        chosen = ClientSettings(server.url, http=2, recovery=RESUME, **settings)
        pool = AioPool(chosen)
        users = [AioClient("chunked", chosen, pool) for _ in range(6)]
        before = [await users[0].ask(question())] if limit is not None else []  # it learns of the limit
        records = before + await asyncio.gather(*(user.ask(question()) for user in users))
        assert {record.outcome for record in records} == {Outcome.OK}, [record.detail for record in records]
        assert sum(record.connections for record in records) == len(server.connections) == expected
        in_all = sum(connection.sent for connection in server.connections)
        for user in users:
            await user.close()
    if records[0].bytes_in is not None and chosen.reuse:  # else what comes behind the last message is nobody's
        assert abs(sum(record.bytes_in or 0 for record in records) - in_all) < 300


async def test_the_last_user_takes_leave() -> None:
    peers: list[Http2Peer] = []

    async def serve(peer: Http2Peer, _: Connection) -> None:
        peers.append(peer)
        while True:
            await answer(peer)

    async with scripted(speaking(serve)) as server:
        settings = ClientSettings(server.url, http=2)
        pool = AioPool(settings)
        users = [AioClient("chunked", settings, pool) for _ in range(2)]
        for user in users:
            await user.ask(question())
        await users[0].close()
        assert not peers[0].has_said_goodbye
        assert (await users[1].ask(question())).connections == 0
        await users[1].close()
        async with asyncio.timeout(5):
            while not peers[0].has_said_goodbye:
                await asyncio.sleep(0.005)


# Real proxies.

STREAM: dict[str, object] = {"profile": "fast", "tokens": 20, "ttft_ms": 20, "gap_ms": 3}
REAL = build(StreamSpec.parse(STREAM), 7)
LONG: dict[str, object] = {"profile": "fast", "tokens": 40, "ttft_ms": 20, "gap_ms": 25}
LONG_ANSWER = build(StreamSpec.parse(LONG), 7)


def address_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


@pytest.fixture(scope="module")
def secured(server: Callable[[str], RunningServer]) -> Iterator[Callable[[str, str], Running]]:
    """`secured("nginx-h2", "sse")`: that proxy before that server."""
    with ExitStack() as stack:

        @cache
        def get(name: str, transport: str) -> Running:
            program("openssl")
            return stack.enter_context(real_proxy(name, address_of(server(transport).url)))

        yield get


@pytest.mark.parametrize(
    ("name", "transport"),
    [
        *(
            pytest.param("nginx-h2", transport, marks=pytest.mark.needs("nginx"))
            for transport in TRANSPORTS
            if transport != "websocket"
        ),
        pytest.param("haproxy-h2", "sse", marks=pytest.mark.needs("haproxy")),
    ],
)
async def test_every_transport_through_a_real_proxy(
    client: MakeClient, name: str, transport: str, secured: Callable[[str, str], Running]
) -> None:
    proxy = secured(name, transport)
    user = client(transport, proxy.url, http=2, interval_s=0.02, trust=Trust(str(proxy.cafile)))
    records = [await user.ask(question(REAL, stream_id=token_hex(8), stream=STREAM)) for _ in range(2)]
    refused = await user.ask(question(REAL, stream={"profile": "none such"}))
    after = await user.ask(question(REAL, stream_id=token_hex(8), stream=STREAM))
    assert [(r.outcome, r.detail, r.tokens_received, r.connections) for r in [*records, after]] == [
        (Outcome.OK, "", 20, 1),
        (Outcome.OK, "", 20, 0),
        (Outcome.OK, "", 20, 1),  # who is refused hangs up
    ]
    assert (refused.outcome, refused.detail[:10]) == (Outcome.HTTP_ERROR, "status 400")
    assert records[0].tls_ms > 0 < records[0].tcp_ms
    assert records[1].tls_ms == records[1].tcp_ms == records[1].dns_ms == 0
    assert (records[0].first_token_ns - records[0].start_ns) / 1e6 > records[0].tls_ms


async def test_a_tls_server_that_has_no_http2_is_said(
    client: MakeClient, server: Callable[[str], RunningServer], tmp_path: Path
) -> None:
    made = certificate(tmp_path)
    with nginx_with_tls(server("sse").url, made, tmp_path) as url:
        record = await client("sse", url, http=2, trust=Trust(str(made.cert))).ask(question())
    assert (record.outcome, record.drops) == (Outcome.REFUSED, 0)
    assert record.detail.startswith("tls: ")


@pytest.mark.needs("nginx")
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_one_connection_that_is_cut_carries_fifty_streams(
    secured: Callable[[str, str], Running], how: str
) -> None:
    """In the middle of them, by our proxy before a real nginx: fifty drops, all resumed over one other connection."""
    nginx = secured("nginx-h2", "sse")
    async with Proxy(nginx.address, ()) as proxy:
        url = f"https://127.0.0.1:{proxy.address[1]}"
        settings = ClientSettings(url, http=2, recovery=RESUME, trust=Trust(str(nginx.cafile)))
        pool = AioPool(settings)
        users = [AioClient("sse", settings, pool) for _ in range(50)]
        questions = [question(LONG_ANSWER, stream_id=token_hex(8), stream=LONG, timeout_s=30) for _ in users]
        asking = [asyncio.create_task(u.ask(q)) for u, q in zip(users, questions, strict=True)]
        async with asyncio.timeout(20):
            while sum(r.has_head for carrier in pool.carriers for r in carrier.asked) < 50:
                await asyncio.sleep(0.002)
        (relay,) = proxy.relays
        if how == "rst":
            relay.reset()
        else:
            relay.client.send_fin()
        records = await asyncio.gather(*asking)
        for user in users:
            await user.close()
    assert {(r.outcome, r.detail, tuple(r.noticed_by)) for r in records} == {(Outcome.OK, "", (how,))}
    assert sum(r.drops for r in records) == 50
    assert {(r.tokens_received, r.tokens_lost, r.tokens_duplicated) for r in records} == {(40, 0, 0)}
    assert sum(r.connections for r in records) == 2


@pytest.mark.parametrize(
    ("name", "how"),
    [
        pytest.param("nginx-h2", "rst_stream internal_error", marks=pytest.mark.needs("nginx")),
        pytest.param("haproxy-h2", "end|rst_stream .*", marks=pytest.mark.needs("haproxy")),
    ],
)
async def test_a_server_that_dies_behind_a_real_proxy_is_a_drop_of_each_stream(name: str, how: str) -> None:
    """The connection is the proxy's, and it is not what ends. HAProxy 2.6.12 ends the streams as if all were well."""
    program("openssl")
    with running_server("sse") as running, real_proxy(name, address_of(running.url)) as proxy:
        settings = ClientSettings(proxy.url, http=2, trust=Trust(str(proxy.cafile)))
        pool = AioPool(settings)
        users = [AioClient("sse", settings, pool) for _ in range(2)]
        questions = [question(LONG_ANSWER, stream_id=token_hex(8), stream=LONG) for _ in users]
        asking = [asyncio.create_task(u.ask(q)) for u, q in zip(users, questions, strict=True)]
        async with asyncio.timeout(20):
            while sum(r.has_head for carrier in pool.carriers for r in carrier.asked) < 2:
                await asyncio.sleep(0.002)
        running.process.kill()
        records = await asyncio.gather(*asking)
        for user in users:
            await user.close()
    assert sum(record.connections for record in records) == 1
    assert all(re.fullmatch(how, record.noticed_by[0]) for record in records), records[0].detail

"""Several servers and a pool of connections to them, over sockets: who is asked, and what becomes of what is lost."""

from __future__ import annotations

import asyncio

import pytest
from support.proxies import OK, REQUEST, Client, Handler, Net, read_request

from bench.proxy.behaviours import Cut, CutAll, Unreachable, Upstreams

POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
CLOSING = OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")
EACH = Upstreams(each="request")


def saying(name: bytes, connections: list[bytes], *, answers: int = 1_000_000) -> Handler:
    """A server that answers with its name, and after so many answers closes the connection without a word."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(name)
        for _ in range(answers):
            await read_request(reader)
            writer.write(OK[:-2] + name)

    return handler


async def asked(client: Client, request: bytes = REQUEST) -> bytes:
    """The two bytes that a request is answered with, or the status if that is no success."""
    client.send(request)
    head = await client.reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        return head[9:12]
    return await client.reader.readexactly(2)


async def test_servers_take_turns_by_connections(net: Net) -> None:
    servers = [await net.serve(saying(name, [])) for name in (b"s0", b"s1")]
    address = await net.proxy(servers[0], others=servers[1:])
    for name in (b"s0", b"s1", b"s0"):
        client = await net.connect(address)
        assert [await asked(client), await asked(client)] == [name, name]


async def test_servers_take_turns_by_requests(net: Net) -> None:
    """Of one connection; a stream's resume may so reach a server that knows nothing of it."""
    servers = [await net.serve(saying(name, [])) for name in (b"s0", b"s1")]
    client = await net.connect(await net.proxy(servers[0], EACH, others=servers[1:]))
    assert [await asked(client) for _ in range(4)] == [b"s0", b"s1", b"s0", b"s1"]


async def test_a_server_that_is_not_there_is_left_out(net: Net) -> None:
    there, gone = await net.serve(saying(b"s0", [])), await net.closed_port()
    for rules in ((), (EACH,)):
        address = await net.proxy(gone, *rules, others=[there])
        for _ in range(3):
            assert await asked(await net.connect(address)) == b"s0"


@pytest.mark.parametrize(("rules", "status"), [((EACH,), b"502"), ((Unreachable(status=503), EACH), b"503")])
async def test_no_server_is_there(net: Net, rules: tuple[Unreachable | Upstreams, ...], status: bytes) -> None:
    address = await net.proxy(await net.closed_port(), *rules, others=[await net.closed_port()])
    assert await asked(await net.connect(address)) == status


@pytest.mark.parametrize(("keep_s", "connections"), [(None, 3), (60, 1), (0.05, 3)])
async def test_connections_are_kept_for_so_long(net: Net, keep_s: float | None, connections: int) -> None:
    seen: list[bytes] = []
    address = await net.proxy(await net.serve(saying(b"s0", seen)), Upstreams(each="request", keep_s=keep_s))
    for _ in range(3):
        assert await asked(await net.connect(address)) == b"s0"
        await asyncio.sleep(0.15)
    assert len(seen) == connections


async def test_no_more_connections_are_kept_than_that(net: Net) -> None:
    seen: list[bytes] = []
    rule = Upstreams(each="request", keep_s=60, keep_most=2)
    address = await net.proxy(await net.serve(saying(b"s0", seen)), rule)
    for expected in (5, 8):  # of five at once two are kept, and used
        clients = [await net.connect(address) for _ in range(5)]
        assert await asyncio.gather(*map(asked, clients)) == [b"s0"] * 5
        assert len(seen) == expected


async def test_a_kept_connection_on_which_the_server_speaks_unasked_is_no_more_used(net: Net) -> None:
    seen: list[bytes] = []

    async def chatty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(b"")
        while True:
            await read_request(reader)
            writer.write(OK)
            await asyncio.sleep(0.05)
            writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")  # as servers say it that tire

    client = await net.connect(await net.proxy(await net.serve(chatty), Upstreams(each="request", keep_s=60)))
    for _ in range(2):
        assert await asked(client) == b"ok"
        await asyncio.sleep(0.15)
    assert len(seen) == 2


LATE = Upstreams(each="request", keep_s=60, close_lag_ms=60_000)
AGAIN = Upstreams(each="request", keep_s=60, close_lag_ms=60_000, retry="idempotent")


@pytest.mark.parametrize(
    ("rule", "request_bytes", "answer"),
    [
        (LATE, REQUEST, b"502"),
        (AGAIN, POST, b"502"),
        (AGAIN, REQUEST, b"s0"),
        (Upstreams(each="request", keep_s=60), POST, b"s0"),  # a close that is noticed does no harm
    ],
)
async def test_a_kept_connection_that_the_server_closed_first(
    net: Net, rule: Upstreams, request_bytes: bytes, answer: bytes
) -> None:
    client = await net.connect(await net.proxy(await net.serve(saying(b"s0", [], answers=1)), rule))
    assert await asked(client) == b"s0"
    await asyncio.sleep(0.1)
    assert await asked(client, request_bytes) == answer


async def test_a_server_that_resets_before_its_response(net: Net) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.transport.abort()

    bad, good = await net.serve(reset), await net.serve(saying(b"s1", []))
    for rule, answer in ((EACH, b"502"), (Upstreams(each="request", retry="idempotent"), b"s1")):
        assert await asked(await net.connect(await net.proxy(bad, rule, others=[good]))) == answer


async def test_what_says_that_it_closes_is_seen_to_close(net: Net) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(CLOSING)

    client = await net.connect(await net.proxy(await net.serve(once), AGAIN))
    client.send(REQUEST)
    assert await client.until_end() == (CLOSING, "fin")


async def test_a_client_that_closes_between_two_requests(net: Net) -> None:
    address = await net.proxy(await net.serve(saying(b"s0", [])), AGAIN)
    for client in [await net.connect(address), await net.connect(address)]:
        assert await asked(client) == b"s0"
        client.writer.write_eof()
        assert await client.until_end() == (b"", "fin")
    silent = await net.connect(address)
    silent.writer.write_eof()
    assert await silent.until_end() == (b"", "fin")
    assert [record.ended_by for record in await net.records(3)] == ["client"] * 3


async def test_a_half_close_while_the_server_is_connected_to(net: Net) -> None:
    async def until_told(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == REQUEST
        writer.write(OK)

    client = await net.connect(await net.proxy(await net.serve(until_told), AGAIN))
    client.send(REQUEST)
    client.writer.write_eof()
    assert await client.until_end() == (OK, "fin")


async def test_a_black_hole_stays_one_for_the_next_request(net: Net) -> None:
    rules = Cut(action="black_hole", after_s=0.1, way="down"), AGAIN
    client = await net.connect(await net.proxy(await net.serve(saying(b"s0", [])), *rules))
    assert await asked(client) == b"s0"
    await asyncio.sleep(0.15)
    client.send(REQUEST)
    assert await client.until_end(0.15) == (b"", "silence")


async def test_a_cookie_leads_back(net: Net) -> None:
    servers = [await net.serve(saying(name, [])) for name in (b"s0", b"s1")]
    address = await net.proxy(servers[0], Upstreams(each="request", sticky="cookie"), others=servers[1:])
    client = await net.connect(address)
    assert await asked(client) == b"s0"
    client.send(REQUEST)
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert b"\r\nSet-Cookie: SERVERID=1; Path=/; HttpOnly\r\n" in head
    assert await client.reader.readexactly(2) == b"s1"
    back = REQUEST.replace(b"\r\n\r\n", b"\r\nCookie: SERVERID=1\r\n\r\n")
    assert [await asked(client, back) for _ in range(3)] == [b"s1"] * 3


async def test_an_event_between_two_requests(net: Net) -> None:
    address = await net.proxy(await net.serve(saying(b"s0", [])), CutAll(at_s=0.2), AGAIN)
    client = await net.connect(address)
    assert await asked(client) == b"s0"
    assert await client.until_end() == (b"", "fin")
    assert await asked(await net.connect(address)) == b"s0"

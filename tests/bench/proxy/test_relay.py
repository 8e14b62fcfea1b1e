"""What the proxy is without any behaviour: a faithful pipe."""

from __future__ import annotations

import asyncio
import random
import socket

import psutil
import pytest
from support.proxies import Client, Net

from bench.proxy.behaviours import IdleTimeout, Latency, Noop
from bench.proxy.relay import NO_LINGER
from bench.proxy.rule import Rule
from servers.process import allow_many_files

# Without HTTP, with it, and with a stage that queues.
PIPES: list[tuple[Rule, ...]] = [(), (IdleTimeout(idle_timeout_s=60, status=504),), (Latency(latency_ms=1),)]
pipes = pytest.mark.parametrize("rules", PIPES, ids=["plain", "http", "queue"])


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


@pipes
async def test_bytes_pass_unchanged_both_ways(net: Net, rules: tuple[Rule, ...]) -> None:
    client = await net.through(echo, *rules)
    sent = random.Random(3).randbytes(3_000_000)

    async def send() -> None:
        for at in range(0, len(sent), 70_000):
            client.send(sent[at : at + 70_000])
            await client.writer.drain()
        client.writer.write_eof()

    sending = asyncio.create_task(send())
    got, how = await client.until_end()
    await sending
    assert (got == sent, how) == (True, "fin")


@pipes
async def test_half_close_passes(net: Net, rules: tuple[Rule, ...]) -> None:
    """A client that has said everything still gets the answer."""

    async def answer_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.read(-1)
        await asyncio.sleep(0.05)
        writer.write(b"you said " + asked)

    client = await net.through(answer_at_the_end, *rules)
    client.send(b"hello")
    client.writer.write_eof()
    assert await client.until_end() == (b"you said hello", "fin")


@pipes
async def test_the_server_may_half_close_first(net: Net, rules: tuple[Rule, ...]) -> None:
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def talk_then_listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.write_eof()
        heard.set_result(await reader.read(-1))

    client = await net.through(talk_then_listen, *rules)
    assert await client.until_end() == (b"bye", "fin")
    client.send(b"still here")
    client.writer.write_eof()
    assert await asyncio.wait_for(heard, 5) == b"still here"


async def test_a_reset_passes_both_ways(net: Net) -> None:
    seen: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, how = await Client(reader, writer).until_end()
        seen.set_result(how)

    client = await net.through(listen, Noop())
    client.send(b"x")
    await asyncio.sleep(0.05)
    reset(client)
    assert await asyncio.wait_for(seen, 5) == "rst"
    (record,) = await net.records()
    assert (record.ended_by, record.closed) == ("client", "rst")

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        reset(Client(reader, writer))

    client = await net.through(refuse, Noop())
    client.send(b"x")
    assert await client.until_end() == (b"", "rst")
    assert (await net.records())[0].ended_by == "upstream"


def reset(client: Client) -> None:
    raw = client.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    client.writer.transport.abort()


@pipes
async def test_a_slow_client_costs_bounded_memory(net: Net, rules: tuple[Rule, ...]) -> None:
    """The server is held up instead: of 200 MB hardly anything leaves it while the client does not read."""
    sent = 0

    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < 200_000_000:
            writer.write(b"x" * 1_000_000)
            sent += 1_000_000
            await writer.drain()

    address = await net.proxy(await net.serve(flood), *rules)
    with socket.create_connection(address):
        before = psutil.Process().memory_info().rss
        await asyncio.sleep(0.3)
        stopped_at = sent
        await asyncio.sleep(0.1)
        assert sent == stopped_at < 50_000_000  # most of it in the kernel's buffers
        assert psutil.Process().memory_info().rss - before < 40_000_000


async def test_nodelay_on_both_sides(net: Net) -> None:
    asked: list[socket.socket] = []

    async def note(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    client = await net.through(note, Noop())
    (relay,) = net.proxies[-1].relays
    while not relay.server.is_open:
        await asyncio.sleep(0.005)
    asked = [side.transport.get_extra_info("socket") for side in (relay.client, relay.server)]
    assert [bool(raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) for raw in asked] == [True, True]
    client.writer.close()


async def test_bytes_that_come_before_the_server_is_connected(net: Net) -> None:
    address = await net.proxy(await net.serve(echo), Noop())
    with socket.create_connection(address) as early:
        early.sendall(b"at once")
        early.shutdown(socket.SHUT_WR)
        early.setblocking(False)
        got = b""
        while data := await asyncio.get_running_loop().sock_recv(early, 100):
            got += data
    assert got == b"at once"


async def test_a_thousand_connections(net: Net) -> None:
    allow_many_files()
    address = await net.proxy(await net.serve(echo), IdleTimeout(idle_timeout_s=60))
    clients: list[Client] = []
    for _ in range(10):
        clients += await asyncio.gather(*(net.connect(address) for _ in range(100)))
    for n, client in enumerate(clients):
        client.send(b"%d" % n)
    assert [await client.read() for client in clients] == [b"%d" % n for n in range(1000)]
    for client in clients:
        client.writer.close()
    records = await net.records(1000)
    assert {record.connection for record in records} == set(range(1, 1001))
    assert {record.ended_by for record in records} == {"client"}


async def test_what_is_open_when_the_proxy_stops_is_logged(net: Net) -> None:
    client = await net.through(echo, Noop())
    client.send(b"x")
    await client.read()
    await net.proxies[-1].__aexit__(None, None, None)
    assert await client.until_end() == (b"", "rst")
    (record,) = await net.records()
    assert (record.ended_by, record.bytes_up) == ("proxy", 1)


async def test_a_reset_behind_a_half_close_leaves_nothing_open(net: Net) -> None:
    """A client that has sent its FIN and is reset then: what a behaviour sends it has nobody to go to."""

    async def mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.4)

    client = await net.through(mute, IdleTimeout(idle_timeout_s=0.2))
    client.writer.write_eof()
    await asyncio.sleep(0.1)
    raw = client.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    client.writer.transport.abort()
    assert [record.ended_by for record in await net.records()] == ["client"]
    assert not net.proxies[-1].relays

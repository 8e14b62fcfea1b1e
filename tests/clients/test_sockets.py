"""The kernel's byte counters against what a server counts itself, however the connection ended."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from support.scripted import Connection, scripted

from clients.core.record import StreamRecord
from clients.sockets import NOTHING, Meter, PartMeter, SharedMeter, Traffic, traffic


class Metered(asyncio.Protocol):
    """Sends a request, and notes what the meter knows when the connection is lost."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.meter.opened(transport)
        cast(asyncio.Transport, transport).write(b"GET / HTTP/1.1\r\n\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self.meter.lost(self.transport)
        self.lost.set_result(exc)


def endings() -> dict[str, Callable[[Connection], Coroutine[Any, Any, None]]]:
    async def fin(connection: Connection) -> None:
        await connection.fin()

    async def rst(connection: Connection) -> None:
        await asyncio.sleep(0.02)
        connection.rst()

    return {"fin": fin, "rst": rst, "client closes": Connection.hold}


async def metered(ending: str) -> tuple[Meter, Connection]:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"x" * 100_000)
        await endings()[ending](connection)

    meter = Meter()
    async with scripted(script) as server:
        host, port = server.url.removeprefix("http://").split(":")
        transport, protocol = await asyncio.get_running_loop().create_connection(
            lambda: Metered(meter), host, int(port)
        )
        while meter.read().received not in (100_000, None):
            await asyncio.sleep(0.005)
        if ending == "client closes":
            transport.close()
        await protocol.lost
        return meter, server.connections[0]


def check(ending: str, runner: asyncio.Runner) -> None:
    meter, connection = runner.run(metered(ending))
    total = meter.read()
    if total.received is not None:
        assert (total.received, total.sent) == (connection.sent, connection.received)


@pytest.mark.parametrize("ending", ["fin", "rst", "client closes"])
def test_the_kernel_counts_what_the_server_counts(ending: str) -> None:
    with asyncio.Runner() as runner:
        check(ending, runner)


@pytest.mark.parametrize("ending", ["fin", "rst", "client closes"])
def test_on_uvloop_too(ending: str) -> None:
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        check(ending, runner)


def test_where_the_kernel_does_not_tell_nothing_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as not_tcp:
        assert traffic(not_tcp) == Traffic(None, None)
    monkeypatch.setattr("sys.platform", "darwin")
    with socket.socket() as tcp:
        assert traffic(tcp) == Traffic(None, None)


def test_unknown_bytes_stay_unknown_in_sums() -> None:
    unknown, some = Traffic(None, None), Traffic(10, 5, 3, 2, 275)
    assert some + unknown == unknown + some == unknown
    assert some.since(NOTHING) == some
    assert unknown.since(some) == some.since(unknown) == unknown


class Counted(SharedMeter):
    """Counters that the test sets."""

    total = 0

    def read(self) -> Traffic:
        return Traffic(*[self.total] * 5)


def test_what_messages_share_is_split_among_them_and_adds_up() -> None:
    shared = Counted()
    parts = [PartMeter(shared) for _ in range(3)]
    records = [StreamRecord(str(k), 0, 1) for k in range(3)]
    shared.total = 90  # before anybody asks: the first one's
    parts[0].begin()
    shared.total = 100
    parts[1].begin()
    shared.total = 160
    parts[0].end(records[0])
    parts[2].begin()
    shared.total = 261
    parts[2].close()  # it was cancelled
    parts[1].end(records[1])
    shared.total = 300  # nobody's, so the next one's
    parts[0].begin()
    parts[0].end(records[2])
    assert [record.bytes_in for record in records] == [130, 81, 39]  # 100 + 60/2, 60/2 + 101/2, 39
    assert records[0].wire_bytes == records[0].packets_out == 130

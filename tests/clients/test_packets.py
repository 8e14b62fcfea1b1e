"""What the clients say of packets and bytes on the wire, against the packets themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.asking import question
from support.drivers import DRIVERS
from support.packets import Packets, can_see_packets, counting
from support.processes import RunningServer, running_server

from clients.core.record import StreamRecord
from clients.core.settings import ClientSettings
from servers.stream import StreamSpec, build
from servers.transport import TRANSPORTS

STREAM: dict[str, object] = {"profile": "fast", "tokens": 60, "ttft_ms": 20, "gap_ms": 2}
ANSWER = build(StreamSpec.parse(STREAM), 7)
MESSAGES = 2
HEADERS_BYTES = 52  # of IPv4 and TCP, with its timestamps
pytestmark = [
    pytest.mark.skipif(not can_see_packets(), reason="raw sockets take root and Linux"),
    pytest.mark.alone,  # on a busy machine packets are merged and sent again while they are counted
]


async def observed(driver: str, transport: str, url: str, *, pause_s: float = 0, **settings: Any) -> Packets:
    """Some messages of one user: the real packets, and the assertion that the records have no others."""
    with counting(urlsplit(url).port or 0) as packets:
        user = DRIVERS[driver](transport, ClientSettings(url, **settings))
        records = []
        for _ in range(MESSAGES):
            records.append(await user.ask(question(ANSWER, stream_id=token_hex(8), stream=STREAM)))
            await asyncio.sleep(pause_s)
        await user.close()
        await asyncio.sleep(0.1)  # the last ACKs
        seen = packets.read()
    check(records, seen)
    return seen


def check(records: list[StreamRecord], seen: Packets) -> None:
    """Exact, but for a connection's end that takes a packet more or less, and what was sent again on a busy machine."""
    number = sum((record.packets_in or 0) + (record.packets_out or 0) for record in records)
    size = sum(record.wire_bytes or 0 for record in records)
    allowed = 2 * sum(record.connections for record in records) + 0.02 * seen.number
    assert abs(number - seen.number) <= allowed
    assert abs(size - seen.size) <= HEADERS_BYTES * allowed


@pytest.mark.parametrize("driver", [*DRIVERS])
@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("transport", [*TRANSPORTS])
async def test_each_packet_is_counted(
    driver: str, transport: str, reuse: bool, server: Callable[[str], RunningServer]
) -> None:
    seen = await observed(driver, transport, server(transport).url, interval_s=0.02, reuse=reuse)
    assert seen.number > 6 * MESSAGES


@pytest.mark.parametrize("driver", [*DRIVERS])
async def test_pings_between_two_messages_belong_to_the_first(driver: str) -> None:
    with running_server("websocket", "--heartbeat", "0.02") as running:
        busy = await observed(driver, "websocket", running.url, pause_s=0.3)
        quiet = await observed(driver, "websocket", running.url)
    assert busy.number > quiet.number + 10 * MESSAGES

"""A source's connections: used again after an answer, however late its response ends, and never waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from support.feeding import encoded, encoded_end, schedule_of
from support.scripted import Connection, chunk, scripted

from servers.openai_source import ModelEndpoint
from servers.relay_source import RelayedServer

ANSWERS = 5
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
_DELTA = b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n'
_FINISH = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
_LINES = [line + b"\n" for line in (*encoded(schedule_of("Hi")), encoded_end(schedule_of("Hi")))]


async def _of_endpoint(url: str, pause_s: float) -> None:
    endpoint = ModelEndpoint(url, "m")
    for _ in range(ANSWERS):
        assert [text async for text in endpoint.tokens("x") if text] == ["Hi"]
        await asyncio.sleep(pause_s)
    await endpoint.close()


async def _of_server(url: str, pause_s: float) -> None:
    relay = RelayedServer(url, None)
    for _ in range(ANSWERS):
        assert len([token async for token in relay.tokens("x", "s-1") if token]) == 1
        await asyncio.sleep(pause_s)
    await relay.close()


SOURCES: dict[str, tuple[Callable[[str, float], Awaitable[None]], bytes, list[bytes], bytes]] = {
    "an endpoint": (_of_endpoint, b"text/event-stream", [_DELTA, _FINISH], b"data: [DONE]\n\n"),
    "another server": (_of_server, b"application/x-ndjson", _LINES, b"\n"),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("ends", [True, False])
async def test_a_connection_is_used_again_if_its_response_ends(source: str, ends: bool) -> None:
    ask, content_type, pieces, rest = SOURCES[source]
    connections = 0

    async def script(connection: Connection) -> None:
        nonlocal connections
        connections += 1
        while await connection.request():
            await connection.send(_HEAD % content_type + b"".join(map(chunk, pieces)))
            await asyncio.sleep(0.001)  # as a server that writes what is behind the end by itself
            await connection.send(chunk(rest) + chunk(b"") if ends else b"")

    async with scripted(script) as server, asyncio.timeout(10):
        await ask(server.url, 0.05 if ends else 0.0)
    assert (connections < ANSWERS) == ends

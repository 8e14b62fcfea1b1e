"""The streaming answer of the HTTP servers: what becomes of it when something breaks under way."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from support.rawhttp import head

from servers.connection import listening
from servers.http import application, stream_answer
from servers.service import Service, Settings


async def _break(writer: AbstractStreamWriter) -> None:
    await writer.write(b"so far so good")
    raise RuntimeError("in mid-stream")


async def _broken_stream(request: web.Request) -> web.StreamResponse:
    return await stream_answer(request, "s", "text/plain", _break)


async def _broken(_: web.Request) -> web.StreamResponse:
    raise RuntimeError("before the head")


@pytest.mark.parametrize("path", ["/stream", "/whole"])
async def test_a_fault_of_the_server_is_no_part_of_an_answer(path: str, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings("chunked")
    app = application(Service(settings))
    app.router.add_get("/stream", _broken_stream)
    app.router.add_get("/whole", _broken)
    async with listening(app, settings) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head("GET", path, "Connection: close"))
        received = b""
        try:
            while part := await reader.read(65_536):
                received += part
        except ConnectionResetError:
            assert path == "/stream"
        writer.close()
    assert [record.exc_info is not None for record in caplog.records] == [True]
    if path == "/whole":
        assert received.startswith(b"HTTP/1.1 500")
        assert b'"code": "internal"' in received
    else:
        assert received.startswith(b"HTTP/1.1 200")
        assert b"internal" not in received
        assert not received.endswith(b"0\r\n\r\n"), "an answer that is not whole looked whole"


async def _small(_: AbstractStreamWriter) -> None:
    return None


@pytest.mark.parametrize(
    ("asked", "hint"), [((), True), (("X-Accel-Buffering: yes",), False), (("X-Accel-Buffering: no",), True)]
)
async def test_a_probe_may_ask_for_an_answer_that_does_not_ask_proxies_to_hurry(
    asked: tuple[str, ...], hint: bool
) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        return await stream_answer(request, "s", "text/plain", _small)

    settings = Settings("chunked")
    app = application(Service(settings))
    app.router.add_get("/stream", stream)
    async with listening(app, settings) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head("GET", "/stream", "Connection: close", *asked))
        received = await reader.read()
        writer.close()
    assert (b"\r\nX-Accel-Buffering: no\r\n" in received) is hint

"""The streaming answer of the HTTP servers: what becomes of it when something breaks under way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from support.feeding import SENT_NS, schedule_of
from support.rawhttp import head

from servers.chunked import app as chunked_app
from servers.connection import listening
from servers.generation import Generation
from servers.http import Encode, EncodeToken, HttpStream, application, stream_answer
from servers.messages import JsonTexts
from servers.push import MessageWriter
from servers.service import Service, Settings
from servers.sse import app as sse_app
from servers.websocket.protocol import WebSocket


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
    service = Service(settings)
    app = application(service)
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
    service.close()
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
    service = Service(settings)
    app = application(service)
    app.router.add_get("/stream", stream)
    async with listening(app, settings) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head("GET", "/stream", "Connection: close", *asked))
        received = await reader.read()
        writer.close()
    service.close()
    assert (b"\r\nX-Accel-Buffering: no\r\n" in received) is hint


@pytest.mark.parametrize("transport", ["chunked", "sse", "websocket"])
@pytest.mark.parametrize("text", ["a", "é\u2028 %d", "x" * 100, "y" * 2000])  # around every limit of a quick way
async def test_a_token_by_itself_stands_on_the_wire_as_in_a_batch(transport: str, text: str) -> None:
    answer = Generation("s-1", schedule_of(*[text] * 12), 0, lambda _: None, JsonTexts())
    for i in (1, 10):  # an index that no connection begins with
        alone, in_batch = _Written(), _Written()
        MAKE[transport](answer, alone).write_token(answer, i, SENT_NS)
        MAKE[transport](answer, in_batch).write(i, [answer.token(i, SENT_NS)], None)
        assert alone.data == in_batch.data
        payload = _payload(transport, alone.data)
        assert json.dumps(text).encode() in payload
        assert payload.strip().endswith(b'"sent": %d}' % SENT_NS)


def _payload(transport: str, data: bytes) -> bytes:
    """What stands in the one chunk or frame that `data` is."""
    if transport == "websocket":
        head = 4 if data[1] == 126 else 2
        size = int.from_bytes(data[2:4], "big") if data[1] == 126 else data[1]
        assert (data[:1], size) == (b"\x81", len(data) - head)
        return data[head:]
    line, _, rest = data.partition(b"\r\n")
    assert int(line, 16) == len(rest) - 2
    return rest.removesuffix(b"\r\n")


class _Written:
    """What a connection has sent."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


def _over_http(encode: Encode, encode_token: EncodeToken, transport: _Written) -> HttpStream:
    request: Any = SimpleNamespace(transport=transport, version=(1, 1))
    return HttpStream(request, cast(Any, None), encode, b"", encode_token)


MAKE: dict[str, Callable[[Generation, Any], MessageWriter]] = {
    "chunked": lambda _, transport: _over_http(chunked_app._encode, chunked_app._token, transport),
    "sse": lambda answer, transport: _over_http(sse_app._as_our_own(answer, 0), sse_app._token, transport),
    "websocket": lambda _, transport: WebSocket(transport, cast(Any, None), None),
}

"""The WebSocket server: each text frame of the client is a chat request, answered one after the other.

No compression: it costs CPU on every little token, and no other transport here compresses.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
from collections.abc import AsyncIterator

import msgspec
from multidict import CIMultiDict
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State

from servers import access
from servers.chat import ChatRequest, RequestError, open_answer
from servers.messages import encode_error
from servers.push import ReaderGone, limit_stall
from servers.service import MAX_BODY_BYTES, Service

# Larger requests than the contract allows are read up to here, to be refused in words; beyond, RFC 6455's 1009 must do.
MAX_FRAME_BYTES = 2 * MAX_BODY_BYTES
QUEUED_REQUESTS = 16
PONG_TIMEOUT_S = 20.0
CLOSE_S = 0.5  # a client that does not answer a farewell is cut after so long, as over HTTP when the server stops
INVALID_DATA, POLICY_VIOLATION, GOING_AWAY = 1007, 1008, 1001  # close codes of RFC 6455, 7.4.1


@contextlib.asynccontextmanager
async def listening(service: Service) -> AsyncIterator[Server]:
    """The server behind `tokenderby serve websocket`."""
    settings = service.settings
    server = await serve(
        lambda connection: _converse(service, connection),
        settings.host,
        settings.port,
        process_request=lambda _, request: _before_upgrade(service, request),
        compression=None,
        ping_interval=settings.heartbeat_s,
        ping_timeout=PONG_TIMEOUT_S,
        close_timeout=CLOSE_S,
        max_size=MAX_FRAME_BYTES,
        max_queue=QUEUED_REQUESTS,
        server_header=None,
    )
    for listener in server.sockets:
        limit_stall(listener)
    try:
        yield server
    finally:
        # Not `async with server`, whose end waits for clients that say nothing; what is left then ends with the loop.
        server.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await server.wait_closed()


def _before_upgrade(service: Service, request: Request) -> Response | None:
    """Answer probes, refuse what may not connect, and let the upgrade on /chat go on (None)."""
    try:
        return _probe_or_refusal(service, request)
    except RequestError as error:
        return _response(error.status, encode_error(error.code, error.message))


def _probe_or_refusal(service: Service, request: Request) -> Response | None:
    path = request.path.partition("?")[0]
    if path == "/healthz":
        return _response(200, msgspec.json.encode(service.health_report()))
    settings = service.settings
    headers = CIMultiDict(request.headers.raw_items())
    access.check(headers, settings.auth_token, settings.allow_origins, writes=path == "/chat")
    reports = {"/stats": service.stats_report, "/clock": service.clock_report}
    if path in reports:
        return _response(200, msgspec.json.encode(reports[path]()))
    if path != "/chat":
        raise RequestError(404, "not_found", "there are /chat, /healthz, /stats and /clock")
    if headers.get("Upgrade", "").lower() != "websocket":
        raise RequestError(426, "upgrade_required", "/chat takes a WebSocket upgrade")
    # A browser shows a WebSocket's messages to any page: reading from a foreign origin is refused here or nowhere.
    access.check_origin(headers, settings.allow_origins)
    service.stats.requests += 1
    return None


def _response(status: int, body: bytes) -> Response:
    headers = Headers(
        [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close")]
    )
    if status == http.HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if status == http.HTTPStatus.UPGRADE_REQUIRED:
        headers["Upgrade"] = "websocket"
    return Response(status, http.HTTPStatus(status).phrase, headers, body)


async def _converse(service: Service, connection: ServerConnection) -> None:
    """Answer the requests of one connection until it is closed."""
    closed = asyncio.create_task(connection.wait_closed())
    try:
        async for frame in connection:
            service.stats.requests += 1
            await _answer(service, connection, frame, closed)
    except ConnectionClosed:
        pass  # the client went away; its answer is kept for a while
    except ReaderGone:
        connection.transport.abort()  # a farewell would wait behind what it does not read
    except RequestError as error:
        code = INVALID_DATA if error.code == "bad_json" else POLICY_VIOLATION
        await _part(connection, code, error.code, encode_error(error.code, error.message))
    finally:
        closed.cancel()


async def _answer(
    service: Service, connection: ServerConnection, frame: str | bytes, closed: asyncio.Task[None]
) -> None:
    if isinstance(frame, bytes):
        raise RequestError(400, "bad_request", "a chat request is a text frame")
    if len(frame) > MAX_BODY_BYTES or len(frame.encode()) > MAX_BODY_BYTES:
        raise RequestError(413, "too_large", f"a request may have {MAX_BODY_BYTES} bytes")
    chat = ChatRequest.parse(frame)
    generation = open_answer(service.generations, chat)
    push = asyncio.create_task(service.push(generation, chat.first, _Frames(connection)))
    await asyncio.wait([push, closed], return_when=asyncio.FIRST_COMPLETED)
    if not push.done():
        push.cancel()
        raise ReaderGone
    if not push.result():
        await _part(connection, GOING_AWAY, "the server is stopping")


async def _part(connection: ServerConnection, code: int, reason: str, last: bytes | None = None) -> None:
    """Close with a last message, as far as the client takes it in time."""
    try:
        async with asyncio.timeout(2 * CLOSE_S):
            if last is not None:
                await connection.send(last, text=True)
            await connection.close(code, reason)
    except TimeoutError:
        connection.transport.abort()
    except ConnectionClosed:
        pass


class _Frames:
    """A WebSocket connection as the answer sees it (servers.push.Connection): one message a text frame.

    The connection's own `send` is a coroutine, which would cost a task switch per token; what it does is done here
    with the two calls that it makes, as the library's `broadcast` does too.
    """

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    def write(self, _: int, messages: list[bytes], end: bytes | None) -> None:
        """Send each message in a text frame."""
        connection = self._connection
        protocol = connection.protocol
        if protocol.state is not State.OPEN:
            return
        for message in messages:
            protocol.send_text(message)
        if end is not None:
            protocol.send_text(end)
        connection.send_data()

    def heartbeat(self) -> None:
        """Nothing: the library sends pings, also between answers."""

    def backlog_bytes(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._connection.transport.get_write_buffer_size()

    async def drain(self) -> None:
        """Return when the transport's buffer is below its limit. Raises OSError when the connection is lost."""
        if self._connection.protocol.state is not State.OPEN:
            raise ConnectionResetError("the connection is closing")
        await self._connection.drain()

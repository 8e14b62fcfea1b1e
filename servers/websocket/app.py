"""The WebSocket server: each text frame of the client is a chat request, answered one after the other.

No compression: it costs CPU on every little token, and no other transport here compresses.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import web
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.http11 import Request
from websockets.server import ServerProtocol

from servers import access
from servers.chat import ChatRequest, RequestError, open_answer
from servers.connection import ServerConnection
from servers.http import SERVICE, application
from servers.messages import encode_error
from servers.push import ReaderGone
from servers.service import MAX_REQUEST_BYTES, Service
from servers.websocket.protocol import (
    FAREWELL_S,
    GOING_AWAY,
    INTERNAL_ERROR,
    INVALID_DATA,
    POLICY_VIOLATION,
    Received,
    WebSocket,
)

OPEN: web.AppKey[set[WebSocket]] = web.AppKey("open", set)
_HANDSHAKE_HEADERS = ("connection", "upgrade", "sec-websocket-key", "sec-websocket-version")
_log = logging.getLogger(__name__)


def create(service: Service) -> web.Application:
    """The application behind `tokenderby serve websocket`."""
    app = application(service)
    app[OPEN] = set()
    app.router.add_route("*", "/chat", _upgrade)
    app.on_shutdown.append(_say_goodbye)
    return app


async def _upgrade(request: web.Request) -> web.StreamResponse:
    service = request.app[SERVICE]
    headers = _handshake(request)
    # A browser shows a WebSocket's messages to any page: reading from a foreign origin is refused here or nowhere.
    access.check_origin(request.headers, service.settings.allow_origins)
    response = web.StreamResponse(status=101, headers=headers)
    writer = await response.prepare(request)
    connection, transport = request.protocol, request.transport
    if writer is None or transport is None:
        raise ReaderGone
    writer.send_headers()
    assert isinstance(connection, ServerConnection)
    websocket = WebSocket(transport, writer.drain, service.settings.heartbeat_s)
    connection.upgrade(websocket)
    request.app[OPEN].add(websocket)
    try:
        await _converse(service, websocket)
        await websocket.lost
    finally:
        request.app[OPEN].discard(websocket)
    return response


def _handshake(request: web.Request) -> dict[str, str]:
    """The headers that accept an upgrade. Raises RequestError."""
    # In HTTP/1.0 an Upgrade means nothing (RFC 9110, 7.8).
    if request.version < (1, 1) or "websocket" not in request.headers.get("Upgrade", "").lower():
        raise RequestError(426, "upgrade_required", "/chat takes a WebSocket upgrade")
    try:
        asked = Headers([item for item in request.headers.items() if item[0].lower() in _HANDSHAKE_HEADERS])
    except InvalidHandshake:
        raise RequestError(400, "bad_handshake", "a header of the upgrade has bytes that no header may have") from None
    response = ServerProtocol().accept(Request(request.path_qs, asked, request.method))
    if response.status_code != 101:
        reason = bytes(response.body or b"").decode("utf-8", "replace").partition("\n")[0]
        raise RequestError(response.status_code, "bad_handshake", reason)
    return dict(response.headers.raw_items())


async def _say_goodbye(app: web.Application) -> None:
    """Close what is open, and wait for it: each is cut after a while, whatever its client does."""
    still_open = app[OPEN]
    for websocket in tuple(still_open):
        websocket.close(GOING_AWAY, "the server is stopping")
    if still_open:
        await asyncio.wait({websocket.lost for websocket in still_open}, timeout=2 * FAREWELL_S)


async def _converse(service: Service, websocket: WebSocket) -> None:
    """Answer the requests of one connection until it is closed."""
    try:
        while (received := await websocket.receive()) is not None:
            service.stats.requests += 1
            await _answer(service, websocket, received)
    except ReaderGone:
        websocket.abort()  # its answer is kept for a while
    except RequestError as error:
        websocket.write(0, [encode_error(error.code, error.message)], None)
        websocket.close(INVALID_DATA if error.code == "bad_json" else POLICY_VIOLATION, error.code)
    except Exception:
        _log.exception("a fault of the server's own")
        websocket.close(INTERNAL_ERROR, "internal")


async def _answer(service: Service, websocket: WebSocket, received: Received) -> None:
    if not received.is_text:
        raise RequestError(400, "bad_request", "a chat request is a text frame")
    if len(received.data) > MAX_REQUEST_BYTES:
        raise RequestError(413, "too_large", f"a request may have {MAX_REQUEST_BYTES} bytes")
    chat = ChatRequest.parse(received.data)
    if service.stopping.is_set():
        websocket.close(GOING_AWAY, "the server is stopping")
        return
    generation = open_answer(service.generations, chat)
    push = asyncio.create_task(service.push(generation, chat.first, websocket))
    try:
        either: set[asyncio.Future[Any]] = {push, websocket.ended}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if push.done() and not push.result():
            websocket.close(GOING_AWAY, "the server is stopping")
        elif push.done() and generation.failure is not None:
            websocket.close(INTERNAL_ERROR, generation.failure.code)
    finally:
        push.cancel()

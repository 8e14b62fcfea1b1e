"""websockets as people write it: a handler per connection, with `await connection.send(…)` for each message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

import msgspec
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from servers import access
from servers.chat import RequestError
from servers.connection import CLOSE_S, refusal_headers
from servers.http import read_since
from servers.messages import encode_error
from servers.push import limit_stall
from servers.service import Service
from servers.stacks import answer
from servers.websocket.protocol import INTERNAL_ERROR, MAX_MESSAGE_BYTES


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[int]:
    """Serve for as long as the context lasts; yields the port. Raises OSError."""

    async def converse(connection: ServerConnection) -> None:
        await _converse(service, connection)

    def before_upgrade(_: ServerConnection, request: Request) -> Response | None:
        return _before_upgrade(service, request)

    settings = service.settings
    async with serve(
        converse,
        settings.host,
        settings.port,
        process_request=before_upgrade,
        max_size=MAX_MESSAGE_BYTES,
        close_timeout=CLOSE_S,
    ) as server:
        listeners = tuple(server.sockets)
        for listener in listeners:
            limit_stall(listener)
        yield listeners[0].getsockname()[1]


async def _converse(service: Service, connection: ServerConnection) -> None:
    """Answer the requests of one connection until it is closed."""
    try:
        async for frame in connection:
            generation, first = answer.open_frame(service, frame)
            async for message in answer.messages(service, generation, first):
                await connection.send(message.data, text=True)
            if generation.failure is not None:
                await connection.close(INTERNAL_ERROR, generation.failure.code)
    except ConnectionClosed:
        pass  # its answer is kept for a while
    except RequestError as error:
        await connection.send(encode_error(error.code, error.message), text=True)
        await connection.close(answer.close_code(error), error.code)


def _before_upgrade(service: Service, request: Request) -> Response | None:
    """The answer to what is no upgrade on /chat, or may not be; None lets it go on."""
    try:
        return _checked(service, request)
    except RequestError as error:
        body = encode_error(error.code, error.message)
        return _response(error.status, body, refusal_headers(error))


def _checked(service: Service, request: Request) -> Response | None:
    parts = urlsplit(request.path)
    if parts.path == "/healthz":
        return _json(service.health_report())
    headers = {name.title(): value for name, value in request.headers.raw_items()}
    access.check(headers, service.settings.auth_token, service.settings.allow_origins, writes=parts.path == "/chat")
    if parts.path == "/chat":
        access.check_origin(headers, service.settings.allow_origins)
        return None
    reports: dict[str, Callable[[], dict[str, object]]] = {
        "/clock": service.clock_report,
        "/stats": lambda: service.stats_report(read_since(parse_qs(parts.query).get("since", ["0"])[0])),
    }
    if parts.path not in reports:
        raise RequestError(404, "not_found", "Not Found")
    return _json(reports[parts.path]())


def _json(report: dict[str, object]) -> Response:
    return _response(200, msgspec.json.encode(report), {})


def _response(status: int, body: bytes, headers: dict[str, str]) -> Response:
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close", **headers}
    return Response(status, HTTPStatus(status).phrase, Headers(fields), body)

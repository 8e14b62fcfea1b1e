"""websockets as people write it: a handler per connection, with `await connection.send(…)` for each message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from servers.chat import RequestError
from servers.connection import CLOSE_S, refusal_headers
from servers.messages import encode_error
from servers.service import Service
from servers.stacks import answer, upgrades
from servers.stacks.listener import open_until_stopped
from servers.websocket.protocol import INTERNAL_ERROR, MAX_INCOMING_BYTES


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[int]:
    """Serve for as long as the context lasts; yields the port. Raises OSError."""

    async def converse(connection: ServerConnection) -> None:
        await _converse(service, connection)

    def before_upgrade(_: ServerConnection, request: Request) -> Response | None:
        return _before_upgrade(service, request)

    settings = service.settings
    server = await serve(
        converse,
        settings.host,
        settings.port,
        process_request=before_upgrade,
        max_size=MAX_INCOMING_BYTES,
        close_timeout=CLOSE_S,
    )
    async with open_until_stopped(server) as port:
        yield port


async def _converse(service: Service, connection: ServerConnection) -> None:
    """Answer the requests of one connection until it is closed."""
    try:
        async for frame in connection:
            generation, first = answer.open_frame(service, frame)
            async for message in answer.encoded_messages(service, generation, first):
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
    headers = {name.title(): value for name, value in request.headers.raw_items()}
    try:
        probe = upgrades.checked_upgrade(service, request.path, headers)
    except RequestError as error:
        return _response(error.status, encode_error(error.code, error.message), refusal_headers(error))
    return None if probe is None else _response(200, probe, answer.PROBE_HEADERS)


def _response(status: int, body: bytes, headers: dict[str, str]) -> Response:
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close", **headers}
    return Response(status, HTTPStatus(status).phrase, Headers(fields), body)

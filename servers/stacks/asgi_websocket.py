"""A WebSocket as an ASGI function, without any framework: what Django's users put beside Django."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from servers import access
from servers.chat import RequestError
from servers.connection import refusal_headers
from servers.messages import encode_error
from servers.service import Service
from servers.stacks import answer
from servers.websocket.protocol import INTERNAL_ERROR

AsgiEvent = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiEvent]]
Send = Callable[[AsgiEvent], Awaitable[None]]
Application = Callable[[AsgiEvent, Receive, Send], Awaitable[None]]


class _Left(Exception):
    """The client has closed the connection."""


async def converse(service: Service, scope: AsgiEvent, receive: Receive, send: Send, *, checks_access: bool) -> None:
    """Answer the requests of one connection until it is closed; without a token first, if none is to be checked."""
    await receive()  # websocket.connect
    try:
        _check(service, scope, checks_access=checks_access)
    except RequestError as error:
        await _refuse(send, error)
        return
    await send({"type": "websocket.accept"})
    try:
        while True:
            await _answer(service, receive, send)
    except (_Left, OSError):  # its answer is kept for a while
        pass
    except RequestError as error:
        await send({"type": "websocket.send", "text": encode_error(error.code, error.message).decode()})
        await send({"type": "websocket.close", "code": answer.close_code(error), "reason": error.code})


def _check(service: Service, scope: AsgiEvent, *, checks_access: bool) -> None:
    """Raise RequestError for an upgrade elsewhere than on /chat, or one that may not be."""
    if scope["path"] != "/chat":
        raise RequestError(404, "not_found", "Not Found")
    if checks_access:
        headers = {name.decode("latin-1").title(): value.decode("latin-1") for name, value in scope["headers"]}
        settings = service.settings
        access.check(headers, settings.auth_token, settings.allow_origins, writes=True)
        access.check_origin(headers, settings.allow_origins)


async def _refuse(send: Send, error: RequestError) -> None:
    """Answer the upgrade with the refusal (ASGI's extension "websocket.http.response")."""
    fields = {"Content-Type": "application/json", **refusal_headers(error)}
    headers = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "websocket.http.response.start", "status": error.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": encode_error(error.code, error.message)})


async def _answer(service: Service, receive: Receive, send: Send) -> None:
    """Answer the next request. Raises RequestError, _Left."""
    received = await receive()
    if received["type"] == "websocket.disconnect":
        raise _Left
    generation, first = answer.open_frame(service, received.get("text"))
    async for message in answer.encoded_messages(service, generation, first):
        await send({"type": "websocket.send", "text": message.data.decode()})
    if generation.failure is not None:
        await send({"type": "websocket.close", "code": INTERNAL_ERROR, "reason": generation.failure.code})
        raise _Left

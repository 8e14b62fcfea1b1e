"""picows as people write it: a listener whose callback takes a frame, and a task that sends the answer's messages.

What is no upgrade it answers as well, with any response that the listeners' factory returns: so the probes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import picows
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest

from servers.chat import RequestError
from servers.connection import QUEUED_CONNECTIONS, refusal_headers
from servers.messages import encode_error
from servers.push import limit_stall
from servers.service import Service
from servers.stacks import answer, upgrades
from servers.websocket.protocol import INTERNAL_ERROR, MAX_MESSAGE_BYTES

_JSON = {"Content-Type": "application/json"}  # picows adds the length


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[int]:
    """Serve for as long as the context lasts; yields the port. Raises OSError."""

    def route(request: WSUpgradeRequest) -> WSListener | picows.WSUpgradeResponseWithListener:
        return _route(service, request)

    settings = service.settings
    server = await picows.ws_create_server(
        route,
        settings.host,
        settings.port,
        max_frame_size=MAX_MESSAGE_BYTES,
        enable_auto_ping=True,
        backlog=QUEUED_CONNECTIONS,
    )
    async with server:
        listeners = tuple(server.sockets)
        for listener in listeners:
            limit_stall(listener)
        yield listeners[0].getsockname()[1]


def _route(service: Service, request: WSUpgradeRequest) -> WSListener | picows.WSUpgradeResponseWithListener:
    headers = {name.title(): value for name, value in request.headers.items()}
    try:
        probe = upgrades.checked(service, request.path.decode("ascii", "replace"), headers)
    except RequestError as error:
        body = encode_error(error.code, error.message)
        headers = _JSON | refusal_headers(error)
        return _response(picows.WSUpgradeResponse.create_error_response(error.status, body, headers))
    if probe is None:
        return _Conversation(service)
    return _response(picows.WSUpgradeResponse.create_ok_response(probe, _JSON))


def _response(response: picows.WSUpgradeResponse) -> picows.WSUpgradeResponseWithListener:
    return picows.WSUpgradeResponseWithListener(response, None)


class _Conversation(WSListener):
    """One connection: its requests are answered one after the other."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service
        self._asked: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._answering: asyncio.Task[None] | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin to answer."""
        self._answering = asyncio.create_task(self._answer_all(transport))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a request."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT:
            self._asked.put_nowait(frame.get_payload_as_utf8_text())
        else:
            self._asked.put_nowait(frame.get_payload_as_bytes())

    def on_ws_disconnected(self, _: WSTransport) -> None:
        """Answer no more."""
        if self._answering is not None:
            self._answering.cancel()

    async def _answer_all(self, transport: WSTransport) -> None:
        try:
            while True:
                await self._answer(transport, await self._asked.get())
        except RequestError as error:
            transport.send(WSMsgType.TEXT, encode_error(error.code, error.message))
            _close(transport, answer.close_code(error), error.code)

    async def _answer(self, transport: WSTransport, frame: str | bytes) -> None:
        generation, first = answer.open_frame(self._service, frame)
        async for message in answer.messages(self._service, generation, first):
            transport.send(WSMsgType.TEXT, message.data)
        if generation.failure is not None:
            _close(transport, INTERNAL_ERROR, generation.failure.code)


def _close(transport: WSTransport, code: int, reason: str) -> None:
    transport.send_close(WSCloseCode(code), reason.encode())
    transport.disconnect()

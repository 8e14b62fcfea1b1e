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
from servers.service import Service
from servers.stacks import answer, upgrades
from servers.stacks.listener import open_until_stopped
from servers.websocket.protocol import (
    GOING_AWAY,
    INTERNAL_ERROR,
    INVALID_DATA,
    MAX_INCOMING_BYTES,
    QUEUED_REQUESTS,
)

_DATA = (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION)
_JSON = {"Content-Type": "application/json"}  # picows adds the length


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[int]:
    """Serve for as long as the context lasts; yields the port. Raises OSError."""

    conversations: set[_Conversation] = set()

    def route(request: WSUpgradeRequest) -> WSListener | picows.WSUpgradeResponseWithListener:
        return _route(service, conversations, request)

    settings = service.settings
    server = await picows.ws_create_server(
        route,
        settings.host,
        settings.port,
        max_frame_size=MAX_INCOMING_BYTES,
        enable_auto_ping=True,
        backlog=QUEUED_CONNECTIONS,
    )
    async with open_until_stopped(server) as port:
        yield port
        for conversation in tuple(conversations):
            conversation.close(GOING_AWAY, "the server is stopping")


def _route(
    service: Service, conversations: set[_Conversation], request: WSUpgradeRequest
) -> WSListener | picows.WSUpgradeResponseWithListener:
    headers = {name.title(): value for name, value in request.headers.items()}
    try:
        probe = upgrades.checked_upgrade(service, request.path.decode("ascii", "replace"), headers)
    except RequestError as error:
        body = encode_error(error.code, error.message)
        headers = _JSON | refusal_headers(error)
        return _response(picows.WSUpgradeResponse.create_error_response(error.status, body, headers))
    if probe is None:
        return _Conversation(service, conversations)
    return _response(picows.WSUpgradeResponse.create_ok_response(probe, _JSON | answer.PROBE_HEADERS))


def _response(response: picows.WSUpgradeResponse) -> picows.WSUpgradeResponseWithListener:
    return picows.WSUpgradeResponseWithListener(response, None)


class _Conversation(WSListener):
    """One connection: its requests are answered one after the other."""

    def __init__(self, service: Service, conversations: set[_Conversation]) -> None:
        super().__init__()
        self._service = service
        self._conversations = conversations
        self._opened_by: WSMsgType | None = None  # the first frame of a message whose last has not come
        self._unfinished = bytearray()
        self._asked: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._writable = asyncio.Event()
        self._writable.set()

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin to answer."""
        self._transport = transport
        self._conversations.add(self)
        self._answering = asyncio.create_task(self._answer_all())

    def on_ws_disconnected(self, _: WSTransport) -> None:
        """Answer no more."""
        self._conversations.discard(self)
        self._answering.cancel()

    def on_ws_frame(self, _: WSTransport, frame: WSFrame) -> None:
        """Take a request, or a part of one."""
        if frame.rsv1 or frame.rsv2 or frame.rsv3:  # of extensions, of which there is none (RFC 6455 §5.2)
            self.close(WSCloseCode.PROTOCOL_ERROR, "reserved bits")
        elif frame.msg_type == WSMsgType.CLOSE:
            code = frame.get_close_code()
            self.close(WSCloseCode.OK if code == WSCloseCode.NO_INFO else code, "")  # an empty one has none to repeat
        elif frame.msg_type in _DATA:
            self._take(frame)

    def pause_writing(self) -> None:
        """The client takes less than it is sent: what else it asks has to wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._writable.set()

    def close(self, code: WSCloseCode | int, reason: str) -> None:
        """Say good-bye, and close the connection when that is sent."""
        self._transport.send_close(WSCloseCode(code), reason.encode())
        self._transport.disconnect()

    def _take(self, frame: WSFrame) -> None:
        if (frame.msg_type == WSMsgType.CONTINUATION) != (self._opened_by is not None):
            self.close(WSCloseCode.PROTOCOL_ERROR, "a message within another, or the rest of none")
        elif len(self._unfinished) + frame.payload_size > MAX_INCOMING_BYTES:
            self.close(WSCloseCode.MESSAGE_TOO_BIG, f"a message may have {MAX_INCOMING_BYTES} bytes")
        else:
            self._opened_by = self._opened_by or frame.msg_type
            self._unfinished += frame.get_payload_as_memoryview()
            if frame.fin:
                self._complete()

    def _complete(self) -> None:
        data, is_text = bytes(self._unfinished), self._opened_by == WSMsgType.TEXT
        self._unfinished.clear()
        self._opened_by = None
        try:
            self._asked.put_nowait(data.decode() if is_text else data)
        except UnicodeDecodeError as error:
            self.close(INVALID_DATA, f"not UTF-8 at byte {error.start}")
        self._steer_reading()

    def _steer_reading(self) -> None:
        """Read while there is room for more requests."""
        connection = self._transport.underlying_transport
        if self._asked.qsize() < QUEUED_REQUESTS:
            connection.resume_reading()
        else:
            connection.pause_reading()

    async def _answer_all(self) -> None:
        try:
            while True:
                frame = await self._asked.get()
                self._steer_reading()
                await self._writable.wait()
                await self._answer(frame)
        except RequestError as error:
            self._transport.send(WSMsgType.TEXT, encode_error(error.code, error.message))
            self.close(answer.close_code(error), error.code)

    async def _answer(self, frame: str | bytes) -> None:
        generation, first = answer.open_frame(self._service, frame)
        async for message in answer.encoded_messages(self._service, generation, first):
            self._transport.send(WSMsgType.TEXT, message.data)
        if generation.failure is not None:
            self.close(INTERNAL_ERROR, generation.failure.code)

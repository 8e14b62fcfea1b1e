"""The WebSocket client: every message is a frame over one connection that stays open between messages.

`websockets` does the protocol; frames are decoded in its `data_received`, without the queue and the task switch of
`recv`, so that the stamp is straight after the read, as in clients.http.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic_ns
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Event, State

from clients.client import Client, Settings
from clients.errors import (
    AnswerTruncated,
    ClientFailure,
    ConnectionBroken,
    NoConnection,
    NotTheFormat,
    RequestRefused,
    SilenceTimeout,
    broken,
    refused,
    seconds,
)
from clients.exchange import Exchange
from clients.ledger import Ledger
from clients.sockets import Meter
from servers.messages import MAX_MESSAGE_BYTES, EndMessage, ProtocolError, TokenMessage, decode_error
from servers.websocket.wire import decode

_FAREWELL_S = 1.0  # for the closing handshake
_CONTROL = frozenset({Opcode.PING, Opcode.PONG, Opcode.CLOSE})
_ORDERLY_CODES = frozenset({1000, 1001, 1005})  # RFC 6455 §7.4.1: normal, going away, none given


class WebSocketClient(Client):
    """Resumes by `from`.

    A connection that was cut while nobody asked is a drop of the message that needs it: a browser's WebSocket does not
    come back by itself, as a pool of HTTP connections does.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._connection: _Connection | None = None

    async def _attempt(self, exchange: Exchange) -> None:
        connection = self._connection
        if connection is None:
            exchange.note_request(upgrade=True)
            self._connection = connection = await self._connect()
        if connection.protocol.state is not State.OPEN:
            raise connection.farewell()
        exchange.note_request()
        answer = connection.answer = _Answer(exchange.ledger, monotonic_ns())
        try:
            connection.protocol.send_text(exchange.body())
            connection.send_data()
            await self._until_done(answer)
        finally:
            connection.answer = None

    async def _until_done(self, answer: _Answer) -> None:
        silence_s = self.settings.silence_s
        while silence_s is not None and not answer.done.done():
            left_s = silence_s - (monotonic_ns() - answer.heard_ns) / 1e9
            if left_s <= 0:
                raise SilenceTimeout(silence_s)
            await asyncio.wait([answer.done], timeout=left_s)
        await answer.done
        if answer.failure is not None:
            raise answer.failure

    async def _connect(self) -> _Connection:
        """Open the connection and shake hands. Raises ClientFailure."""
        opening: list[_Connection] = []

        def create(*args: Any, **kwargs: Any) -> _Connection:
            opening.append(_Connection(self.meter, *args, **kwargs))
            return opening[-1]

        try:
            async with asyncio.timeout(self.settings.silence_s) as limit:
                await connect(
                    f"ws://{self.host}:{self.port}/chat",
                    create_connection=create,  # type: ignore[arg-type]  # it only calls it
                    additional_headers=self.headers,
                    compression=None,  # deflate costs CPU on tiny messages, and its bytes would not compare
                    max_size=MAX_MESSAGE_BYTES,
                    max_queue=None,
                    open_timeout=None,  # the limits are the message's, see Client.ask
                    ping_interval=None,  # a browser's WebSocket sends no pings; the server's are answered
                    close_timeout=_FAREWELL_S,
                    proxy=None,
                )
        except TimeoutError:
            if limit.expired():
                raise SilenceTimeout(self.settings.silence_s or 0.0) from None
            raise
        except InvalidStatus as error:
            raise _refusal(error) from error
        except InvalidHandshake as error:
            raise _handshake_failure(error, opening[-1].lost) from error
        except OSError as error:
            raise NoConnection(str(error)) from error
        return opening[-1]

    async def _hang_up(self, *, orderly: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if orderly and connection.protocol.state is State.OPEN:
            with suppress(Exception):  # whatever happens to the farewell, the messages before it are complete
                await connection.close()
        connection.transport.abort()
        await connection.wait_closed()


def _refusal(error: InvalidStatus) -> RequestRefused:
    response = error.response
    told = decode_error(bytes(response.body or b""))
    detail = f"{told.code}: {told.message}" if told is not None else str(error)
    wish_s = seconds(response.headers.get("Retry-After"))
    return RequestRefused(detail, f"status {response.status_code}", response.status_code, wish_s)


def _handshake_failure(error: InvalidHandshake, lost: Exception | None) -> ClientFailure:
    """The connection was lost before the response was complete, or the response is no upgrade."""
    if lost is not None:
        return broken(lost)
    if isinstance(error.__cause__, EOFError):
        return AnswerTruncated("the connection was closed before the response", "fin")
    return NotTheFormat(f"{error}: {error.__cause__}" if error.__cause__ is not None else str(error))


class _Answer:
    """What a connection's frames are entered in; `done` is set when the end message came, or never will."""

    def __init__(self, ledger: Ledger, asked_ns: int) -> None:
        self.ledger = ledger
        self.heard_ns = asked_ns  # when anything was read last
        self.found: list[TokenMessage | EndMessage] = []  # in the read that is being decoded
        self.done = asyncio.get_running_loop().create_future()
        self.failure: ClientFailure | None = None

    def enter(self) -> None:
        """A read is decoded."""
        self.ledger.add(self.found, self.heard_ns)
        self.found = []
        if self.ledger.end is not None:
            self.finish(None)

    def finish(self, failure: ClientFailure | None) -> None:
        """The answer is over; whoever tells why first is believed."""
        if not self.done.done():
            self.failure = failure
            self.done.set_result(None)


class _Connection(ClientConnection):
    """A connection of `websockets` that stamps its reads and hands frames over at once."""

    def __init__(self, meter: Meter, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.answer: _Answer | None = None
        self.lost: Exception | None = None
        self._meter = meter
        self._parts: list[bytes] = []  # of a fragmented message

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._meter.opened(transport)

    def data_received(self, data: bytes) -> None:
        answer = self.answer
        if answer is None:
            super().data_received(data)
            return
        answer.heard_ns = monotonic_ns()
        super().data_received(data)
        answer.enter()
        if self.protocol.parser_exc is not None:
            answer.finish(NotTheFormat(str(self.protocol.parser_exc)))

    def process_event(self, event: Event) -> None:
        if type(event) is not Frame or event.opcode in _CONTROL:
            super().process_event(event)
            if type(event) is Frame and event.opcode is Opcode.CLOSE and self.answer is not None:
                self.answer.finish(_closed(self.protocol.close_rcvd))
        elif self.answer is not None:  # data that nobody asked for is dropped
            self._message(self.answer, event)

    def _message(self, answer: _Answer, frame: Frame) -> None:
        data = frame.data
        if not frame.fin or self._parts:
            self._parts.append(bytes(data))
            if not frame.fin:
                return
            data, self._parts = b"".join(self._parts), []
        try:
            answer.found.append(decode(data))  # type: ignore[arg-type]  # bytes, bytearray or memoryview
        except ProtocolError as error:
            refusal = decode_error(bytes(data))
            if refusal is None:
                answer.finish(NotTheFormat(str(error)))
            else:
                answer.finish(refused(refusal.code, refusal.message))

    def farewell(self) -> ClientFailure:
        """How the connection ended between two messages."""
        if self.protocol.close_rcvd is not None:
            return _closed(self.protocol.close_rcvd)
        return _cut(self.lost)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc
        self._meter.lost(self.transport)
        super().connection_lost(exc)
        if self.answer is not None:
            self.answer.finish(_cut(exc))


def _cut(error: Exception | None) -> ClientFailure:
    """The connection ended without a farewell."""
    return broken(error) if error is not None else AnswerTruncated("", "fin")


def _closed(close: Close | None) -> ClientFailure:
    """The server said goodbye before the end message."""
    code = close.code if close is not None else 1005
    reason = close.reason if close is not None else ""
    kind = AnswerTruncated if code in _ORDERLY_CODES else ConnectionBroken
    return kind(reason, f"close {code}")


CLIENT = WebSocketClient

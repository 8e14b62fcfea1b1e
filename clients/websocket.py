"""The WebSocket client: every message is a frame over one connection that stays open between messages."""

from __future__ import annotations

from collections.abc import Sequence

from clients.core.errors import ClientFailure, NotTheFormat, refused
from clients.core.exchange import Exchange
from clients.core.http_scripts import respond
from clients.core.ledger import Ledger
from clients.core.session import Script, Session
from clients.core.unread import stop_reading
from clients.core.websocket_connection import WebSocketConnection
from servers.messages import EndMessage, ProtocolError, TokenMessage, decode_error, decode_token
from servers.websocket.wire import decode


def attempt(session: Session, exchange: Exchange) -> Script[None]:
    """Resumes by `from`.

    A connection that was cut while nobody asked is a drop of the message that needs it: a browser's WebSocket does not
    come back by itself, as a pool of HTTP connections does.
    """
    connection = session.connection
    if not isinstance(connection, WebSocketConnection):
        connection = yield from _open(session, exchange)
    if connection.failure is not None:
        raise connection.failure
    exchange.note_request(session.now_ns)
    session.asks()
    asked_ns = session.now_ns
    connection.send(exchange.body())
    exchange.note_asked(asked_ns)
    yield from session.wait_for_news()
    inflow = _FrameInflow(exchange.ledger, connection)
    if session.is_read:  # and not the connection's end
        exchange.record.response_ms.append((session.now_ns - asked_ns) / 1e6)
        inflow.enter(b"", session.now_ns)
        yield from stop_reading(session, exchange, inflow.enter)
    session.on_read = inflow.enter
    try:
        while exchange.ledger.end is None:
            failure = inflow.failure or connection.failure
            if failure is not None:
                raise failure
            yield from session.wait_for_news()
    finally:
        session.on_read = None
        connection.finish()


def _open(session: Session, exchange: Exchange) -> Script[WebSocketConnection]:
    """Open the connection and shake hands. Raises ClientFailure."""
    connection = WebSocketConnection(session.endpoint, "/chat")
    asked = yield from respond(session, exchange, connection.upgrade(), (101,))
    connection.begin(asked.response)
    session.connection = connection
    return connection


class _FrameInflow:
    """Each read's messages, decoded and entered where it was made; true when the script has to look."""

    __slots__ = "_connection", "_ledger", "failure"

    def __init__(self, ledger: Ledger, connection: WebSocketConnection) -> None:
        self.failure: ClientFailure | None = None
        self._ledger, self._connection = ledger, connection

    def enter(self, data: bytes, read_ns: int) -> bool:
        """A read and its stamp."""
        connection, ledger = self._connection, self._ledger
        frames = connection.read(data)
        try:
            found: list[TokenMessage | EndMessage] = [decode_token(frame) for frame in frames]
        except (ValueError, RecursionError):
            found = self._decoded(frames)
        try:
            ledger.add(found, read_ns)
        except NotTheFormat as error:
            self.failure = error
        return (
            ledger.end is not None
            or self.failure is not None
            or connection.failure is not None
            or connection.has_to_send
        )

    def _decoded(self, frames: Sequence[bytes | bytearray]) -> list[TokenMessage | EndMessage]:
        """What they say, whatever that is, up to the first that is no message."""
        found: list[TokenMessage | EndMessage] = []
        for frame in frames:
            try:
                message = decode(frame)  # type: ignore[arg-type]  # bytes or bytearray
            except ProtocolError as error:
                told = decode_error(bytes(frame))
                self.failure = NotTheFormat(str(error)) if told is None else refused(told.code, told.message)
                break
            found.append(message)
            if message.__class__ is EndMessage:
                break  # what follows is for nobody, as it would be in a later read
        return found

"""WebSocket users: the protocol is websockets' (sans-I/O), the reading ours.

A greenlet reads for as long as the connection is open, so that pings are answered between messages too; frames are
decoded where they are read, and the user is woken when the answer is over.
"""

from __future__ import annotations

from time import monotonic_ns

import gevent
from gevent.event import Event
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from clients.client import Settings
from clients.errors import (
    AnswerTruncated,
    ClientFailure,
    ConnectionBroken,
    NotTheFormat,
    OwnFault,
    RequestRefused,
    SilenceTimeout,
    refused,
    seconds,
)
from clients.exchange import Exchange
from clients.ledger import Ledger
from clients.locusts.asking import GeventClient
from clients.locusts.connection import Connection
from servers.messages import MAX_MESSAGE_BYTES, EndMessage, ProtocolError, TokenMessage, decode_error
from servers.websocket.wire import decode

_ORDERLY_CODES = frozenset({1000, 1001, 1005})  # RFC 6455 §7.4.1: normal, going away, none given


class WebSocketClient(GeventClient):
    """Resumes by `from`. A connection that was cut while nobody asked is a drop of the message that needs it."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._talk: _Talk | None = None

    def _attempt(self, exchange: Exchange) -> None:
        talk = self._talk
        if talk is None:
            exchange.note_request(upgrade=True)
            asked_ns = monotonic_ns()
            self._talk = talk = self._connect()
            self.note_response(asked_ns, talk.heard_ns)
        if not talk.is_open:
            raise talk.ended or AnswerTruncated("", "fin")
        exchange.note_request()
        asked_ns = monotonic_ns()
        answer = talk.ask(exchange.body(), exchange.ledger)
        try:
            answer.wait(self.settings.silence_s)
        finally:
            talk.answer = None
            if answer.first_ns:
                self.note_response(asked_ns, answer.first_ns)

    def _connect(self) -> _Talk:
        connection = Connection(self.host, self.port, self.meter, self.settings.silence_s)
        try:
            return _Talk(connection, f"ws://{self.host}:{self.port}/chat", self.headers.get("Authorization"))
        except BaseException:
            connection.close()
            raise

    def hang_up(self) -> None:
        talk, self._talk = self._talk, None
        if talk is not None:
            talk.close()


class _Answer:
    """What frames are entered in; the user waits until the end message came, or never will."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.heard_ns = monotonic_ns()
        self.first_ns = 0
        self.failure: ClientFailure | None = None
        self._done = Event()

    def enter(self, found: list[TokenMessage | EndMessage], read_ns: int) -> None:
        """One read is decoded."""
        self.heard_ns = read_ns
        self.first_ns = self.first_ns or read_ns
        self.ledger.add(found, read_ns)
        if self.ledger.end is not None:
            self.finish(None)

    def finish(self, failure: ClientFailure | None) -> None:
        """The answer is over; whoever tells why first is believed."""
        if not self._done.is_set():
            self.failure = failure
            self._done.set()

    def wait(self, silence_s: float | None) -> None:
        """Return when the end message has come. Raises ClientFailure."""
        while silence_s is not None and not self._done.is_set():
            left_s = silence_s - (monotonic_ns() - self.heard_ns) / 1e9
            if left_s <= 0:
                raise SilenceTimeout(silence_s)
            self._done.wait(left_s)
        self._done.wait()
        if self.failure is not None:
            raise self.failure


class _Talk:
    """An open WebSocket and the greenlet that reads it."""

    def __init__(self, connection: Connection, url: str, authorization: str | None) -> None:
        """Shake hands over `connection`. Raises ClientFailure."""
        self.answer: _Answer | None = None
        self.ended: ClientFailure | None = None  # how the connection ended
        self._connection = connection
        self._parts: list[bytes] = []  # of a fragmented message
        # No extensions: deflate costs CPU on tiny messages, and its bytes would not compare.
        self._protocol = ClientProtocol(parse_uri(url), max_size=MAX_MESSAGE_BYTES)
        self._shake_hands(authorization)
        self.heard_ns = connection.read_ns
        self._sort(self.heard_ns)  # what came with the response: nobody has asked yet
        connection.wait_for_ever()  # between messages there may be silence; within one, the answer's limit counts
        self._reader = gevent.spawn(self._read)

    @property
    def is_open(self) -> bool:
        """Whether another question can be asked."""
        return self._connection.is_open and self._protocol.state is State.OPEN and not self._reader.ready()

    def ask(self, body: bytes, ledger: Ledger) -> _Answer:
        """Send a question. Raises ClientFailure."""
        self.answer = answer = _Answer(ledger)
        self._protocol.send_text(body)
        self._flush()
        return answer

    def close(self) -> None:
        """Say goodbye, if that is still possible, and close at once."""
        self._reader.kill()
        try:
            if self._connection.is_open and self._protocol.state is State.OPEN:
                self._protocol.send_close(1000)
                self._flush()
        except ClientFailure:
            pass  # nobody is there to hear it
        finally:
            self._connection.close()

    def _flush(self) -> None:
        self._connection.send(part for part in self._protocol.data_to_send() if part)

    def _shake_hands(self, authorization: str | None) -> None:
        protocol = self._protocol
        request = protocol.connect()
        if authorization:
            request.headers["Authorization"] = authorization
        protocol.send_request(request)
        self._flush()
        while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
            data = self._connection.read()
            if data:
                protocol.receive_data(data)
            else:
                protocol.receive_eof()
                break
        if protocol.handshake_exc is not None or protocol.state is State.CONNECTING:
            raise _handshake_failure(protocol.handshake_exc)

    def _read(self) -> None:
        """Read until the connection ends, and tell the answer that is waited for how it ended."""
        connection, protocol = self._connection, self._protocol
        failure: ClientFailure | None = None
        try:
            while failure is None:
                data = connection.read()
                if not data:
                    failure = AnswerTruncated("", "fin")
                    break
                protocol.receive_data(data)
                failure = self._sort(connection.read_ns)
                self._flush()  # pongs, and the reply to a close frame
        except ClientFailure as error:
            failure = error
        except Exception as error:
            failure = OwnFault(error)
        self.ended = failure
        if self.answer is not None:
            self.answer.finish(failure)
        connection.close()

    def _sort(self, read_ns: int) -> ClientFailure | None:
        """Enter the frames of one read; a failure, if they end the conversation."""
        found: list[TokenMessage | EndMessage] = []
        failure: ClientFailure | None = None
        for event in self._protocol.events_received():
            if not isinstance(event, Frame) or event.opcode in (Opcode.PING, Opcode.PONG):
                continue
            if event.opcode is Opcode.CLOSE:
                failure = failure or _closed(self._protocol.close_rcvd)
            elif self.answer is not None and (data := self._message(event)) is not None:
                failure = failure or _decoded(data, found)
        if self.answer is not None:
            self.answer.enter(found, read_ns)
        if self._protocol.parser_exc is not None:
            failure = failure or NotTheFormat(str(self._protocol.parser_exc))
        return failure

    def _message(self, frame: Frame) -> bytes | None:
        """The whole message that `frame` completes."""
        if frame.fin and not self._parts:
            return bytes(frame.data)
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            return None
        data, self._parts = b"".join(self._parts), []
        return data


def _decoded(data: bytes, found: list[TokenMessage | EndMessage]) -> ClientFailure | None:
    """Add the message to `found`; or why it is none."""
    try:
        found.append(decode(data))
    except ProtocolError as error:
        refusal = decode_error(data)
        if refusal is None:
            return NotTheFormat(str(error))
        return refused(refusal.code, refusal.message)
    return None


def _handshake_failure(error: BaseException | None) -> ClientFailure:
    """The response is no upgrade, or there was none."""
    if isinstance(error, InvalidStatus):
        return _refusal(error.response)
    if error is None or isinstance(error.__cause__, EOFError) or isinstance(error, EOFError):
        return AnswerTruncated("the connection was closed before the response", "fin")
    return NotTheFormat(f"{error}: {error.__cause__}" if error.__cause__ is not None else str(error))


def _refusal(response: Response) -> RequestRefused:
    told = decode_error(bytes(response.body or b""))
    detail = f"{told.code}: {told.message}" if told is not None else f"status {response.status_code}"
    wish_s = seconds(response.headers.get("Retry-After"))
    return RequestRefused(detail, f"status {response.status_code}", response.status_code, wish_s)


def _closed(close: Close | None) -> ClientFailure:
    """The server said goodbye before the end message."""
    code = close.code if close is not None else 1005
    kind = AnswerTruncated if code in _ORDERLY_CODES else ConnectionBroken
    return kind(close.reason if close is not None else "", f"close {code}")

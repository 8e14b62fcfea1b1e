"""WebSocket as a client speaks it, after the upgrade (pure). The protocol is websockets', by its sans-I/O layer.

Nearly every read is whole text frames, as servers/websocket/wire.py writes them. Those are read in a quick way, which
knows when it does not understand something; all else, and whatever is split, goes to websockets. A text frame that is
a whole message changes nothing in its state, so it need not see it.
"""

from __future__ import annotations

from collections.abc import Mapping

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from clients.core.endpoint import Endpoint
from clients.core.errors import AnswerTruncated, ClientFailure, ConnectionBroken, NotTheFormat
from clients.core.http1 import Request
from clients.core.response import Response
from servers.messages import MAX_MESSAGE_BYTES

_DATA = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})
_ORDERLY_CODES = frozenset({1000, 1001, 1005})  # RFC 6455 §7.4.1: normal, going away, none given
_NO_CODE = 1005
_WHOLE_TEXT = 0x81  # the first byte of a text frame that is a whole message
_LENGTH_OF_TWO_BYTES = 126
_HOP_BY_HOP = ("Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version")


class WebSocketConnection:
    """Messages in and out. `failure` is set when the connection is over, and says how it ended."""

    def __init__(self, endpoint: Endpoint, path: str) -> None:
        self.failure: ClientFailure | None = None
        # No extensions: deflate costs CPU on tiny messages, and its bytes would not compare.
        scheme = "wss" if endpoint.secure else "ws"
        uri = parse_uri(f"{scheme}://{endpoint.authority}{endpoint.target(path)}")
        self._protocol = ClientProtocol(uri, max_size=MAX_MESSAGE_BYTES)
        self._path = path
        self._messages: list[bytes | bytearray] = []
        self._partial: bytearray | None = None  # what has come of a fragmented message
        self._held_bytes = 0  # of a frame that is not complete; too many, if the server wastes bytes on lengths
        self._is_asked = False
        self._is_leaving = False
        self.has_to_send = False  # without having been asked to

    def upgrade(self) -> Request:
        """The request that opens the connection."""
        wanted = self._protocol.connect().headers
        return Request("GET", self._path, {name: wanted[name] for name in _HOP_BY_HOP})

    def begin(self, response: Response) -> None:
        """The server has answered 101: check its answer, and take what came with it. Raises NotTheFormat."""
        self._protocol.receive_data(_head_of(response.headers))
        self._protocol.events_received()
        error = self._protocol.handshake_exc
        if error is not None:
            raise NotTheFormat(f"{error}: {error.__cause__}" if error.__cause__ is not None else str(error))
        if response.surplus:
            self.receive(response.surplus)

    def send(self, message: bytes) -> None:
        """Send a text message; from now on what comes is kept for `take`."""
        self._is_asked = True
        self._protocol.send_text(message)

    def finish(self) -> None:
        """Nobody waits for a message any more: what comes from now on is for nobody."""
        self._is_asked = False
        self._messages.clear()

    def take(self) -> list[bytes | bytearray]:
        """The messages that have come since the last time."""
        messages, self._messages = self._messages, []
        return messages

    def read(self, data: bytes) -> list[bytes | bytearray]:
        """What `take` brings when these bytes have come, while somebody waits for messages."""
        if not (self._messages or self._held_bytes) and self._partial is None and self.failure is None:
            plain = plain_messages(data)
            if plain is not None:
                return plain
        self.receive(data)
        return self.take()

    def receive(self, data: bytes) -> None:
        """Bytes have come; whatever they are, this returns."""
        if self.failure is not None:
            return
        plain = None if self._held_bytes or self._partial is not None else plain_messages(data)
        if plain is None:
            self._receive_exactly(data)
        elif self._is_asked:
            self._messages += plain

    def _receive_exactly(self, data: bytes) -> None:
        protocol = self._protocol
        protocol.receive_data(data)
        self._held_bytes += len(data)
        for event in protocol.events_received():
            if event.__class__ is not Frame:
                continue
            self._held_bytes -= _frame_bytes(len(event.data))
            if event.opcode in _DATA:
                self._add(event)
            elif event.opcode is Opcode.CLOSE:
                self.failure = _closed(bytes(event.data))
            else:
                self.has_to_send = True  # a pong, if it was a ping
        if self.failure is None and not self._is_leaving and protocol.close_expected():
            protocol.receive_eof()  # websockets has given the connection up; only now does it say why
            self.failure = NotTheFormat(str(protocol.close_exc))

    def _add(self, frame: Frame) -> None:
        data = frame.data
        if not frame.fin or self._partial is not None:
            self._partial = self._partial if self._partial is not None else bytearray()
            self._partial += data
            if not frame.fin:
                return
            data, self._partial = bytes(self._partial), None
        if self._is_asked:
            self._messages.append(data)  # type: ignore[arg-type]  # a memoryview is made by extensions only

    def end(self, failure: ClientFailure | None) -> None:
        """The connection has ended."""
        if self.failure is None:
            self.failure = failure or AnswerTruncated("", "fin")

    def data_to_send(self) -> list[bytes]:
        """Frames on their way: messages, pongs, the reply to a Close."""
        self.has_to_send = False
        return [data for data in self._protocol.data_to_send() if data]

    def say_goodbye(self) -> bool:
        """Send a Close; whether an answer to it can be waited for."""
        if self.failure is not None:
            return False
        self._is_leaving = True
        self._protocol.send_close(1000)
        return True

    def leave(self) -> None:
        """See clients.core.session.Connection."""


def plain_messages(data: bytes) -> list[bytes | bytearray] | None:
    """The messages in `data`, if that is nothing but whole text frames of at most 64 KiB; else None."""
    at, end = 0, len(data)
    if end > 2 and data[0] == _WHOLE_TEXT and data[1] == end - 2 < _LENGTH_OF_TWO_BYTES:  # one, nearly always
        return [data[2:]]
    found: list[bytes | bytearray] = []
    while at + 2 <= end and data[at] == _WHOLE_TEXT:
        size, at = data[at + 1], at + 2
        if size == _LENGTH_OF_TWO_BYTES:
            size, at = int.from_bytes(data[at : at + 2], "big"), at + 2
            if size < _LENGTH_OF_TWO_BYTES:  # not the shortest way to say it
                return None
        elif size > _LENGTH_OF_TWO_BYTES:  # longer, or masked
            return None
        found.append(data[at : at + size])
        at += size
    return found if at == end else None


def _frame_bytes(payload_bytes: int) -> int:
    """How long a server's frame with such a payload is at least (RFC 6455 §5.2)."""
    return payload_bytes + (2 if payload_bytes < 126 else 4 if payload_bytes < 65_536 else 10)


def _head_of(headers: Mapping[str, str]) -> bytes:
    """The 101 as websockets reads it; interim answers before it are gone."""
    lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _closed(payload: bytes) -> ClientFailure:
    """The server said goodbye before the end message."""
    code = int.from_bytes(payload[:2], "big") if payload else _NO_CODE
    kind = AnswerTruncated if code in _ORDERLY_CODES else ConnectionBroken
    return kind(payload[2:].decode("utf-8", "replace"), f"close {code}")

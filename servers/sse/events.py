"""A decoder of event streams by the rules of WHATWG HTML §9.2.5-9.2.6 (pure).

Lines end with CR, LF or CRLF, wherever the bytes were split. One leading byte-order mark is dropped. An event is
dispatched by an empty line, if it has data; what follows the last empty line is discarded with the connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from servers.messages import MAX_MESSAGE_BYTES, ProtocolError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Event:
    """A dispatched event: its type, its data lines joined by LF, and the last event id then known."""

    type: str
    data: str
    id: str


class EventDecoder:
    """Bytes in, events out.

    `at_boundary` is true when nothing of an unfinished event is held: then a caller who knows that the next bytes are
    whole events may read them itself, and says so with `skip`.
    """

    def __init__(self, limit_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.at_boundary = True
        self.retry_ms: int | None = None
        self._limit_bytes = limit_bytes
        self._last_id = self._next_id = b""
        self._partial_line: list[bytes] = []
        self._partial_bytes = 0
        self._after_cr = False
        self._at_start = True
        self._type = b""
        self._data: list[bytes] = []
        self._data_bytes = 0

    @property
    def last_event_id(self) -> str:
        """What a reconnecting client sends as `Last-Event-ID`: the id at the last dispatch."""
        return _text(self._last_id)

    def skip(self, last_event_id: bytes) -> None:
        """The caller has read whole events by itself, the last of them with this id."""
        self._at_start = self._after_cr = False
        self._last_id = self._next_id = last_event_id

    @property
    def pending_bytes(self) -> int:
        """How much is held of an event or a line that is not complete."""
        return self._partial_bytes + self._data_bytes

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that `data` completes; to be consumed before the next call.

        Raises ProtocolError if a line or an event exceeds the limit.
        """
        lines, rest = self._split(data)
        for line in lines:
            if line:
                self._field(line)
            elif (event := self._dispatch()) is not None:
                yield event
        self._hold(rest)
        self.at_boundary = not (self._partial_line or self._data or self._type or self._next_id != self._last_id)

    def _split(self, data: bytes) -> tuple[list[bytes], bytes]:
        """The lines that `data` completes, without their ends, and what follows the last of them."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")  # the second half of a CRLF
            self._after_cr = False
        if b"\n" not in data and b"\r" not in data:
            return [], data
        self._after_cr = data.endswith(b"\r")
        lines = b"".join((*self._partial_line, data)).splitlines()  # of bytes: at CR, LF and CRLF only
        self._partial_line, self._partial_bytes = [], 0
        rest = b"" if data.endswith((b"\r", b"\n")) else lines.pop()
        if self._at_start:
            self._at_start = False
            lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
        return lines, rest

    def _hold(self, part: bytes) -> None:
        if part:
            self._partial_line.append(part)
            self._partial_bytes += len(part)
            self._check_size(self._partial_bytes)

    def _field(self, line: bytes) -> None:
        self._check_size(len(line))
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._data_bytes += len(value) + 1
            self._check_size(self._data_bytes)
        elif name == b"event":
            self._type = value
        elif name == b"id" and b"\0" not in value:
            self._next_id = value
        elif name == b"retry" and value.isdigit() and len(value) < 16:
            self.retry_ms = int(value)

    def _dispatch(self) -> Event | None:
        self._last_id = self._next_id
        event = None
        if self._data:
            event = Event(_text(self._type) or "message", _text(b"\n".join(self._data)), _text(self._last_id))
        self._type, self._data, self._data_bytes = b"", [], 0
        return event

    def _check_size(self, size: int) -> None:
        if size > self._limit_bytes:
            raise ProtocolError(f"an event or a line of more than {self._limit_bytes} bytes")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")

"""An event stream read event by event, for formats without ids: whole events quickly, all others exactly (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable

from servers.messages import MAX_MESSAGE_BYTES, EndMessage, ProtocolError, TokenMessage
from servers.sse.events import Event, EventDecoder

Found = list[TokenMessage | EndMessage]

_plain_event = re.compile(rb"data:([^\r\n]*+)\n\n").match


class NotPlain(Exception):
    """An event is more than the quick way understands."""


class EventReader:
    """Bytes of an event stream in, messages out.

    `quick` enters into a list what the data of a plain event means, or raises NotPlain or ValueError, having entered
    nothing; `exact` does so with any event, and raises ProtocolError.
    """

    def __init__(
        self,
        quick: Callable[[bytes, Found], None],
        exact: Callable[[Event, Found], None],
        limit_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self._quick, self._exact = quick, exact
        self._events = EventDecoder(limit_bytes)
        self._limit_bytes = limit_bytes

    def feed(self, data: bytes) -> Found:
        """The messages that `data` completes. Raises ProtocolError, with the messages before the fault."""
        found: Found = []
        at, size = 0, len(data)
        if self._events.at_boundary and size <= self._limit_bytes:
            try:
                while at < size and (event := _plain_event(data, at)):
                    self._quick(event[1], found)
                    at = event.end()
            except (NotPlain, ValueError, RecursionError):
                pass  # the exact way says what it is
            if at:
                self._events.skip(b"")
        if at < size:
            self._feed_exact(data[at:], found)
        return found

    def _feed_exact(self, data: bytes, found: Found) -> None:
        try:
            for event in self._events.feed(data):
                self._exact(event, found)
        except ProtocolError as error:
            error.messages = found
            raise

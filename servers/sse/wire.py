"""SSE on the wire: an event per token, its id `<stream_id>/<i>`, then the end message and `[DONE]` (pure).

    retry: 1000
    id: s1/0
    data: {"i": 0, "t": "Hello", "due": …, "sent": …}

    event: end
    data: {"done": true, "n": 1, "sha256": "…"}

    data: [DONE]

`retry:` and heartbeats stand in front of the next event without an empty line of their own: some clients yield an empty
event for a block without data.
"""

from __future__ import annotations

import re

from servers import messages
from servers.messages import MAX_MESSAGE_BYTES, EndMessage, ProtocolError, TokenMessage
from servers.sse.events import EventDecoder

CONTENT_TYPE = "text/event-stream"
RETRY_MS = 1000
HEARTBEAT: bytes = b": heartbeat\n"
_EVENT_ID = re.compile(r"([A-Za-z0-9_-]{1,64})/(0|[1-9][0-9]{0,17})", re.ASCII)


def encode_token(stream_id: bytes, i: int, message: bytes) -> bytes:
    """The event of token `i`; `message` is its encoded token message."""
    return b"id: %b/%d\ndata: %b\n\n" % (stream_id, i, message)


def encode_retry() -> bytes:
    """How long a client should wait before it connects again; goes in front of the first event."""
    return b"retry: %d\n" % RETRY_MS


def encode_end(message: bytes) -> bytes:
    """The end message as an event of type `end`, and the sentinel that OpenAI's clients look for."""
    return b"event: end\ndata: %b\n\ndata: [DONE]\n\n" % message


def parse_event_id(value: str) -> tuple[str, int]:
    """The stream id and the index in an event id or a `Last-Event-ID`. Raises ValueError."""
    match = _EVENT_ID.fullmatch(value)
    if match is None:
        raise ValueError("an event id is <stream_id>/<index>")
    return match[1], int(match[2])


class Decoder:
    """Bytes of an event stream in, messages out."""

    def __init__(self, limit_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._events = EventDecoder(limit_bytes)
        self._limit_bytes = limit_bytes

    @property
    def last_event_id(self) -> str:
        """The id of the last complete event, "" before the first."""
        return self._events.last_event_id

    @property
    def retry_ms(self) -> int | None:
        """The server's wish for how long to wait before connecting again."""
        return self._events.retry_ms

    def feed(self, data: bytes) -> list[TokenMessage | EndMessage]:
        """The messages that `data` completes; `[DONE]` and events of unknown type are passed over.

        Raises ProtocolError, with the messages before the fault.
        """
        if self._events.at_boundary and data[:4] == b"id: " and data[-2:] == b"\n\n":
            found = self._whole_events(data)
            if found is not None:
                return found
        found = []
        try:
            for event in self._events.feed(data):
                if event.type in ("message", "end") and event.data != "[DONE]":
                    found.append(messages.decode(event.data))
        except ProtocolError as error:
            error.messages = found
            raise
        return found

    def finish(self) -> int:
        """The connection has ended: how many bytes of an unfinished event are discarded, as the standard says."""
        return self._events.pending_bytes

    def _whole_events(self, data: bytes) -> list[TokenMessage | EndMessage] | None:
        """The quick way for what nearly every read holds: whole events as `encode_token` writes them.

        None if `data` is anything else, and then nothing has changed: the exact way decides what it means.
        """
        if b"\r" in data or b"\0" in data or len(data) > self._limit_bytes:
            return None
        found = []
        try:
            for block in data[:-2].split(b"\n\n"):
                id_line, data_line = block.split(b"\n")
                if id_line[:4] != b"id: " or data_line[:6] != b"data: ":
                    return None
                found.append(messages.decode(data_line[6:]))
        except ValueError:
            return None
        self._events.skip(id_line[4:])
        return found

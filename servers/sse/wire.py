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
from servers.messages import MAX_MESSAGE_BYTES, AnswerFailed, EndMessage, ProtocolError, TokenMessage, decode_token
from servers.sse.events import EventDecoder

CONTENT_TYPE = "text/event-stream"
RETRY_MS = 1000
HEARTBEAT: bytes = b": heartbeat\n"
_CR, _NUL = b"\r\0"
_EVENT_ID = re.compile(r"([A-Za-z0-9_-]{1,64})/(0|[1-9][0-9]{0,17})", re.ASCII)

# Of bytes without CR and NUL: a character class that excludes more than one character takes twice as long.
_plain_event = re.compile(rb"id: ([^\n]*+)\ndata: ([^\n]*+)\n\n").match


def encode_token(stream_id: bytes, i: int, message: bytes) -> bytes:
    """The event of token `i`; `message` is its encoded token message."""
    return b"id: %b/%d\ndata: %b\n\n" % (stream_id, i, message)


TOKEN_FORMAT = b"id: %%b/%%d\ndata: %b\n\n" % messages.TOKEN_FORMAT
"""The event of a token from its message's parts: stream id, `i`, and what `servers.messages.TOKEN_FORMAT` takes."""


def encode_retry() -> bytes:
    """How long a client should wait before it connects again; goes in front of the first event."""
    return b"retry: %d\n" % RETRY_MS


def encode_end(message: bytes) -> bytes:
    """The end message as an event of type `end`, and the sentinel that OpenAI's clients look for."""
    return b"event: end\ndata: %b\n\ndata: [DONE]\n\n" % message


def encode_failure(message: bytes) -> bytes:
    """The event of an answer that failed, in the place of its end; `message` is the encoded error."""
    return b"event: error\ndata: %b\n\n" % message


def parse_event_id(value: str) -> tuple[str, int]:
    """The stream id and the index in an event id or a `Last-Event-ID`. Raises ValueError."""
    match = _EVENT_ID.fullmatch(value)
    if match is None:
        raise ValueError("an event id is <stream_id>/<index>")
    return match[1], int(match[2])


class Decoder:
    """Bytes of an event stream in, messages out.

    Nearly every read holds whole events as `encode_token` writes them. Those are read in a quick way, which knows when
    it does not understand something; then the exact way, by the standard, decides what it means.
    """

    __slots__ = "_exact", "_is_quick", "_limit_bytes", "_quick"

    def __init__(self, limit_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._exact = EventDecoder(limit_bytes)
        self._limit_bytes = limit_bytes
        self._quick: re.Match[bytes] | None = None  # the last event, if that was read in the quick way
        self._is_quick = True  # whether the next read may be

    @property
    def last_event_id(self) -> str:
        """The id of the last complete event, "" before the first."""
        self._tell_exact()
        return self._exact.last_event_id

    @property
    def retry_ms(self) -> int | None:
        """The server's wish for how long to wait before connecting again."""
        return self._exact.retry_ms

    def feed(self, data: bytes) -> list[TokenMessage | EndMessage]:
        """The messages that `data` completes; `[DONE]` and events of unknown type are passed over.

        Raises ProtocolError, with the messages before the fault.
        """
        size = len(data)
        if self._is_quick and size <= self._limit_bytes and _CR not in data and _NUL not in data:
            found: list[TokenMessage | EndMessage] = []
            at, event = 0, None
            try:
                while at < size and (event := _plain_event(data, at)):
                    found.append(decode_token(event[2]))
                    at = event.end()
            except (ValueError, RecursionError):
                event = None
            if event is not None:
                self._quick = event
                return found
        return self._feed_exact(data)

    def finish(self) -> int:
        """The connection has ended: how many bytes of an unfinished event are discarded, as the standard says."""
        return self._exact.pending_bytes

    def _feed_exact(self, data: bytes) -> list[TokenMessage | EndMessage]:
        self._tell_exact()
        self._is_quick = False
        found: list[TokenMessage | EndMessage] = []
        try:
            for event in self._exact.feed(data):
                if event.type in ("message", "end") and event.data != "[DONE]":
                    found.append(messages.decode(event.data))
                elif event.type == "error" and (failure := messages.decode_error(event.data)) is not None:
                    raise AnswerFailed(failure)
        except ProtocolError as error:
            error.messages = found
            raise
        self._is_quick = self._exact.at_boundary
        return found

    def _tell_exact(self) -> None:
        if self._quick is not None:
            self._exact.skip(self._quick[1])
            self._quick = None

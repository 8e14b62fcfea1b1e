"""Chunked HTTP on the wire: JSON lines, one message a line; an empty line is a heartbeat (pure).

{"i": 0, "t": "Hello", "due": …, "sent": …}
{"done": true, "n": 1, "sha256": "…"}
"""

from __future__ import annotations

from servers import messages
from servers.messages import MAX_MESSAGE_BYTES, EndMessage, ProtocolError, TokenMessage, decode_token

CONTENT_TYPE = "application/x-ndjson"
HEARTBEAT: bytes = b"\n"


def encode_token(message: bytes) -> bytes:
    """The line of an encoded token message."""
    return message + b"\n"


TOKEN_FORMAT = messages.TOKEN_FORMAT + b"\n"
"""The line of a token message from its parts."""


def encode_end(message: bytes) -> bytes:
    """The line of the encoded end message."""
    return message + b"\n"


class Decoder:
    """Bytes of JSON lines in, messages out. Only LF ends a line; U+2028 and the like do not."""

    __slots__ = "_limit_bytes", "_partial_bytes", "_partial_line"

    def __init__(self, limit_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._partial_line: list[bytes] = []
        self._partial_bytes = 0

    def feed(self, data: bytes) -> list[TokenMessage | EndMessage]:
        """The messages that `data` completes. Raises ProtocolError, with the messages before the fault."""
        if not self._partial_line and data.find(b"\n") == len(data) - 1 <= self._limit_bytes:  # nearly always
            try:
                return [decode_token(data)]
            except (ValueError, RecursionError):
                pass  # what it is instead is found out below
        *lines, rest = data.split(b"\n")
        if lines and self._partial_line:
            lines[0] = b"".join((*self._partial_line, lines[0]))
            self._partial_line, self._partial_bytes = [], 0
        found: list[TokenMessage | EndMessage] = []
        try:
            for line in lines:
                if line and line != b"\r":
                    self._check_size(len(line))
                    found.append(messages.decode(line))
            if rest:
                self._hold(rest)
        except ProtocolError as error:
            error.messages = found
            raise
        return found

    def finish(self) -> int:
        """The connection has ended: how many bytes of an unfinished line are discarded.

        Even one that could be read is discarded: nobody knows what it would have been.
        """
        return self._partial_bytes

    def _hold(self, part: bytes) -> None:
        self._partial_line.append(part)
        self._partial_bytes += len(part)
        self._check_size(self._partial_bytes)

    def _check_size(self, size: int) -> None:
        if size > self._limit_bytes:
            raise ProtocolError(f"a line of more than {self._limit_bytes} bytes")

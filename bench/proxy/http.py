"""HTTP/1.1 on the byte level: where a body ends, heads rewritten, answers made up (pure).

Heads are parsed by h11. Bodies are only followed to their end, in place: h11 takes 10 CPU µs to turn a chunk into an
event, which is more than the proxy's whole way of a token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Protocol

import h11

Headers = Iterable[tuple[str, str]]

HEAD_END = re.compile(rb"\n\r?\n")
MAX_HEAD_BYTES = 65_536
PHRASES = {status.value: status.phrase for status in HTTPStatus}


class Body(Protocol):
    """Follows a message's body to its end."""

    done: bool

    def feed(self, data: bytes) -> int:
        """How many of these bytes belong to the body. Sets `done` at its end."""

    def contains(self, data: bytes) -> bool:
        """True if these bytes are of the body, not its last, and need not be fed: the quick way of a token."""


class LengthBody:
    """A body of known length."""

    def __init__(self, n_bytes: int) -> None:
        self._left_bytes = n_bytes
        self.done = n_bytes == 0

    def feed(self, data: bytes) -> int:
        taken = min(len(data), self._left_bytes)
        self._left_bytes -= taken
        self.done = self._left_bytes == 0
        return taken

    def contains(self, data: bytes) -> bool:
        return False


class CloseBody:
    """A body that ends with the connection."""

    done = False

    def feed(self, data: bytes) -> int:
        return len(data)

    def contains(self, data: bytes) -> bool:
        return True


class ChunkedBody:
    """A chunked body. Raises ValueError for a chunk size that is none.

    last_chunk_at: offset, in the bytes last fed, of the line of the zero-sized chunk (None: not among them)
    chunk_ends: offsets behind the chunks completed in the bytes last fed
    """

    def __init__(self) -> None:
        self.done = False
        self.last_chunk_at: int | None = None
        self.chunk_ends: list[int] = []
        self._left_bytes = 0  # of the chunk's data and its line end
        self._line = b""  # a size or trailer line cut off by the end of a read
        self._in_trailer = False

    def feed(self, data: bytes) -> int:
        self.last_chunk_at = None
        self.chunk_ends.clear()
        at, n = 0, len(data)
        while at < n and not self.done:
            if self._left_bytes:
                step = min(self._left_bytes, n - at)
                self._left_bytes -= step
                at += step
                if not self._left_bytes:
                    self.chunk_ends.append(at)
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._keep_partial(data[at:])
                return n
            self._take_line(self._line + data[at:end], at)
            self._line = b""
            at = end + 1
        return at

    def contains(self, data: bytes) -> bool:
        """Just one chunk, as a token in a read of its own is."""
        end = data.find(b"\r\n", 0, 10)
        if end < 0 or self._left_bytes or self._line or self._in_trailer:
            return False
        try:
            return end + int(data[:end], 16) + 4 == len(data) > end + 4
        except ValueError:
            return False

    def _keep_partial(self, data: bytes) -> None:
        self._line += data
        if len(self._line) > MAX_HEAD_BYTES:
            raise ValueError("chunk size line without an end")

    def _take_line(self, line: bytes, at: int) -> None:
        if self._in_trailer:
            self.done = line in (b"", b"\r")
            return
        size = int(line.split(b";", 1)[0], 16)
        if size:
            self._left_bytes = size + 2
        else:
            self._in_trailer = True
            self.last_chunk_at = at


def header(message: h11.Request | h11.Response, name: bytes) -> bytes:
    """A header's value in lower case, several joined by commas, b"" if there is none."""
    return b",".join(value for key, value in message.headers if key == name).lower()


def request_body(request: h11.Request) -> Body:
    """What follows a request's head. Raises ValueError for a length that is none."""
    if b"chunked" in header(request, b"transfer-encoding"):
        return ChunkedBody()
    return LengthBody(int(header(request, b"content-length") or 0))


def response_body(request: h11.Request, response: h11.Response) -> Body:
    """What follows a response's head (RFC 9112 §6.3). Raises ValueError for a length that is none."""
    if request.method == b"HEAD" or response.status_code in (204, 304):
        return LengthBody(0)
    if b"chunked" in header(response, b"transfer-encoding"):
        return ChunkedBody()
    length = header(response, b"content-length")
    return LengthBody(int(length)) if length else CloseBody()


def parse_request(head: bytes) -> h11.Request:
    """Parse a request's head. Raises h11.RemoteProtocolError if it is none."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    event = connection.next_event()
    if not isinstance(event, h11.Request):
        raise h11.RemoteProtocolError("not a request")
    return event


# h11 reads a response in the light of its request; with an upgrade in it a 101 is fine, and all others are as well.
_ASK = h11.Request(
    method="GET", target="/", headers=[("Host", "proxy"), ("Connection", "upgrade"), ("Upgrade", "websocket")]
)


def parse_response(head: bytes) -> h11.Response | h11.InformationalResponse:
    """Parse a response's head. Raises h11.RemoteProtocolError if it is none."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(_ASK)
    connection.receive_data(head)
    event = connection.next_event()
    if not isinstance(event, h11.Response | h11.InformationalResponse):
        raise h11.RemoteProtocolError("not a response")
    return event


def without_headers(head: bytes, *names: bytes) -> bytes:
    """The head without these headers (names in lower case)."""
    first, *lines = head.split(b"\n")
    kept = [line for line in lines if line.split(b":", 1)[0].strip().lower() not in names]
    return b"\n".join([first, *kept])


def with_header(head: bytes, line: bytes) -> bytes:
    """The head with one more header line."""
    first, rest = head.split(b"\n", 1)
    return first + b"\n" + line + b"\r\n" + rest


def plain_response(status: int, body: str = "", headers: Headers = ()) -> bytes:
    """A whole response in plain text that closes the connection, as intermediaries send when they give up."""
    phrase = PHRASES.get(status, "Error")
    content = (body or f"{status} {phrase}\n").encode()
    lines = [
        f"HTTP/1.1 {status} {phrase}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(content)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content

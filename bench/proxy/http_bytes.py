"""HTTP/1.1 on the byte level: heads parsed, bodies followed to their ends, heads rewritten, answers made up (pure).

Heads are parsed by h11, but for Transfer-Encoding, of which it takes no other than "chunked". Bodies are only followed,
in place: h11 takes 10 CPU µs to turn a chunk into an event, which is more than the proxy's whole way of a token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Protocol

import h11
import msgspec

Headers = Iterable[tuple[str, str]]

HEAD_END = re.compile(rb"\n\r?\n")
MAX_HEAD_BYTES = 65_536
MAX_CHUNK_LINE_BYTES = 8_192
"""A chunk's size with its extensions, or a trailer; RFC 9112 §7.1.1 asks for a limit and gives none."""
PHRASES = {status.value: status.phrase for status in HTTPStatus}

_FIELD = re.compile(rb"[^\n]*\n(?:[ \t][^\n]*\n)*")  # a line, with those that it is folded over (RFC 9112 §5.2)
_OTHER_CODING = re.compile(rb"(?i)\ntransfer-encoding(?!: chunked\r?\n)")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r")  # RFC 9112 §7.1, without its line feed
_METHOD = rb"[A-Z][!#$%&'*+.^_`|~0-9A-Za-z-]{0,31}"  # a token (RFC 9110 §5.6.2) that begins with a capital, as all do
_REQUEST_LINE = re.compile(_METHOD + rb" [^ \r\n]+ HTTP/1\.[0-9]\r?\n")
_REQUEST_START = re.compile(_METHOD + rb"(?: [^\r\n]*\r?)?\Z")


class MalformedError(ValueError):
    """Bytes that are not HTTP/1.1. The message says in words what is wrong, and never quotes the bytes."""


class RequestHead(msgspec.Struct, frozen=True, kw_only=True):
    """A request's head: header names in lower case, HTTP version as `b"1.1"`."""

    method: bytes
    headers: list[tuple[bytes, bytes]]
    http_version: bytes = b"1.1"
    target: bytes = b"/"


class ResponseHead(msgspec.Struct, frozen=True, kw_only=True):
    """A response's head: header names in lower case."""

    status_code: int
    headers: list[tuple[bytes, bytes]]


class Body(Protocol):
    """Follows a message's body to its end.

    spans: offsets, in the bytes last fed, of the content between the framing
    """

    done: bool
    spans: list[tuple[int, int]]

    def feed(self, data: bytes) -> int:
        """How many of these bytes belong to the body, at least one. Sets `done` at its end. Raises MalformedError."""

    def contains(self, data: bytes) -> bool:
        """True if these bytes are of the body, not its last, and need not be fed: the quick way of a token."""


class LengthBody:
    """A body of known length."""

    def __init__(self, n_bytes: int) -> None:
        self._left_bytes = n_bytes
        self.done = n_bytes == 0
        self.spans: list[tuple[int, int]] = []

    def feed(self, data: bytes) -> int:
        taken = min(len(data), self._left_bytes)
        self._left_bytes -= taken
        self.done = self._left_bytes == 0
        self.spans = [(0, taken)]
        return taken

    def contains(self, data: bytes) -> bool:
        return False


class CloseBody:
    """A body that ends with the connection."""

    done = False

    def __init__(self) -> None:
        self.spans: list[tuple[int, int]] = []

    def feed(self, data: bytes) -> int:
        self.spans = [(0, len(data))]
        return len(data)

    def contains(self, data: bytes) -> bool:
        return True


class ChunkedBody:
    """A chunked body (RFC 9112 §7.1).

    last_chunk_at: offset, in the bytes last fed, of the zero-sized chunk (None: not among them; negative: its line
        began in bytes fed before)
    chunk_ends: offsets behind the chunks completed in the bytes last fed
    left_bytes: of the chunk under way, its line end counted
    line: what has come of a size or trailer line
    """

    def __init__(self) -> None:
        self.done = False
        self.spans: list[tuple[int, int]] = []
        self.last_chunk_at: int | None = None
        self.chunk_ends: list[int] = []
        self.left_bytes = 0
        self.line = b""
        self._in_trailer = False
        self._is_between = True  # two chunks

    def feed(self, data: bytes) -> int:
        """Stops before what is malformed, and raises MalformedError if that comes first."""
        self.last_chunk_at = None
        self.chunk_ends.clear()
        self.spans.clear()
        at = 0
        while at < len(data) and not self.done:
            try:
                at = self._take_chunk(data, at) if self.left_bytes else self._take_line(data, at)
            except MalformedError:
                if at == 0:
                    raise
                break
        self._is_between = not (self.left_bytes or self.line or self._in_trailer)
        return at

    def contains(self, data: bytes) -> bool:
        """Just one chunk as most servers write it, as a token in a read of its own is."""
        n_bytes = len(data)
        return (
            self._is_between
            and n_bytes < len(_CHUNK_STARTS)
            and data.startswith(_CHUNK_STARTS[n_bytes])
            and data.endswith(b"\r\n")
        )

    def _take_chunk(self, data: bytes, at: int) -> int:
        """Take data of a chunk, or a byte of its line end. Returns where it stopped, behind `at`."""
        if self.left_bytes > 2:
            end = min(at + self.left_bytes - 2, len(data))
            self.spans.append((at, end))
        else:
            end = at + 1
            if data[at:end] != b"\r\n"[-self.left_bytes :][:1]:
                raise MalformedError("a chunk longer than its size")
        self.left_bytes -= end - at
        if not self.left_bytes:
            self.chunk_ends.append(end)
        return end

    def _take_line(self, data: bytes, at: int) -> int:
        """Take a size or trailer line, or the part of it that is there. Returns where it stopped, behind `at`."""
        end = data.find(b"\n", at)
        line = self.line + data[at : end if end >= 0 else None]
        if len(line) > MAX_CHUNK_LINE_BYTES:
            raise MalformedError("a chunk's line without an end")
        if end < 0:
            self.line = line
            return len(data)
        begun_at = at - len(self.line)
        if self._in_trailer:
            self.done = line in (b"", b"\r")
        else:
            self._begin_chunk(chunk_size(line), begun_at)
        self.line = b""
        return end + 1

    def _begin_chunk(self, size: int, at: int) -> None:
        if size < 0:
            raise MalformedError("a chunk size that is none")
        if size:
            self.left_bytes = size + 2
        else:
            self._in_trailer = True
            self.last_chunk_at = at


def _chunk_starts() -> list[bytes]:
    """How a chunk of so many bytes, framing counted, begins; what no chunk begins with where there is none such."""
    starts = [b"\0"] * (MAX_QUICK_CHUNK_BYTES + 8)
    for size in range(1, MAX_QUICK_CHUNK_BYTES + 1):
        line = b"%x\r\n" % size
        starts[len(line) + size + 2] = line
    return starts


MAX_QUICK_CHUNK_BYTES = 0xFFF
_CHUNK_STARTS = _chunk_starts()


def chunk_size(line: bytes) -> int:
    r"""The size in a chunk's first line (without its line feed), -1 if it says none.

    >>> [chunk_size(line) for line in (b"1a\r", b"1A ;a=b\r", b"0x1a\r", b"-1\r", b"+1\r", b"1_0\r", b"1")]
    [26, 26, -1, -1, -1, -1, -1]
    """
    found = _CHUNK_LINE.fullmatch(line)
    return int(found[1], 16) if found else -1


def header(message: RequestHead | ResponseHead, name: bytes) -> bytes:
    """A header's value in lower case, several joined by commas, b"" if there is none."""
    return b",".join(value for key, value in message.headers if key == name).lower()


def content_type(message: RequestHead | ResponseHead) -> bytes:
    """The type of what it carries, in lower case and without parameters; b"" if it does not say."""
    return header(message, b"content-type").partition(b";")[0].strip()


def is_chunked(message: RequestHead | ResponseHead) -> bool:
    """Whether the message's body comes in chunks, whatever else it is encoded with."""
    return header(message, b"transfer-encoding").rpartition(b",")[2].strip() == b"chunked"


def request_body(request: RequestHead) -> Body:
    """What follows a request's head (RFC 9112 §6.3). Raises MalformedError where nothing says where it ends."""
    if is_chunked(request):
        return ChunkedBody()
    if header(request, b"transfer-encoding"):
        raise MalformedError("a request body without an end")
    return LengthBody(int(header(request, b"content-length") or 0))


def response_body(request: RequestHead, response: ResponseHead) -> Body:
    """What follows the head of a response that is no interim one (RFC 9112 §6.3)."""
    if request.method == b"HEAD" or response.status_code in (204, 304):
        return LengthBody(0)
    if is_chunked(response):
        return ChunkedBody()
    length = b"" if header(response, b"transfer-encoding") else header(response, b"content-length")
    return LengthBody(int(length)) if length else CloseBody()


def may_be_request(data: bytes) -> bool:
    """Whether these first bytes are, or may become, a request: what is no HTTP is not to be held for long."""
    return bool(_REQUEST_LINE.match(data) or _REQUEST_START.match(data))


def may_be_response(data: bytes) -> bool:
    """Whether these first bytes are, or may become, a response."""
    return data.startswith(b"HTTP/1.") or b"HTTP/1.".startswith(data[:7])


def whole_head(data: bytes, searched: int) -> bytes | None:
    """The head that these bytes begin with, None if it is not whole. Raises MalformedError if it is too long.

    searched: how many of the bytes were looked at before
    """
    found = HEAD_END.search(data, max(0, searched - 3))
    if (found.end() if found else len(data)) > MAX_HEAD_BYTES:
        raise MalformedError("a head above 64 KiB")
    return data[: found.end()] if found else None


def parse_request(head: bytes) -> RequestHead:
    """Parse a request's head. Raises MalformedError if it is none."""
    event, coding = _parse(h11.Connection(h11.SERVER), head)
    if not isinstance(event, h11.Request):
        raise MalformedError("a malformed request head")
    return RequestHead(
        method=event.method,
        headers=[*event.headers, *coding],
        http_version=event.http_version,
        target=event.target,
    )


# h11 reads a response in the light of its request; with an upgrade in it a 101 is fine, and all others are as well.
_ASK = h11.Request(
    method="GET", target="/", headers=[("Host", "proxy"), ("Connection", "upgrade"), ("Upgrade", "websocket")]
)


def parse_response(head: bytes) -> ResponseHead:
    """Parse a response's head, an interim one's too. Raises MalformedError if it is none."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(_ASK)
    event, coding = _parse(connection, head)
    if not isinstance(event, h11.Response | h11.InformationalResponse):
        raise MalformedError("a malformed response head")
    return ResponseHead(status_code=event.status_code, headers=[*event.headers, *coding])


def _parse(connection: h11.Connection, head: bytes) -> tuple[object, list[tuple[bytes, bytes]]]:
    """What h11 makes of a head, and the header that it is not shown where it would not take it."""
    fields = []
    if _OTHER_CODING.search(head):
        fields = [field for field in _FIELD.findall(head) if _name(field) == b"transfer-encoding"]
    coding = [(b"transfer-encoding", b" ".join(field.split(b":", 1)[1].split())) for field in fields]
    connection.receive_data(without_headers(head, b"transfer-encoding") if fields else head)
    try:
        return connection.next_event(), coding
    except h11.RemoteProtocolError:
        return None, coding


def without_headers(head: bytes, *names: bytes) -> bytes:
    """The head without these headers (names in lower case)."""
    first, *fields = _FIELD.findall(head)
    return b"".join([first, *(field for field in fields if _name(field) not in names)])


def _name(field: bytes) -> bytes:
    return field.partition(b":")[0].lower()


def with_header(head: bytes, line: bytes) -> bytes:
    """The head with one more header line."""
    first, rest = head.split(b"\n", 1)
    return first + b"\n" + line + b"\r\n" + rest


def closing(head: bytes) -> bytes:
    """The head of a response that is its connection's last."""
    return with_header(without_headers(head, b"connection", b"keep-alive"), b"Connection: close")


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

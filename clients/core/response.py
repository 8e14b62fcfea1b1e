"""What every version of HTTP has of a response: status, fields, and a body that may be packed (pure)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from clients.core.errors import ClientFailure, NotTheFormat
from servers.codings import CODINGS, GZIP_MAGIC, unpacker

MAX_BODY_BYTES = 256 << 20  # of a page or a whole answer: far above what the largest stream takes
_PIECE_BYTES = 1 << 20  # of what is unpacked at a time
# What a window of a packed body may unpack to. Windows are counted from its beginning, so that it does not matter how
# the bytes were split; and a read has few of them, for nobody else has a turn until it is worked on.
_WINDOW_BYTES = 65_536
_MAX_OF_WINDOW_BYTES = 8 << 20
_UNPACKED = frozenset({"", "identity"})


class Response:
    """One response while it comes. `failure` says what is wrong with it, or that it ended too early."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}  # names in lower case; fields of one name are joined (RFC 9110 §5.3)
        self.has_begun = self.has_head = self.is_complete = False
        self.failure: ClientFailure | None = None
        self.surplus = b""  # what followed the head of a 101: the bytes of the other protocol
        self._body: list[bytes] = []
        self._unpack: Unpacker | None = None

    def add_field(self, name: bytes, value: bytes) -> None:
        """One field of the head."""
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def complete_head(self, status: int) -> None:
        """The head is complete: all its fields are there."""
        self.status, self.has_head = status, True
        coding = self.headers.get("content-encoding", "").strip().lower()
        if coding not in _UNPACKED:
            self._unpack = Unpacker(coding)

    def take(self) -> bytes:
        """The body's bytes that have come since the last time, unpacked. Raises NotTheFormat."""
        data = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        return data if self._unpack is None else self._unpack(data)

    def read(self, data: bytes) -> bytes:
        """What `take` brings when the connection's next bytes have come, if it is this response's alone."""
        return self.take()

    @property
    def content_type(self) -> str:
        """The media type without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class Unpacker:
    """A body's Content-Encoding undone piece by piece. One that unpacks to far more than anybody sends is refused:

    to more than MAX_BODY_BYTES, or one of its windows to more than _MAX_OF_WINDOW_BYTES.

    A gzip file may be several behind each other (RFC 1952 §2.2, "members"), which are one body. What else follows is
    passed over, as gzip does.
    """

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._stream: Any = None  # a zlib.decompressobj, when the first byte is there
        self._left_bytes = MAX_BODY_BYTES
        self._window_bytes = self._left_of_window_bytes = 0  # packed that are to come, and unpacked that may
        self._begun = b""  # a first byte that may be another member's
        self._is_over = False

    def __call__(self, data: bytes) -> bytes:
        if self._coding not in CODINGS:
            raise NotTheFormat(f"Content-Encoding {self._coding[:40]}")
        parts: list[bytes] = []
        try:
            for piece in self._windows(data):
                for part in self._unpacked(piece):
                    parts.append(part)
                    self._left_bytes -= len(part)
                    self._left_of_window_bytes -= len(part)
                    if min(self._left_bytes, self._left_of_window_bytes) < 0:
                        raise NotTheFormat(f"Content-Encoding {self._coding}: unpacks to more than any answer has")
        except zlib.error as error:
            raise NotTheFormat(f"Content-Encoding {self._coding}: {error}") from None
        return b"".join(parts)

    def _windows(self, data: bytes) -> Iterator[bytes]:
        """`data`, cut where a window of the body ends."""
        while data:
            if not self._window_bytes:
                self._window_bytes, self._left_of_window_bytes = _WINDOW_BYTES, _MAX_OF_WINDOW_BYTES
            piece, data = data[: self._window_bytes], data[self._window_bytes :]
            self._window_bytes -= len(piece)
            yield piece

    def _takes(self, data: bytes) -> bool:
        """Whether `data` belong to what is being unpacked, or begin it, or begin another member."""
        if self._stream is None:
            self._stream = unpacker(self._coding, data[0])
        elif self._stream.eof and not self._is_over:  # zlib would keep all that follows
            if data == GZIP_MAGIC[:1]:
                self._begun = data
            elif data.startswith(GZIP_MAGIC) and self._coding != "deflate":
                self._stream = unpacker(self._coding, data[0])
            else:
                self._is_over = True
        return not self._stream.eof

    def _unpacked(self, data: bytes) -> Iterator[bytes]:
        """What `data` bring, in pieces of which each is bounded."""
        data, self._begun = self._begun + data, b""
        while data and self._takes(data):
            yield self._stream.decompress(data, _PIECE_BYTES)
            while tail := self._stream.unconsumed_tail:
                yield self._stream.decompress(tail, _PIECE_BYTES)
            data = self._stream.unused_data

"""A request's body, unpacked within bounds (pure)."""

from __future__ import annotations

import zlib

from servers.chat import RequestError
from servers.service import MAX_BODY_BYTES

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS  # zlib finds out by the header which of the two it is


def unpacked(body: bytes, encoding: str) -> bytes:
    """`body` without its Content-Encoding, which may be gzip or deflate, and never more than a body may have.

    Raises RequestError: 413 where more would come out, 400 for what is not packed so, 415 for another encoding.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise RequestError(415, "unsupported_encoding", "Content-Encoding: takes gzip or deflate")
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        content = unpacker.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error:
        raise RequestError(400, "bad_body", f"the body is not {encoding}, as its Content-Encoding says") from None
    if len(content) > MAX_BODY_BYTES:
        raise too_large()
    if not unpacker.eof or unpacker.unused_data:
        raise RequestError(400, "bad_body", f"the body is not one whole piece of {encoding}")
    return content


def too_large() -> RequestError:
    """The error for a body over the limit, packed or unpacked."""
    return RequestError(413, "too_large", f"a body may have {MAX_BODY_BYTES} bytes")

"""A request's body, unpacked within bounds (pure)."""

from __future__ import annotations

import zlib

from servers.chat import RequestError
from servers.codings import CODINGS, unpacker
from servers.service import MAX_REQUEST_BYTES


def unpacked(body: bytes, encoding: str) -> bytes:
    """`body` without its Content-Encoding, which may be gzip or deflate, and never more than a body may have.

    Raises RequestError: 413 where more would come out, 400 for what is not packed so, 415 for another encoding.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in CODINGS:
        raise RequestError(415, "unsupported_encoding", "Content-Encoding: takes gzip or deflate")
    unpack = unpacker(encoding, body[0] if body else 0)
    try:
        content: bytes = unpack.decompress(body, MAX_REQUEST_BYTES + 1)
    except zlib.error:
        raise RequestError(400, "bad_body", f"the body is not {encoding}, as its Content-Encoding says") from None
    if len(content) > MAX_REQUEST_BYTES:
        raise too_large()
    if not unpack.eof or unpack.unused_data:
        raise RequestError(400, "bad_body", f"the body is not one whole piece of {encoding}")
    return content


def too_large() -> RequestError:
    """The error for a body over the limit, packed or unpacked."""
    return RequestError(413, "too_large", f"a body may have {MAX_REQUEST_BYTES} bytes")

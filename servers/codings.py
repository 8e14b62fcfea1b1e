"""The content codings that servers and clients unpack (RFC 9110 §8.4.1; pure)."""

from __future__ import annotations

import zlib
from typing import Any

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS  # zlib finds out by the header which of the two it is
GZIP_MAGIC = b"\x1f\x8b"
"""How each member of a gzip file begins (RFC 1952 §2.3.1)."""
_ZLIB_METHOD = 8  # the low half of a zlib header's first byte (RFC 1950 §2.2)

CODINGS = frozenset({"gzip", "x-gzip", "deflate"})


def unpacker(coding: str, first: int) -> Any:
    """What undoes one of CODINGS, a `zlib.decompressobj`, for data that begin with the byte `first`.

    Some programs send "deflate" without the zlib wrapper (RFC 9110 §8.4.1.2). Such data do not begin as the wrapper
    does: that would be a stored block behind padding that is not zero.
    """
    bare = coding == "deflate" and first & 0x0F != _ZLIB_METHOD
    return zlib.decompressobj(-zlib.MAX_WBITS if bare else _GZIP_OR_ZLIB)

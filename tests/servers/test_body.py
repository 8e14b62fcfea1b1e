"""Bodies that come packed: unpacked within bounds, or refused."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from servers.body import unpacked
from servers.chat import RequestError
from servers.service import MAX_REQUEST_BYTES


@pytest.mark.parametrize("size", [0, 1, 1000, MAX_REQUEST_BYTES])
def test_what_is_within_bounds_comes_out_whole(size: int) -> None:
    body = b"a" * size
    assert unpacked(body, "") == unpacked(body, "identity") == body
    assert unpacked(gzip.compress(body, mtime=0), " GZIP ") == unpacked(gzip.compress(body), "x-gzip") == body
    assert unpacked(zlib.compress(body), "deflate") == unpacked(zlib.compress(body, wbits=-15), "deflate") == body


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(b"a" * (MAX_REQUEST_BYTES + 1), mtime=0), "gzip", 413),
        (b"{}", "gzip", 400),
        (b"", "gzip", 400),
        (gzip.compress(b"{}", mtime=0)[:-1], "gzip", 400),
        (gzip.compress(b"{}", mtime=0) * 2, "gzip", 400),
        (b"{}", "br", 415),
        (b"{}", "gzip, gzip", 415),
    ],
)
def test_what_is_not_is_refused(body: bytes, encoding: str, status: int) -> None:
    with pytest.raises(RequestError) as refused:
        unpacked(body, encoding)
    assert refused.value.status == status


def test_a_small_body_that_unpacks_to_much_never_does() -> None:
    bomb = gzip.compress(b"a" * (64 * MAX_REQUEST_BYTES), mtime=0)
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match="413"):
            unpacked(bomb, "gzip")
        assert tracemalloc.get_traced_memory()[1] < 8 * MAX_REQUEST_BYTES
    finally:
        tracemalloc.stop()

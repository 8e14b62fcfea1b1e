"""A file that somebody names is read within bounds, and takes no more memory than there is in it."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from servers.given_file import read_given
from servers.user_errors import InputError


def test_a_small_file_takes_little_memory_whatever_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.write_bytes(b"x" * 1000)
    tracemalloc.start()
    try:
        assert len(read_given(path, 256 << 20)) == 1000
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_the_limit_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"x" * ((3 << 20) + 1))
    assert len(read_given(path, (3 << 20) + 1)) == (3 << 20) + 1
    with pytest.raises(InputError, match="larger than 3 MiB"):
        read_given(path, 3 << 20)

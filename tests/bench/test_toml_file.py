"""Plans and profiles as files: what an editor leaves in front, and what is no such file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.plan import read_plan
from bench.proxy.profile import load_profile
from servers.user_errors import InputError

BOM = b"\xef\xbb\xbf"
PLAN = b'[[cells]]\ntransport = "sse"\n'
PROFILE = b'[[behaviour]]\ntype = "noop"\n'
read_both = pytest.mark.parametrize(
    ("read", "text"), [(read_plan, PLAN), (load_profile, PROFILE)], ids=["plan", "profile"]
)
Read = Callable[[str], Any]


@read_both
def test_a_byte_order_mark_is_no_text(tmp_path: Path, read: Read, text: bytes) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(text)
    without = read(str(path))
    path.write_bytes(BOM + text)
    assert read(str(path)) == without


@pytest.mark.parametrize(
    ("spoilt", "why"),
    [
        (b"blocks = = 3", r"mine\.toml: not TOML: .*line 1"),
        (b"title = '\xe9'", r"mine\.toml: not TOML: .*utf-8"),
        (b"a = " + b"[" * 5000, r"mine\.toml: nested too deeply$"),
        (b"a = " + b"9" * 5000, r"mine\.toml: a number in it has over 4,000 digits$"),
        (b"#" * (1 << 20), r"mine\.toml: larger than 1 MiB$"),
    ],
    ids=["no TOML", "no UTF-8", "deep", "digits", "large"],
)
@read_both
def test_what_is_wrong_with_it_is_said(tmp_path: Path, read: Read, text: bytes, spoilt: bytes, why: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(spoilt + b"\n" + text)
    with pytest.raises(InputError, match=why):
        read(str(path))


@read_both
def test_a_pipe_and_a_folder_are_no_files(tmp_path: Path, read: Read, text: bytes) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    for name in ("pipe.toml", "folder.toml", "nul\0.toml"):
        with pytest.raises(InputError, match="takes a file"):
            read(str(tmp_path / name))

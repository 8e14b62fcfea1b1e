"""Files written whole or not at all: who reads one, be it after a crash, finds the old content or the new one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write, beside `path`, whose place it takes when the block ends; after an error nothing has changed.

    A symbolic link at `path` is replaced, not followed. Raises OSError, and what the block raises.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)  # a killed process had our number, as every first one of a container has
        yield fresh
        if not fresh.is_symlink():
            _to_disk(fresh)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Without it, a machine that crashes may keep the new name and lose the content."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves either the old content or the new one. Raises OSError."""
    with replacing(path) as fresh:
        fresh.write_bytes(data)


def remove_unfinished(folder: Path, name: str) -> None:
    """Remove what killed processes have left of files whose names match `name`, a pattern. Raises OSError."""
    for path in folder.glob(".*"):
        if re.fullmatch(rf"\.({name})\.\d+", path.name):
            path.unlink(missing_ok=True)

"""A temporary folder that belongs to a process: locked for as long as that lives, however it ends.

What a killed process has left is removed when the next one makes a folder of the same kind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

YOUNG_S = 1.0  # so young, its process may not hold the lock yet


@contextlib.contextmanager
def own_folder(prefix: str, bury: Callable[[Path], object] = lambda _: None) -> Iterator[Path]:
    """A folder whose name begins with `prefix`; `bury` is called with each that was left, before it is removed."""
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError, ValueError):
            _remove_if_left(left, bury)
    made = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
    with made as folder, _locked(Path(folder)):
        yield Path(folder)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with this process however that ends. Raises BlockingIOError if it is held."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove_if_left(folder: Path, bury: Callable[[Path], object]) -> None:
    born = folder.lstat()
    if born.st_uid != os.getuid() or abs(time.time() - born.st_ctime) < YOUNG_S:
        return  # another's, or too young; one of the future is old: the clock was set back
    with _locked(folder):
        bury(folder)
        shutil.rmtree(folder)

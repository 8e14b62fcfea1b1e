"""Files that people name: read whole, within bounds, and no pipe, which would never end."""

from __future__ import annotations

from pathlib import Path

from servers.user_errors import InputError

_PIECE_BYTES = 1 << 20


def read_given(path: Path, most_bytes: int, error: type[InputError] = InputError, name: str = "") -> bytes:
    """The bytes of a file, at most `most_bytes`; `name`: as errors call it. Raises `error`, OSError."""
    name = name or str(path)
    check_is_file(path, name, error)
    data = bytearray()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):  # at once, a small file would take the memory of the largest
            data += piece
            if len(data) > most_bytes:
                raise error(f"{name}: larger than {most_bytes >> 20} MiB")
    return bytes(data)


def check_is_file(path: Path, name: str, error: type[InputError] = InputError) -> None:
    """Raise `error` where something else than a file is. Nothing at all is no error here. Raises OSError."""
    if "\0" in str(path) or (path.exists() and not path.is_file()):
        raise error(f"{name}: takes a file")

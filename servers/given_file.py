"""Files that people name: read whole, within bounds, and each mistake said in a line that names the file."""

from __future__ import annotations

from pathlib import Path

from servers.checks import shown
from servers.user_errors import InputError

_LONG_NAME = 160  # characters; of a longer one an error repeats the beginning


def read_given(path: Path, most_bytes: int, error: type[InputError] = InputError, what: str = "") -> bytes:
    """The bytes of a file, which is a `what`, at most `most_bytes`. Raises `error`."""
    name = str(path) if len(str(path)) <= _LONG_NAME else shown(str(path))
    name = f"{what} {name}" if what else name
    try:
        check_is_file(path, name, error)
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as wrong:
        raise error(f"{name}: {wrong.strerror}") from None
    if len(data) > most_bytes:
        raise error(f"{name}: larger than {most_bytes >> 20} MiB")
    return data


def check_is_file(path: Path, name: str, error: type[InputError] = InputError) -> None:
    """Raise `error` where something else than a file is: a pipe would never end. Nothing at all is no error here."""
    if "\0" in str(path) or (path.exists() and not path.is_file()):
        raise error(f"{name}: takes a file")

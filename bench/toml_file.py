"""TOML files that people write: read within bounds, and each mistake said in a line that names the file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from servers.checks import shown
from servers.given_file import read_given
from servers.user_errors import InputError, reason

MAX_BYTES = 1 << 20


def read_toml(path: Path, what: str, error: type[InputError]) -> dict[str, Any]:
    """The tables of a file, which is a `what`; a byte-order mark in front is no text. Raises `error`."""
    try:
        return tomllib.loads(read_given(path, MAX_BYTES, error, f"{what} {path}").decode("utf-8-sig"))
    except OSError as wrong:
        raise error(f"{what} {shown(str(path))}: {reason(wrong)}") from None
    except RecursionError:
        raise error(f"{what} {path}: nested too deeply") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as wrong:
        raise error(f"{what} {path}: not TOML: {wrong}") from None
    except InputError:
        raise
    except ValueError:  # Python reads no longer ones
        raise error(f"{what} {path}: a number in it has over 4,000 digits") from None

"""Standard output that may be lost: a full disk behind it, or a reader such as `head` that has gone."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from servers.user_errors import OutputLost


def write_any_text() -> None:
    """Show a question mark for what the terminal's encoding does not have, instead of failing at it."""
    with suppress(AttributeError, OSError, ValueError):  # replaced by something that is no file
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]


def flush_output() -> OutputLost | None:
    """Write out what is left, so that the interpreter does not fail at it when it ends."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        with suppress(OSError, ValueError):  # without a file behind it there is nothing to redirect
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OutputLost(error)
    return None

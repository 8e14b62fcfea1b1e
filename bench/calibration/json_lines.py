"""Long lines of JSON for whoever started this process."""

from __future__ import annotations

import json
from collections.abc import Mapping


def print_line(fields: Mapping[str, object]) -> None:
    """Print a line, all of it.

    Where output is unbuffered (PYTHONUNBUFFERED, as in many containers) `print` loses what the system did not take at
    once, when a signal comes while it waits.
    """
    with open(1, "wb", closefd=False) as output:
        output.write(json.dumps(fields).encode() + b"\n")

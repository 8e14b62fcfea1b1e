"""The line that a process says once it serves: whoever has started it reads there where."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TextIO

from servers.user_errors import OutputLost


def say_ready(line: Mapping[str, object], to: TextIO | None = None) -> None:
    """Print it as JSON, to standard output if nothing else is given.

    Raises OutputLost: an OSError would be taken for one of the address that is served.
    """
    try:
        print(json.dumps(line), file=to, flush=True)
    except OSError as error:
        raise OutputLost(error) from error

"""Rich's console as our commands use it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import rich.console
from rich.segment import Segment

from servers.foreign_text import printable
from servers.user_errors import OutputLost


class Console(rich.console.Console):
    """A console without markup, since names of files and cells may have brackets; a lost output is OutputLost.

    What it shows is printable (servers.foreign_text).
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, or raise OutputLost; after that nothing more is tried."""
        try:
            super().print(*objects, **options)
        except OSError as error:
            self.quiet = True
            raise OutputLost(error) from error

    def render(self, *given: Any, **options: Any) -> Iterator[Segment]:
        """What is to be shown, without characters that would steer the terminal; Rich's own are added later."""
        for segment in super().render(*given, **options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))

    def on_broken_pipe(self) -> None:
        """Leave it to `print`, instead of ending the process with cells half measured."""
        raise  # noqa: PLE0704 - called while Rich handles the BrokenPipeError

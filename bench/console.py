"""Rich's console as our commands use it."""

from __future__ import annotations

from typing import Any

import rich.console

from bench.output import OutputLost


class Console(rich.console.Console):
    """A console without markup, since names of files and cells may have brackets; a lost output is OutputLost."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, or raise OutputLost; after that nothing more is tried."""
        try:
            super().print(*objects, **options)
        except OSError as error:
            self.quiet = True
            raise OutputLost(error) from error

    def on_broken_pipe(self) -> None:
        """Leave it to `print`, instead of ending the process with cells half measured."""
        raise  # noqa: PLE0704 - called while Rich handles the BrokenPipeError

"""What the user sees while a run goes on: a bar on a terminal, a line per finished cell elsewhere."""

from __future__ import annotations

import time
from typing import Protocol

from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from bench.console import Console
from bench.run_record import CellRecord

_COLOURS = {"ok": "green", "void": "yellow", "failed": "red"}


class Display(Protocol):
    """What the runner tells: which cell begins, how far it is, how it ended."""

    def begin(self, record: CellRecord) -> None:
        """A cell begins."""

    def advance(self, done: int, of: int) -> None:
        """So many of the cell's messages are complete."""

    def end(self, record: CellRecord, *, again: bool = False) -> None:
        """A cell ended; its status and reasons are known. A void one may run `again` at the end of its block."""

    def close(self) -> None:
        """The run is over."""


class Remaining:
    """Predicts how long the cells to come will take: as long as the same cells took, or the mean of all.

    `parallel` cells run at once.
    """

    def __init__(self, todo: list[CellRecord], parallel: int = 1) -> None:
        self._parallel = parallel
        self._todo = [record.cell for record in todo]
        self._seconds: dict[str, list[float]] = {}

    def note(self, record: CellRecord, *, again: bool = False) -> None:
        """A cell ended after `record.seconds`, and is still to be done if it has to run `again`."""
        if not again:
            self._todo.remove(record.cell)
        self._seconds.setdefault(record.cell, []).append(record.seconds)

    def seconds(self) -> float | None:
        """Seconds left, None before the first cell ended."""
        known = {cell: sum(times) / len(times) for cell, times in self._seconds.items()}
        if not known:
            return None
        mean = sum(known.values()) / len(known)
        return sum(known.get(cell, mean) for cell in self._todo) / self._parallel


def clock_text(seconds: float | None) -> str:
    """Seconds as "2:05", or "-:--" if unknown."""
    return "-:--" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def ending_text(record: CellRecord, *, again: bool = False) -> str:
    """One line on a finished cell, e.g. "block 2  sse copy=aa: ok, 80 messages, 3.4 s"."""
    if again:
        return f"block {record.block}  {record.cell}: again at the end of its block: void because {_reasons(record)}"
    failed = f", {record.failed_messages} of them failed" if record.failed_messages else ""
    reasons = f" ({_reasons(record)})" if record.reasons else ""
    return (
        f"block {record.block}  {record.cell}: {record.status}{reasons}, "
        f"{record.messages} messages{failed}, {record.seconds:.1f} s"
    )


def _reasons(record: CellRecord) -> str:
    return "; ".join(record.reasons)


class PlainDisplay:
    """A line per finished cell, for logs and pipes."""

    def __init__(self, console: Console, todo: list[CellRecord], parallel: int = 1) -> None:
        self._console = console
        self._remaining = Remaining(todo, parallel)
        self._done, self._total = 0, len(todo)

    def begin(self, record: CellRecord) -> None:
        """Nothing to print yet."""

    def advance(self, done: int, of: int) -> None:
        """Nothing to print yet."""

    def end(self, record: CellRecord, *, again: bool = False) -> None:
        """Print how the cell went and how long the rest will take."""
        self._remaining.note(record, again=again)
        self._done += not again
        left = clock_text(self._remaining.seconds())
        line = f"[{self._done}/{self._total}] {ending_text(record, again=again)}, {left} left"
        self._console.print(line, soft_wrap=True)

    def close(self) -> None:
        """Nothing is left open."""


class BarDisplay:
    """A bar over all cells, with what runs now and the time left; cells that are not ok get a line of their own."""

    def __init__(self, console: Console, todo: list[CellRecord], parallel: int = 1) -> None:
        self._remaining = Remaining(todo, parallel)
        self._begun = time.monotonic()
        self._record: CellRecord | None = None
        self._progress = Progress(
            TextColumn("{task.completed:.0f}/{task.total} cells"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[left]} left"),
            TextColumn("{task.description}", markup=False),
            console=console,
            refresh_per_second=4,  # it takes CPU from what is measured
            transient=True,
        )
        self._task: TaskID = self._progress.add_task("starting", total=len(todo), left=clock_text(None))
        self._progress.start()

    def begin(self, record: CellRecord) -> None:
        """Show what runs now."""
        self._record, self._begun = record, time.monotonic()
        self._progress.update(self._task, description=f"block {record.block}  {record.cell}")

    def advance(self, done: int, of: int) -> None:
        """Show how many messages are complete."""
        assert self._record is not None
        text = f"block {self._record.block}  {self._record.cell}  {done}/{of} messages"
        self._progress.update(self._task, description=text, left=self._left())

    def _left(self) -> str:
        seconds = self._remaining.seconds()
        return clock_text(None if seconds is None else max(0.0, seconds - (time.monotonic() - self._begun)))

    def end(self, record: CellRecord, *, again: bool = False) -> None:
        """Move the bar on."""
        self._remaining.note(record, again=again)
        self._begun = time.monotonic()
        self._progress.update(self._task, advance=int(not again), left=self._left())
        if record.status != "ok":
            self._progress.console.print(Text(ending_text(record, again=again), style=_COLOURS[record.status]))

    def close(self) -> None:
        """Remove the bar."""
        self._progress.stop()


def display(console: Console, todo: list[CellRecord], parallel: int = 1) -> Display:
    """The display that suits `console`; `parallel` cells run at once."""
    return BarDisplay(console, todo, parallel) if console.is_terminal else PlainDisplay(console, todo, parallel)

"""The report of a run: summary.csv, charts, report.html, and the same in short for the terminal.

`write_report` and `print_summary` are what `tokenderby run` and `tokenderby report` call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bench.analysis.findings.buffering_alarm import held_back
from bench.analysis.findings.failures import TotalFailure
from bench.analysis.findings.run_warnings import RunWarning, run_warnings
from bench.analysis.findings.story import claims_told
from bench.analysis.findings.survival import Spot, SurvivalMap, advice, survival_maps
from bench.analysis.findings.verdicts import COMPLETENESS, Verdict, verdicts
from bench.analysis.measures.groups import MeasuredCell, Measurements, measure
from bench.analysis.measures.metrics import estimate, summary_table
from bench.analysis.report import charts, page
from bench.analysis.report.browser_numbers import at_once_tables, painted_tables
from bench.analysis.report.knee import knee_of
from bench.analysis.report.score_view import STANDINGS, Board, ScoreSquare, boards
from bench.analysis.statistics.wording import counted, number, whole_percent
from bench.run_record import Run
from bench.store import RunFolder
from clients.whole_file import replace_file

_NAME_WIDTH = 19  # of the terminal's tables: the longest word of a cell's name
_WAY_WIDTH, _SQUARE_WIDTH = 32, 11  # of the survival map in the terminal
MAX_LINES = 12  # of void cells in the terminal; the page has all


@dataclass(frozen=True)
class Summary:
    """What a run showed. `table` is summary.csv; `measured` has everything, for whoever wants to ask more."""

    run: Run
    table: pd.DataFrame
    verdicts: Sequence[Verdict]
    warnings: Sequence[RunWarning]
    measured: Measurements
    report: Path

    @property
    def headline(self) -> str:
        """The sentence that answers what the run was made for."""
        return page.headline_of(self.measured, claims_told(self.measured))

    @property
    def decision(self) -> list[str]:
        """Where one recommendation is wanted: what stands behind it, a line each."""
        return page.decision_of(self.measured)

    @property
    def failed(self) -> list[TotalFailure]:
        """What failed altogether, to be said before anything else."""
        return page.failed_altogether(self.measured)


def summarize(folder: RunFolder, more_limits: Mapping[str, Any] | None = None) -> Summary:
    """Analyse a run without writing anything, as measures.groups.measure. Raises StoreError, PlanError."""
    measured = measure(folder, more_limits)
    table = summary_table(measured)
    found = verdicts(measured) if measured.cells_at_once == 1 else []
    return Summary(measured.run, table, found, run_warnings(measured), measured, folder.report_path)


def write_report(folder: RunFolder, more_limits: Mapping[str, Any] | None = None) -> Summary:
    """Write summary.csv, charts and report.html into the run folder. Raises StoreError, PlanError, OSError."""
    if not folder.streams_path.exists():
        folder.merge()
    summary = summarize(folder, more_limits)
    replace_file(folder.path / "summary.csv", summary.table.to_csv(index=False, float_format="%.6g").encode())
    drawn = charts.write_charts(summary.measured, folder.charts_path)
    pictures = [(chart, folder.charts_path / f"{chart.name}.svg") for chart in drawn]
    html = page.render(summary.measured, summary.verdicts, summary.warnings, claims_told(summary.measured), pictures)
    replace_file(folder.report_path, html.encode())
    return summary


def print_summary(summary: Summary, console: Console) -> None:
    """Failures, the answer, scoreboard, numbers, survival map, warnings; fits 80 columns."""
    for found in summary.failed:
        console.print(Text(found.sentence, style="bold red"))
    console.print(Text(summary.headline, style="bold"))
    for line in summary.decision:
        console.print(Padding(Text(line), (0, 0, 0, 2)))
    if summary.measured.cells_at_once == 1:
        _print_boards(boards(summary.measured), console)
        console.print(_table([*summary.measured.cells, *summary.measured.void_cells]))
    _print_browser(summary.measured, console)
    for verdict in (verdict for verdict in summary.verdicts if verdict.question == COMPLETENESS):
        console.print(Text(f"{verdict.question} {verdict.sentence}"))
    _print_survival(summary.measured, console)
    if knee := knee_of(summary.run):
        console.print(Text(knee.sentence, style="bold"))
    _print_doubts(summary, console)


def _print_browser(measured: Measurements, console: Console) -> None:
    """What a browser painted, and the first tokens of so many messages at once."""
    for numbers in (*painted_tables(measured, only_alone=True), *at_once_tables(measured)):
        console.print(Text(numbers.title, style="bold"))
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        table.add_column("", overflow="fold", max_width=2 * _NAME_WIDTH)
        for name, unit in numbers.headings:
            table.add_column("\n".join((*name.split(), unit)).strip(), justify="right")
        for row in numbers.rows:
            title = f"{row.title} ({row.standing})" if row.standing else row.title
            table.add_row(Text(title), *(value for value, _ in row.cells), style="dim" if row.standing else "")
        console.print(table)


def _print_doubts(summary: Summary, console: Console) -> None:
    """What makes the numbers weak, and which cells are in none of them."""
    for warning in summary.warnings:
        style = "bold red" if warning.severity == "warning" else "dim"
        console.print(Text(f"{warning.severity}: {warning.text}", style=style))
    lines = page.excluded_lines(summary.measured.excluded)
    for line in lines[:MAX_LINES]:
        blocks = f"block{'s' * (',' in line.blocks)} {line.blocks}"
        console.print(Text(f"{line.status}: {line.cell}, {blocks}: {line.why}", style="dim"))
    if len(lines) > MAX_LINES:
        more = counted(len(lines) - MAX_LINES, "line")
        console.print(f"… and {more} more of void and failed cells, all in the report", style="dim")


def _print_boards(found: Sequence[Board], console: Console) -> None:
    """The first group's scoreboard and its notes; the page has the others too."""
    for board in found[:1]:
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        table.add_column(board.group or "transport", overflow="fold", max_width=_NAME_WIDTH)
        for title, unit in board.headings:
            table.add_column(f"{title}\n{unit}", justify="right")
        for row in board.rows:
            table.add_row(Text(row.title), *(_standing(square) for square in row.squares))
        console.print(table)
        for number_of, note in enumerate(board.notes, 1):
            console.print(Text(f"[{number_of}] {note}", style="dim"))
    if len(found) > 1:
        others = counted(len(found) - 1, "scoreboard")
        console.print(Text(f"The report has {others} more, of other loads or profiles."))


_SHORT = STANDINGS | {"level": "as good", "behind": "", "equal": "equal"}
_COLOURS = {"best": "bold green", "level": "green", "behind": "red"}


def _standing(square: ScoreSquare) -> Text:
    """A number, and below it where it stands."""
    note = f" [{square.note}]" if square.note else ""
    return Text.assemble(
        f"{square.value}\n",
        (f"{_SHORT[square.standing] or square.ratio or 'behind'}{note}", _COLOURS.get(square.standing, "dim")),
    )


def _print_survival(measured: Measurements, console: Console) -> None:
    """A table per situation, what it says of each intermediary, and the buffering alarm."""
    maps = survival_maps(measured)
    for each in maps:
        console.print(Text(f"Messages complete: {each.situation.title}", style="bold"))
        at_once = max(1, (console.width - _WAY_WIDTH) // _SQUARE_WIDTH)
        for first in range(0, len(each.profiles), at_once):
            console.print(_survival_table(each, each.profiles[first : first + at_once]))
    for text in (*(found.sentence for found in advice(maps)), *(alarm.sentence for alarm in held_back(measured))):
        console.print(Padding(Text(text), (0, 0, 0, 2)))


def _survival_table(each: SurvivalMap, profiles: Sequence[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", min_width=_WAY_WIDTH - 2)
    for profile in profiles:
        hyphenated = profile.replace("-", "-\n") if len(profile) >= _SQUARE_WIDTH else profile
        table.add_column(Text(hyphenated), justify="right", overflow="fold", max_width=_SQUARE_WIDTH - 1)
    for way in each.ways:
        table.add_row(Text(way.title), *(_square(each.spot(way, profile)) for profile in profiles))
    return table


def _square(spot: Spot | None) -> Text:
    if spot is None:
        return Text("")
    style = "green" if spot.survives else "red" if not spot.complete else "yellow"
    return Text(whole_percent(spot.complete, spot.messages), style=style)


_COSTS = (
    ("requests\n/message", "requests_per_message"),
    ("bytes\n/token", "bytes_per_token"),
    ("CPU µs\n/token", "cpu_us_per_token"),
)
_STACK_COSTS = (
    ("CPU µs\n/token", "cpu_us_per_token"),
    ("server\nCPU µs\n/token", "server_cpu_us_per_token"),
    ("memory\nkB/open\nstream", "server_memory_kb_per_open_stream"),
)
"""In place of these where stacks race: what they send is alike, and what a stream takes of a server is the question."""
_TIMES = (
    # heading of at most 8 letters a line, metric
    ("first\ntoken\np50 ms", "ttft_overhead_ms_p50"),
    ("\n\np99", "ttft_overhead_ms_p99"),
    ("token\ndelay\np50 ms", "delay_ms_p50"),
    ("\n\np99", "delay_ms_p99"),
)
"""First tokens are over the model's own time."""
_TIMES_WITHOUT_DUE = (
    ("first\ntoken\np50 ms", "ttft_ms_p50"),
    ("\n\np95", "ttft_ms_p95"),
    ("token\ngap\np50 ms", "itl_ms_p50"),
    ("\n\np99", "itl_ms_p99"),
)
"""Where no contestant tells when its model made a token: as the user waits."""


def _columns(cells: Sequence[MeasuredCell]) -> tuple[tuple[str, str], ...]:
    """Headings and metrics of the table of `cells`."""
    times = _TIMES if any(cell.has_due for cell in cells) else _TIMES_WITHOUT_DUE
    has_stacks = any(word.startswith("stack=") for cell in cells for word in cell.key.words)
    return (*times, *(_STACK_COSTS if has_stacks else _COSTS))


def _table(cells: Sequence[MeasuredCell]) -> Table:
    """The numbers, a row per cell; those of void blocks are dimmed, and count in nothing."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("cell", overflow="fold", max_width=_NAME_WIDTH)
    table.add_column("complete", justify="right")
    columns = _columns(cells)
    for heading, _ in columns:
        table.add_column(heading, justify="right", overflow="fold")
    for cell in cells:
        texts = [number(estimate(cell, column).value) for _, column in columns]
        complete = f"{int(cell.messages['completed'].sum())}/{len(cell.messages)}"
        title = cell.key.title + (" (void)" if cell.is_void else "")
        table.add_row(*map(Text, (title, complete, *texts)), style="" if cell.is_valid else "dim")
    return table

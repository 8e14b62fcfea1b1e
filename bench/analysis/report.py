"""The report of a run: summary.csv, charts, report.html, and the same in short for the terminal.

`write_report` and `print_summary` are what `tokenderby run` and `tokenderby report` call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bench.analysis import charts, page
from bench.analysis.buffering import held_back
from bench.analysis.groups import MeasuredCell, Measurements, measure
from bench.analysis.knee import knee_of
from bench.analysis.metrics import estimate, summary_table
from bench.analysis.run_warnings import RunWarning, run_warnings
from bench.analysis.story import Claim, claims_in
from bench.analysis.survival import Spot, SurvivalMap, advice, survival_maps
from bench.analysis.verdicts import COMPLETENESS, Verdict, verdicts
from bench.analysis.wording import number
from bench.store import Run, RunFolder, replace_file

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


def summarize(folder: RunFolder) -> Summary:
    """Analyse a run without writing anything. Raises StoreError if its files cannot be read."""
    measured = measure(folder)
    table = summary_table(measured)
    found = verdicts(measured) if measured.cells_at_once == 1 else []
    return Summary(measured.run, table, found, run_warnings(measured), measured, folder.report_path)


def write_report(folder: RunFolder) -> Summary:
    """Write summary.csv, charts and report.html into the run folder. Raises StoreError, OSError."""
    if not folder.streams_path.exists():
        folder.merge()
    summary = summarize(folder)
    replace_file(folder.path / "summary.csv", summary.table.to_csv(index=False, float_format="%.6g").encode())
    drawn = charts.write_charts(summary.measured, folder.charts_path)
    pictures = [(chart, folder.charts_path / f"{chart.name}.svg") for chart in drawn]
    html = page.render(summary.measured, summary.verdicts, summary.warnings, _claims(summary.measured), pictures)
    replace_file(folder.report_path, html.encode())
    return summary


def _claims(measured: Measurements) -> list[Claim]:
    return claims_in(measured) if measured.run.plan.get("story") else []


def print_summary(summary: Summary, console: Console) -> None:
    """Table, verdicts, survival map, warnings and void cells; fits 100 columns. The caller says where the report is."""
    if summary.measured.cells_at_once == 1:
        console.print(_table(summary.measured.cells))
        _print_verdicts(summary.verdicts, console)
    _print_survival(summary.measured, console)
    if knee := knee_of(summary.run):
        console.print(Text(knee.sentence, style="bold"))
    for warning in summary.warnings:
        style = "bold red" if warning.severity == "warning" else "dim"
        console.print(Text(f"{warning.severity}: {warning.text}", style=style))
    lines = page.excluded_lines(summary.measured.excluded)
    for line in lines[:MAX_LINES]:
        console.print(Text(f"{line.status}: {line.cell}, blocks {line.blocks}: {line.why}", style="dim"))
    if len(lines) > MAX_LINES:
        console.print(f"… and {len(lines) - MAX_LINES} more kinds of void cells, all in the report", style="dim")


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
        table.add_column(Text(profile), justify="right", overflow="fold", max_width=_SQUARE_WIDTH - 1)
    for way in each.ways:
        table.add_row(Text(way.title), *(_square(each.spot(way, profile)) for profile in profiles))
    return table


def _square(spot: Spot | None) -> Text:
    if spot is None:
        return Text("")
    style = "green" if spot.survives else "red" if not spot.complete else "yellow"
    return Text(f"{100 * spot.share.value:.0f} %", style=style)


def _print_verdicts(found: Sequence[Verdict], console: Console) -> None:
    """The first race's answers and whether everything arrived; the page has the other races too."""
    shown = [v for v in found if v.group == found[0].group or v.question == COMPLETENESS]
    for question, answers in groupby(shown, key=lambda v: f"{v.question} ({v.group})" if v.group else v.question):
        console.print(Text(question, style="bold"))
        for verdict in answers:
            style = "green" if verdict.status == "resolved" else "yellow"
            console.print(Padding(Text(verdict.sentence, style=style), (0, 0, 0, 2)))
    if len(shown) < len(found):
        console.print(Text(f"{len(found) - len(shown)} answers about other loads or profiles are in the report."))


_COLUMNS = (
    # heading, metrics whose values are joined by " / "
    ("first token\noverhead ms\np50 / p99", ("ttft_overhead_ms_p50", "ttft_overhead_ms_p99")),
    ("token delay\nms\np50 / p99", ("delay_ms_p50", "delay_ms_p99")),
    ("tokens\n/read", ("burst_tokens_mean",)),
    ("requests\n/message", ("requests_per_message",)),
    ("B\n/token", ("bytes_per_token",)),
    ("CPU µs/token\nclient / server", ("client_cpu_us_per_token", "server_cpu_us_per_token")),
)


def _table(cells: Sequence[MeasuredCell]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("cell", overflow="fold")
    table.add_column("complete", justify="right")
    for heading, _ in _COLUMNS:
        table.add_column(heading, justify="right", overflow="fold")
    for cell in cells:
        values = [" / ".join(number(estimate(cell, c).value) for c in columns) for _, columns in _COLUMNS]
        complete = f"{int(cell.messages['completed'].sum())}/{len(cell.messages)}"
        texts = [Text(text) for text in (cell.key.title, complete, *values)]
        table.add_row(*texts, style="" if cell.is_valid else "dim")
    return table

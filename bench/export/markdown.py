"""A run's outcome, or a comparison's, as Markdown: short enough for a comment on a pull request, or a job's summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import get_args

from bench.analysis.findings import scoreboard
from bench.analysis.findings.comparison import Comparison
from bench.analysis.findings.failures import fault_lines, nothing_measured
from bench.analysis.findings.gates import Gate, not_met
from bench.analysis.findings.likeness import notes
from bench.analysis.findings.run_warnings import run_warnings
from bench.analysis.measures.groups import MeasuredCell, Measurements
from bench.analysis.measures.metrics import METRICS, estimate
from bench.analysis.measures.quantities import as_shown, quantity, unit_of
from bench.analysis.statistics.wording import counted, times, value_with_interval
from bench.export.changes import HEADINGS, change_row, counting, findable, sentence
from bench.export.document import answer_sentence
from bench.run_record import Run
from servers.foreign_text import in_markdown

MAX_CHARACTERS = 60_000  # a comment on GitHub holds 65,536
MAX_ROWS = 30  # of each table
MAX_WARNINGS = 8
MAX_SQUARE = 300  # characters of one square of a table
_COLUMNS = (
    *("ttft_ms_p50", "ttft_ms_p95", "delay_ms_p50", "delay_ms_p99", "requests_per_message"),
    *("bytes_per_token", "client_cpu_us_per_token", "server_cpu_us_per_token"),
)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table of texts that are escaped here; the first MAX_ROWS of its rows, then how many more there are."""
    rows = list(rows)
    lines = [_line(headings), "|" + " --- |" * len(headings), *(_line(row) for row in rows[:MAX_ROWS])]
    more = len(rows) - MAX_ROWS
    return [*lines, "", *([f"… and {more} more.", ""] if more > 0 else [])]


def _line(texts: Sequence[str]) -> str:
    return "".join(f"| {in_markdown(text, MAX_SQUARE)} " for text in texts) + "|"


def run_markdown(measured: Measurements, judged: Sequence[Gate], folder: str) -> str:
    """The verdict, the limits that are not met, the scoreboard, and folded away the numbers of every cell."""
    run = measured.run
    lines = [f"### Tokenderby: {in_markdown(_state(measured, judged))}", "", in_markdown(answer_sentence(measured)), ""]
    lines += _warnings(list(fault_lines(measured).values()))
    lines += _limits(judged)
    lines += _scoreboard(measured)
    lines += _warnings([w.text for w in run_warnings(measured) if w.severity == "warning"])
    lines += _folded(f"Numbers of {counted(len(measured.cells), 'cell')}", _numbers(measured.cells))
    return _cut([*lines, _footing(run, folder)])


def comparison_markdown(comparison: Comparison, folders: tuple[str, str]) -> str:
    """What changed, both values side by side; what limits the comparison."""
    lines = [f"### Tokenderby: {in_markdown(sentence(comparison))}", ""]
    found = counting(comparison)
    if found:
        lines += table(HEADINGS, map(change_row, found))
    if said := findable(comparison):
        lines += [in_markdown(said), ""]
    lines += _warnings([*comparison.warnings, *notes(comparison.a, comparison.b)])
    for name, run, folder in (("A", comparison.a, folders[0]), ("B", comparison.b, folders[1])):
        lines += [f"{name}: {_footing(run, folder)}", ""]
    return _cut(lines)


def _cut(lines: Sequence[str]) -> str:
    """The lines as a text, as many as a comment holds."""
    ends = accumulate(len(line) + 1 for line in lines)
    kept = [line for line, end in zip(lines, ends, strict=True) if end <= MAX_CHARACTERS]
    return "\n".join([*kept, *(["", "… and more; the report has it all."] if len(kept) < len(lines) else []), ""])


def _state(measured: Measurements, judged: Sequence[Gate]) -> str:
    run, lost = measured.run, len(fault_lines(measured))
    failed = sum(cell.status == "failed" for cell in run.cells)
    parts = [f"plan {run.name}"]
    parts += [f"the run is {run.status}"] if run.status != "complete" else []
    parts += ["nothing was measured"] if nothing_measured(measured) else []
    parts += [f"{counted(failed, 'cell')} failed"] if failed else []
    parts += [f"{counted(lost, 'cell')} got nothing through"] if lost else []
    missed = len(not_met(judged))
    parts += [f"{missed} of {counted(len(judged), 'limit')} not met" if missed else "every limit met"] if judged else []
    return ", ".join(parts)


def _limits(judged: Sequence[Gate]) -> list[str]:
    rows = [(gate.outcome, gate.key.title, gate.demand, gate.finding) for gate in not_met(judged)]
    return table(("", "cell", "limit", "finding"), rows) if rows else []


def _scoreboard(measured: Measurements) -> list[str]:
    rows = [_question(row) for row in scoreboard.scoreboard(measured)]
    return table(("question", "best", "as good", "behind", "not judged"), rows) if rows else []


def _question(row: scoreboard.ScoredQuestion) -> tuple[str, ...]:
    title = f"{row.title} ({row.group})" if row.group else row.title
    by = {
        standing: [_square(square) for square in row.squares if row.shown_standing(square) == standing]
        for standing in _SHOWN
    }
    equal = f"all equal: {quantity(row.squares[0].estimate.value, row.column)}" if by["equal"] else ""
    best, *others = ("; ".join(by[standing]) for standing in _SHOWN[1:])
    return (title, equal or best, *others)


_SHOWN = get_args(scoreboard.ShownStanding)


def _square(square: scoreboard.Square) -> str:
    said = f"{square.key.title} {quantity(square.estimate.value, square.column)}"
    return f"{said}, {times(square.ratio)}" if square.standing == "behind" and square.ratio else said


def _warnings(warnings: Sequence[str]) -> list[str]:
    lines = [f"- {in_markdown(text)}" for text in warnings[:MAX_WARNINGS]]
    more = len(warnings) - MAX_WARNINGS
    return [*lines, *([f"- … and {more} more"] if more > 0 else []), *([""] if lines else [])]


def _folded(title: str, lines: Sequence[str]) -> list[str]:
    return [f"<details><summary>{in_markdown(title)}</summary>", "", *lines, "</details>", ""]


def _numbers(cells: Sequence[MeasuredCell]) -> list[str]:
    headings = [f"{METRICS[column].title}, {unit_of(column)}".removesuffix(", ") for column in _COLUMNS]
    return table(["cell", "complete", *headings], map(_row, cells))


def _row(cell: MeasuredCell) -> list[str]:
    title = cell.key.title if cell.is_valid else f"{cell.key.title} ({cell.apart or 'void'})"
    complete = f"{int(cell.messages['completed'].sum())}/{len(cell.messages)}"
    found = (as_shown(estimate(cell, column), column) for column in _COLUMNS)
    return [title, complete, *map(value_with_interval, found)]


def _footing(run: Run, folder: str) -> str:
    cells = Counter(cell.status for cell in run.cells)
    ended = ", ".join(f"{count} {status}" for status, count in cells.items())
    commit = run.git_commit[:7] if run.git_commit else "no commit known"
    machine = f"{run.machine.get('cpu', 'unknown processor')}, {run.machine.get('cores', '?')} cores"
    return f"<sub>{in_markdown(f'{folder} · cells: {ended} · seed {run.seed} · {commit} · {machine}')}</sub>"

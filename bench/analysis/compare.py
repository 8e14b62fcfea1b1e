"""How two runs compare, for the terminal; what is compared, and how it is judged, is bench.analysis.comparison's."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.analysis.comparison import Change, Comparison, ComparisonError, compare
from bench.analysis.metrics import METRICS
from bench.analysis.wording import times, with_unit

__all__ = ["Change", "Comparison", "ComparisonError", "compare", "print_comparison"]


def print_comparison(comparison: Comparison, console: Console) -> None:
    """The changes that count as a table, then how many do not."""
    for warning in comparison.warnings:
        console.print(Text(f"warning: {warning}", style="bold red"))
    counting = [c for c in comparison.changes if c.judgement in ("regression", "improvement")]
    table = Table("cell", "number", "A", "B", "B/A (95 %)", "", box=SIMPLE_HEAD)
    for change in counting:
        metric, contrast = METRICS[change.column], change.contrast
        values = (with_unit(contrast.b, metric.unit), with_unit(contrast.a, metric.unit), times(contrast.ratio))
        style = "red" if change.judgement == "regression" else "green"
        table.add_row(*(Text(t) for t in (change.key.title, metric.title, *values, change.judgement)), style=style)
    if counting:
        console.print(table)
    rest = len(comparison.changes) - len(counting)
    console.print(f"{len(counting)} changes beyond noise; {rest} numbers equal or not resolved")

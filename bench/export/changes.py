"""What a comparison of two runs comes to: the changes that count, both values side by side, and one sentence."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.analysis.findings.comparison import Change, Comparison, Judgement
from bench.analysis.findings.likeness import notes
from bench.analysis.measures.metrics import METRICS
from bench.analysis.measures.quantities import quantity
from bench.analysis.statistics.claims import MIN_BLOCKS
from bench.analysis.statistics.wording import counted, listed, number, times

HEADINGS = ("cell", "number", "A", "B", "B/A (95 %)", "")
_BLIND = f"no cell has {MIN_BLOCKS} valid blocks in both runs"
WANTED_RATIO = 1.1  # of CPU: how many blocks it takes to find this, a comparison says
_TOLD = (
    *("ttft_overhead_ms_p50", "delay_ms_p99", "requests_per_message", "bytes_per_token"),
    *("client_cpu_us_per_token", "server_cpu_us_per_token"),
)
"""Of these numbers it is said which changes could have been found."""
_STYLES: dict[Judgement, str] = {"regression": "red", "improvement": "green"}


def counting(comparison: Comparison) -> list[Change]:
    """The changes beyond noise, regressions first."""
    found = [change for change in comparison.changes if change.judgement in _STYLES]
    return sorted(found, key=lambda change: change.judgement != "regression")


def sentence(comparison: Comparison) -> str:
    """How many numbers became worse and better, of how many; and of which cells nothing could be claimed."""
    counts = Counter(change.judgement for change in counting(comparison))
    total = f"of {counted(len(comparison.changes), 'number')} compared"
    small = _too_small(comparison)
    unclaimed = f" Nothing can be claimed of {listed(small)}: fewer than {MIN_BLOCKS} valid blocks." if small else ""
    if not counts and comparison.is_blind:
        return f"Nothing is known of {counted(len(comparison.changes), 'number')}: {_BLIND}."
    if not counts:
        return f"No regression and no improvement: none {total} is shown to have changed.{unclaimed}"
    parts = [counted(counts[judgement], judgement) for judgement in _STYLES if counts[judgement]]
    return f"{listed(parts)} {total}; the others are equal, or cannot be told apart.{unclaimed}"


def findable(comparison: Comparison) -> str:
    """What two such runs could have shown at all, and how many blocks it takes to show WANTED_RATIO; empty if unknown.

    Without it "no regression" would be read as "nothing became worse".
    """
    if not (found := _ratios(comparison.resolution)):
        return ""
    shared = _ratios(comparison.shared_resolution)
    together = f" What all cells share shows from {shared} on." if shared else ""
    return (
        f"Changes that two such runs show 4 times in 5: {found}; smaller ones may be missed."
        f"{together}{_takes(comparison)}"
    )


def _ratios(resolution: Mapping[str, float]) -> str:
    """For example "1.22× in A and B; 1.4× in C"."""
    found: dict[str, list[str]] = {}
    for column, ratio in resolution.items():
        if column in _TOLD and math.isfinite(ratio):
            found.setdefault(f"{number(ratio)}×", []).append(METRICS[column].title)
    return "; ".join(f"{ratio} in {listed(names)}" for ratio, names in found.items())


def _takes(comparison: Comparison) -> str:
    """How many blocks a change of CPU by WANTED_RATIO takes, where these runs have not enough for it."""
    short = [c for c in _TOLD if "cpu" in c and WANTED_RATIO < comparison.resolution.get(c, 0.0) < math.inf]
    needed = {METRICS[c].title: comparison.blocks_needed(c, WANTED_RATIO) for c in short}
    takes = listed([f"{counted(blocks, 'block')} in {title}" for title, blocks in needed.items() if blocks])
    return f" To find {WANTED_RATIO}× takes {takes}." if takes else ""


def _too_small(comparison: Comparison) -> list[str]:
    """The cells of which no number has blocks enough for a claim (a number that is 0 has none at all)."""
    most: dict[str, int] = {}
    for change in comparison.changes:
        most[change.key.title] = max(change.contrast.blocks, most.get(change.key.title, 0))
    return [title for title, blocks in most.items() if blocks < MIN_BLOCKS]


def change_row(change: Change) -> tuple[str, ...]:
    """A change as the row of a table under HEADINGS."""
    contrast = change.contrast
    ratio = "–" if math.isnan(contrast.ratio.value) else times(contrast.ratio)
    values = (quantity(contrast.b, change.column), quantity(contrast.a, change.column), ratio)
    return (change.key.title, METRICS[change.column].title, *values, change.judgement)


def print_comparison(comparison: Comparison, console: Console, *, every: bool = False) -> None:
    """Warnings, the changes that count (`every`: all numbers) as a table, what they come to, what could be found."""
    for warning in comparison.warnings:
        console.print(Text(f"warning: {warning}", style="bold red"))
    for note in notes(comparison.a, comparison.b):
        console.print(Text(f"note: {note}", style="dim"))
    shown = comparison.changes if every else counting(comparison)
    for key in dict.fromkeys(change.key for change in shown):
        console.print(Text(key.title, style="bold"))
        console.print(_table([change for change in shown if change.key == key]))
    console.print(Text(sentence(comparison)))
    if said := findable(comparison):
        console.print(Text(said, style="dim"))


def _table(changes: Sequence[Change]) -> Table:
    """The changes of one cell; fits 80 columns."""
    table = Table(*HEADINGS[1:], box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for change in changes:
        table.add_row(*map(Text, change_row(change)[1:]), style=_STYLES.get(change.judgement, ""))
    return table

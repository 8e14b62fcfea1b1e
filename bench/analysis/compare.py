"""Two runs against each other: what became better or worse, and whether that is more than noise.

Runs compare only if they did the same work on the same machine. The blocks of two runs are no pairs, so each run's are
resampled by themselves. All changes are one family of tests for bench.analysis.claims, with the larger noise of the two
runs' A/A controls.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.analysis import intervals
from bench.analysis.claims import JudgedContrast, judged
from bench.analysis.groups import Key, MeasuredCell, Measurements, measure
from bench.analysis.intervals import Contrast
from bench.analysis.metrics import METRICS, estimator
from bench.analysis.noise import noise as noise_of
from bench.analysis.wording import listed, times, with_unit
from bench.store import Run, RunFolder
from clients import columns
from servers.user_errors import InputError

# Mostly the model's own time (delay, overhead and waiting have the transport's share alone), or no ratio: around 0.
_NOT_COMPARED = frozenset(
    {"itl_ms_p50", "itl_ms_p95", "itl_ms_p99", "e2e_ms_p50", "e2e_ms_p95", "cpu_us_per_token_over_baseline"}
)
COLUMNS = tuple(column for column in columns.SUMMARY if column in METRICS and column not in _NOT_COMPARED)
LARGER_IS_BETTER = frozenset({"completed_ratio", "goodput_ratio"})
SAME_MACHINE = ("cpu", "cores", "cores_usable", "memory_bytes", "system", "architecture")
SAME_WORK = ("stream", "streams", "load", "loads")
"""The parts of a plan that make two runs the same work; blocks may differ, and only cells of both are compared."""

Judgement = Literal["regression", "improvement", "no difference", "not resolved"]


class ComparisonError(InputError):
    """Two runs that cannot be compared; the text says why, one line."""


@dataclass(frozen=True)
class Change:
    """One number of one cell in run B against run A: `contrast.ratio` is B/A."""

    key: Key
    column: str
    contrast: Contrast
    adjusted_p: float
    noise: float  # the larger |ln ratio| that the A/A control of either run allows
    judgement: Judgement


@dataclass(frozen=True)
class Comparison:
    """All changes from run A to run B, and what limits the comparison."""

    a: Run
    b: Run
    changes: Sequence[Change]
    warnings: Sequence[str]

    @property
    def regressed(self) -> bool:
        """Whether any number of run B is worse than run A's, beyond noise."""
        return any(change.judgement == "regression" for change in self.changes)


def compare(run_a: RunFolder, run_b: RunFolder, *, force: bool = False) -> Comparison:
    """Compare run B with run A on the cells that both have.

    Raises ComparisonError if machine or work differ, unless `force`: then these are warnings. Raises StoreError.
    """
    a, b = run_a.load(), run_b.load()
    differences = _differences(a, b)
    if differences and not force:
        raise ComparisonError(f"the runs cannot be compared: {'; '.join(differences)}")
    before, after = measure(run_a), measure(run_b)
    common = _common(before, after)
    if not common:
        raise ComparisonError("the runs have no valid cell in common")
    contrasts = {
        (key, column): intervals.independent(estimator(new, column), estimator(old, column))
        for key, (old, new) in common.items()
        for column in COLUMNS
    }
    known = {name: c for name, c in contrasts.items() if not (math.isnan(c.a) or math.isnan(c.b))}
    noise = {column: max(noise_of(before, column), noise_of(after, column)) for column in COLUMNS}
    findings = judged([(contrast, noise[column]) for (_, column), contrast in known.items()])
    changes = [
        Change(key, column, contrast, finding.adjusted_p, noise[column], _judgement(column, contrast, finding))
        for ((key, column), contrast), finding in zip(known.items(), findings, strict=True)
    ]
    return Comparison(a, b, changes, [*differences, *_warnings(before, after, common)])


def _differences(a: Run, b: Run) -> list[str]:
    """What forbids a comparison: another machine, other work, another time scale."""
    found = [_other("machine", a.machine, b.machine, SAME_MACHINE), _other("plan", a.plan, b.plan, SAME_WORK)]
    if a.time_scale != b.time_scale:
        found.append(f"time scale {a.time_scale:g} and {b.time_scale:g}")
    return [text for text in found if text]


def _other(what: str, a: Mapping[str, object], b: Mapping[str, object], names: Sequence[str]) -> str:
    differing = [f"{name} ({a.get(name)} and {b.get(name)})" for name in names if a.get(name) != b.get(name)]
    return f"another {what}: {listed(differing)}" if differing else ""


def _common(before: Measurements, after: Measurements) -> dict[Key, tuple[MeasuredCell, MeasuredCell]]:
    new = {g.key: g for g in after.cells if g.blocks}
    return {g.key: (g, new[g.key]) for g in before.cells if g.blocks and g.key in new}


def _judgement(column: str, contrast: Contrast, finding: JudgedContrast) -> Judgement:
    if contrast.a == contrast.b:
        return "no difference"
    if not finding.claimed:
        return "not resolved"
    return "improvement" if (contrast.ratio.value > 1) == (column in LARGER_IS_BETTER) else "regression"


def _warnings(before: Measurements, after: Measurements, common: Mapping[Key, object]) -> list[str]:
    found = []
    if before.run.schedule_sha256 != after.run.schedule_sha256:
        found.append("the runs had other seeds: the same kind of work, not the same messages")
    for name, measured in (("A", before), ("B", after)):
        if math.isinf(noise_of(measured, "requests_per_message")):
            found.append(f"run {name} has no A/A control, so nothing can be claimed")
        left_out = [g.key.title for g in measured.cells if g.key not in common]
        if left_out:
            found.append(f"only run {name} has valid cells of {listed(left_out)}")
        if measured.excluded:
            found.append(f"{len(measured.excluded)} void or failed cells of run {name} are left out")
    return found


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

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

from bench.analysis import intervals
from bench.analysis.claims import JudgedContrast, judged
from bench.analysis.groups import Key, MeasuredCell, Measurements, measure
from bench.analysis.intervals import Contrast
from bench.analysis.likeness import differences
from bench.analysis.metrics import METRICS, estimator
from bench.analysis.noise import noise as noise_of
from bench.analysis.wording import listed
from bench.slo import LARGER_IS_BETTER
from bench.store import Run, RunFolder
from clients import columns
from servers.user_errors import InputError

COLUMNS = tuple(column for column in columns.SUMMARY if column in METRICS)
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
    forbidding = differences(a, b)
    if forbidding and not force:
        raise ComparisonError(f"the runs cannot be compared: {'; '.join(forbidding)}; --force does it all the same")
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
    return Comparison(a, b, changes, [*forbidding, *_warnings(before, after, common)])


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

"""Two runs against each other: what became better or worse, and whether that is more than noise.

Runs compare only if they did the same work on the same machine. The blocks of two runs are no pairs: each run's blocks
have moods of their own, which all its cells share, so that a cell's error is what its blocks differ by, moods included.
As within a run (statistics.contrasts) that variance is drawn towards the one of all cells. What all cells spend more
is one more change by itself (ALL_CELLS): in their mean the cells' own errors cancel out. All changes are one family for
statistics.claims.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.analysis.findings.failures import nothing_measured
from bench.analysis.findings.likeness import run_differences
from bench.analysis.findings.races import control_pairs
from bench.analysis.findings.topics import COMPLETED
from bench.analysis.measures.groups import Key, MeasuredCell, Measurements, measure
from bench.analysis.measures.metrics import METRICS, estimate, estimator
from bench.analysis.statistics.claims import MIN_BLOCKS, JudgedContrast, Obstacle, fewer_arrived, judged, scale
from bench.analysis.statistics.contrasts import (
    Contrast,
    contrast,
    divided,
    log_values,
    mean_logs,
    prior_df_of_two_runs,
    tie,
)
from bench.analysis.statistics.estimators import Estimator, Floats
from bench.analysis.statistics.intervals import Estimate
from bench.analysis.statistics.resolution import blocks_of_two_runs, of_pairs
from bench.analysis.statistics.wording import listed
from bench.run_record import Run
from bench.slo import LARGER_IS_BETTER
from bench.store import RunFolder
from clients import columns
from servers.checks import shown, suggestion
from servers.user_errors import InputError

# Mostly the model's own time (delay, overhead and waiting have the transport's share alone), or no ratio: around 0.
_NOT_COMPARED = frozenset(
    {"itl_ms_p50", "itl_ms_p95", "itl_ms_p99", "e2e_ms_p50", "e2e_ms_p95", "cpu_us_per_token_over_baseline"}
)
COLUMNS = tuple(column for column in columns.SUMMARY if column in METRICS and column not in _NOT_COMPARED)

ALL_CELLS = Key("all cells", profile="", recovery="")
"""Stands for the geometric mean of a cost over all cells that both runs have, where there are two at least."""
COSTS = (
    *("client_cpu_us_per_token", "server_cpu_us_per_token", "server_cpu_us_per_token_at_equal_pace"),
    "server_memory_kb_per_open_stream",
)
"""The numbers that ALL_CELLS has: they vary most, and what they are spent on is largely the same code. More would make
every single cell's change harder to show."""

Judgement = Literal["regression", "improvement", "no difference", "not resolved"]
CellPair = tuple[MeasuredCell, MeasuredCell]  # the same cell in run A and in run B


class ComparisonError(InputError):
    """Two runs that cannot be compared; the text says why, one line."""


@dataclass(frozen=True)
class Change:
    """One number of one cell in run B against run A: `contrast.ratio` is B/A. `reason` says why it is not resolved."""

    key: Key
    column: str
    contrast: Contrast
    adjusted_p: float
    judgement: Judgement
    reason: str


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

    @property
    def is_blind(self) -> bool:
        """Whether numbers differ, and no cell has blocks enough for a claim: then "no regression" means nothing."""
        return self._open > 0 and all(change.contrast.blocks < MIN_BLOCKS for change in self.changes)

    @property
    def resolution(self) -> dict[str, float]:
        """By column: the smallest ratio that two such runs would show in 4 of 5 comparisons; infinite if none.

        It is that of a single cell; see `shared_resolution`.
        """
        return {column: of_pairs(contrasts, self._open) for column, contrasts in self._by_column.items()}

    @property
    def shared_resolution(self) -> dict[str, float]:
        """The same of what all cells share, for those columns that ALL_CELLS has."""
        together = [change for change in self.changes if change.key == ALL_CELLS]
        return {change.column: of_pairs([change.contrast], self._open) for change in together}

    def blocks_needed(self, column: str, ratio: float) -> int | None:
        """How many blocks it takes to find a change by `ratio` of a number in 4 of 5 comparisons; None if too many."""
        return blocks_of_two_runs(self._by_column.get(column, []), self._open, ratio)

    @property
    def _open(self) -> int:
        return sum(change.judgement == "not resolved" for change in self.changes)

    @property
    def _by_column(self) -> dict[str, list[Contrast]]:
        by_column: dict[str, list[Contrast]] = {}
        for change in self.changes:
            if change.key != ALL_CELLS:
                by_column.setdefault(change.column, []).append(change.contrast)
        return by_column


def compare(
    run_a: RunFolder, run_b: RunFolder, *, numbers: Collection[str] = COLUMNS, force: bool = False
) -> Comparison:
    """Compare run B with run A on the cells that both have, by the `numbers` that were asked for (of COLUMNS).

    Raises ComparisonError if one of these is unknown, or if machine or work differ, unless `force`: then these are
    warnings. Raises StoreError.
    """
    if unknown := [name for name in numbers if name not in COLUMNS]:
        raise ComparisonError(f"--numbers: unknown {shown(unknown[0])}; {suggestion(unknown[0], COLUMNS)}")
    a, b = run_a.load(), run_b.load()
    forbidding = run_differences(a, b)
    if forbidding and not force:
        raise ComparisonError(f"the runs cannot be compared: {'; '.join(forbidding)}; --force does it all the same")
    before, after = measure(run_a), measure(run_b)
    common = _common(before, after)
    if not common:
        raise ComparisonError(f"the runs have no valid cell in common: {_nothing_common(before, after)}")
    found = changes(common, before.unfit or after.unfit, numbers)
    if not found:
        raise ComparisonError(f"no cell has {listed([METRICS[name].title for name in numbers])} in both runs")
    return Comparison(a, b, found, [*forbidding, *_warnings(before, after, common)])


def changes(common: Mapping[Key, CellPair], unfit: str = "", numbers: Collection[str] = COLUMNS) -> list[Change]:
    """The numbers of every cell that both runs have, and the costs of ALL_CELLS, judged as one family.

    `unfit` stands against all claims. The fewer are asked for, the less it takes to show a change of one
    (docs/statistics.md).
    """
    chosen = [column for column in COLUMNS if column in numbers]
    found = [(key, column, each) for column in chosen for key, each in _contrasts(common, column).items()]
    findings = judged([(each, scale(column, METRICS[column].unit)) for _, column, each in found], unfit)
    return [
        _change(key, column, common.get(key), finding)
        for (key, column, _), finding in zip(found, findings, strict=True)
    ]


def _change(key: Key, column: str, pair: CellPair | None, finding: JudgedContrast) -> Change:
    contrast, judgement = finding.contrast, _judgement(column, finding)
    if pair and column == COMPLETED and finding.obstacle is Obstacle.NO_NUMBER and contrast.a != contrast.b:
        judgement = _by_counts(pair)
    reason = finding.reason if judgement == "not resolved" else ""
    return Change(key, column, contrast, finding.adjusted_p, judgement, reason)


def _by_counts(pair: CellPair) -> Judgement:
    """Where a run got nothing through there is no ratio, but counts say enough."""
    old, new = ((int(cell.messages["completed"].sum()), len(cell.messages)) for cell in pair)
    if fewer_arrived(*new, *old):
        return "regression"
    return "improvement" if fewer_arrived(*old, *new) else "not resolved"


def _contrasts(common: Mapping[Key, CellPair], column: str) -> dict[Key, Contrast]:
    """One number of each cell, B against A, where both runs have it; a cost of ALL_CELLS too."""
    having = {
        key: pair for key, pair in common.items() if not any(math.isnan(estimate(cell, column).value) for cell in pair)
    }
    logs = {key: (_logs(estimator(old, column)), _logs(estimator(new, column))) for key, (old, new) in having.items()}
    spread = {key: each for key, each in logs.items() if all(map(len, each))}
    errors = dict(zip(spread, independent_errors(list(spread.values())), strict=True)) if spread else {}
    found = {key: _contrast(pair, column, logs[key], errors.get(key)) for key, pair in having.items()}
    together = _together([having[key] for key in spread], column) if column in COSTS else None
    return found | ({ALL_CELLS: together} if together else {})


def _together(pairs: Sequence[CellPair], column: str) -> Contrast | None:
    """The cells' geometric mean, B against A; None if they are not two at least, or have too few blocks in common.

    A block is one value here: what its cells share counts as often as there are blocks, not cells.
    """
    if len(pairs) < 2:
        return None
    old, new = (mean_logs([estimator(cell, column) for cell in cells]) for cells in zip(*pairs, strict=True))
    blocks = min(len(old), len(new))
    if blocks < MIN_BLOCKS or not np.isfinite([*old, *new]).all():
        return None
    a, b = math.exp(new.mean()), math.exp(old.mean())
    if np.array_equal(np.unique(old), np.unique(new)):
        return tie(a, blocks)
    error, df = own_error(old, new)
    return contrast(a, b, float(error), df, blocks)


def _logs(of: Estimator) -> Floats:
    """ln(value) by block; empty where there is none."""
    logs = log_values(of) if len(of.blocks) > 1 else np.empty(0)
    return logs if np.isfinite(logs).all() else np.empty(0)


def _contrast(pair: CellPair, column: str, logs: tuple[Floats, Floats], error: tuple[Floats, float] | None) -> Contrast:
    b, a = (estimate(cell, column).value for cell in pair)
    blocks = min(len(estimator(cell, column).blocks) for cell in pair)
    if a == b and math.isfinite(a) and np.array_equal(np.unique(logs[0]), np.unique(logs[1])):
        return tie(a, blocks)
    if error is None:
        return Contrast(a, b, Estimate(divided(a, b)), 1.0, blocks)
    return contrast(a, b, float(error[0]), error[1], blocks)


def independent_errors(logs: Sequence[tuple[Floats, Floats]]) -> list[tuple[Floats, float]]:
    """Per cell the standard error of the difference of two runs' ln, and its degrees of freedom.

    Each cell has ln(value) by block, shape (…, blocks), of run A and of run B.
    """
    own_df = [old.shape[-1] + new.shape[-1] - 2 for old, new in logs]
    squares = [_squares(old) + _squares(new) for old, new in logs]
    pooled = np.sum(squares, axis=0) / sum(own_df)
    found = []
    for (old, new), square, df in zip(logs, squares, own_df, strict=True):
        prior_df = prior_df_of_two_runs(df)
        variance = (prior_df * pooled + square) / (prior_df + df)
        found.append((np.sqrt(variance * (1 / old.shape[-1] + 1 / new.shape[-1])), prior_df + df))
    return found


def own_error(old: Floats, new: Floats) -> tuple[Floats, float]:
    """The same of one number alone, whose blocks have nobody's to lean on."""
    df = old.shape[-1] + new.shape[-1] - 2
    variance = (_squares(old) + _squares(new)) / df
    return np.sqrt(variance * (1 / old.shape[-1] + 1 / new.shape[-1])), df


def _squares(logs: Floats) -> Floats:
    return np.asarray(((logs - logs.mean(-1, keepdims=True)) ** 2).sum(-1))


def _common(before: Measurements, after: Measurements) -> dict[Key, CellPair]:
    new = {g.key: g for g in after.cells if g.blocks}
    return {g.key: (g, new[g.key]) for g in before.cells if g.blocks and g.key in new}


def _nothing_common(before: Measurements, after: Measurements) -> str:
    """Why, run by run, and what helps."""
    both = {"A": before, "B": after}
    empty = [f"in run {name} {why}" for name, measured in both.items() if (why := nothing_measured(measured))]
    if empty:
        return "; ".join(empty)
    valid = [f"run {name} has {listed([g.key.title for g in each.cells if g.blocks])}" for name, each in both.items()]
    return f"{listed(valid)}; it takes two runs of the same cells"


def _judgement(column: str, finding: JudgedContrast) -> Judgement:
    contrast = finding.contrast
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
        if not control_pairs(measured):
            found.append(f"run {name} has no A/A control, so nothing checks that equal cells come out equal")
        left_out = [g.key.title for g in measured.cells if g.blocks and g.key not in common]
        if left_out:
            found.append(f"only run {name} has valid cells of {listed(left_out)}")
        if measured.excluded:
            found.append(f"{len(measured.excluded)} void or failed cells of run {name} are left out")
    return found

"""One number of two cells of a run against each other: randomised blocks with a pooled error (pure).

Every block runs every cell once, in random order, so ln(value) = block + cell + error. What a block shares falls out of
a difference, and all cells together tell how large the error is: a pair by itself would have to tell that from five
blocks. Cells whose spreads differ must not lend each other precision, so the error variance of a cell

- is its own, drawn towards the pooled one as if that were PRIOR_DF degrees of freedom of its own (a moderated
  variance: Smyth, "Linear models and empirical Bayes methods", 2004, with a fixed prior),
- among cells of one kind (pushed, pulled, at once) is never below the pooled one: theirs or that of all cells,
  whichever is larger.

The t of a pair has Satterthwaite's degrees of freedom. docs/statistics.md has what this finds, and how often it errs.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.analysis.statistics import student
from bench.analysis.statistics.estimators import Estimator, Floats
from bench.analysis.statistics.intervals import LEVEL, Estimate, point

PRIOR_DF = 3.0  # chosen by simulation: more finds more, and errs more often where one cell is noisier than the others
_SHARE_OF_TWO_RUNS = 0.5  # chosen by simulation too: with 0.6, one cell four times as noisy as all others would err
_LARGEST_LOG = 700.0  # exp() of more is no number


@dataclass(frozen=True)
class Contrast:
    """Two numbers of the same kind: `a` and `b`, their ratio a/b with its interval, and the p-value of "ratio = 1".

    `blocks` counts the blocks behind it. `error` is the standard error of ln(ratio) with `df` degrees of freedom; it
    is infinite, and there is no interval, where a number is 0, infinite or from fewer than two blocks.
    """

    a: float
    b: float
    ratio: Estimate
    p: float
    blocks: int
    error: float = math.inf
    df: float = 1.0

    @property
    def spread(self) -> float:
        """The standard deviation of one block's error of ln(value), of one cell; infinite if it is not known."""
        return self.error * math.sqrt(self.blocks / 2)

    @property
    def is_tie(self) -> bool:
        """Whether the two numbers are the same in every block: requests of chunked and SSE, say."""
        return self.a == self.b and self.error == 0


def prior_df_of_two_runs(own_df: float) -> float:
    """What all cells together lend to the variance of one whose blocks in two runs have `own_df` degrees of freedom.

    There each has more of its own than within a run, and so many more are lent; never below PRIOR_DF.
    """
    return max(PRIOR_DF, _SHARE_OF_TWO_RUNS * own_df)


@dataclass(frozen=True)
class Fit:
    """The model fitted to ln(value), shape (…, blocks, cells): `levels` and error `variances`, shape (…, cells)."""

    levels: Floats
    variances: Floats
    blocks: int

    @property
    def most_df(self) -> int:
        """The degrees of freedom of all residuals together."""
        return (self.blocks - 1) * (int(self.levels.shape[-1]) - 1)

    def compared(self, a: Sequence[int], b: Sequence[int]) -> tuple[Floats, Floats, Floats]:
        """For pairs of cells by their columns: the differences of ln, their standard errors, degrees of freedom."""
        of_a, of_b = self.variances[..., a], self.variances[..., b]
        total = of_a + of_b
        cell_df = PRIOR_DF + self.most_df / self.levels.shape[-1]
        with np.errstate(invalid="ignore"):
            df = np.where(total > 0, cell_df * total**2 / (of_a**2 + of_b**2), self.most_df)
        errors = np.sqrt(total / self.blocks)
        return self.levels[..., a] - self.levels[..., b], errors, np.clip(df, 1, self.most_df)


def fit(logs: Floats, kinds: Sequence[Hashable]) -> Fit:
    """Fit the model to ln(value), shape (…, blocks, cells), two or more of each; `kinds` says which cells are alike."""
    blocks, cells = logs.shape[-2:]
    squares = _squares(logs)
    own_df = (blocks - 1) * (cells - 1) / cells
    pooled = np.repeat(squares.sum(-1, keepdims=True) / (own_df * cells), cells, axis=-1)
    floor = np.zeros_like(pooled)
    for kind in set(kinds):
        alike = [column for column, of in enumerate(kinds) if of == kind]
        if len(alike) > 1:
            theirs = _squares(logs[..., alike]).sum(-1, keepdims=True) / ((blocks - 1) * (len(alike) - 1))
            floor[..., alike] = pooled[..., alike] = np.maximum(pooled[..., alike], theirs)
    moderated = (PRIOR_DF * pooled + squares) / (PRIOR_DF + own_df)
    return Fit(logs.mean(-2), np.maximum(moderated, floor), blocks)


def _squares(logs: Floats) -> Floats:
    """Each cell's sum of squared residuals, shape (…, cells)."""
    by_cell, by_block = logs.mean(-2, keepdims=True), logs.mean(-1, keepdims=True)
    residuals = logs - by_cell - by_block + by_cell.mean(-1, keepdims=True)
    residuals = np.where(np.abs(residuals) < 1e-12, 0.0, residuals)  # what rounding leaves of equal numbers
    return np.asarray((residuals**2).sum(-2))


def log_values(of: Estimator) -> Floats:
    """ln(value) as each block has it: jackknife pseudo-values, whose mean is the ln of the number over all blocks.

    A block's pseudo-value says what leaving it out would change, and so exists for a percentile that no single block
    has messages enough for. NaN or infinite where a number is 0 or infinite.
    """
    count = len(of.blocks)
    weights = np.vstack([np.ones((1, count)), 1 - np.eye(count)]).astype(np.int64)
    with np.errstate(divide="ignore", invalid="ignore"):
        whole, *without = np.log(of.at(weights))
        return np.asarray(whole + (count - 1) * (np.mean(without) - without))


def mean_logs(cells: Sequence[Estimator]) -> Floats:
    """ln of the cells' geometric mean by block, on the blocks that all of them have; empty if that is one or none."""
    common = _common_blocks(cells)
    return np.mean([log_values(of.on(common)) for of in cells], axis=0) if len(common) > 1 else np.empty(0)


def _common_blocks(cells: Sequence[Estimator]) -> list[int]:
    return sorted(set.intersection(*(set(of.blocks) for of in cells))) if cells else []


class Field:
    """Cells that are compared at one number, on the blocks that all of them have."""

    def __init__(self, cells: Sequence[Estimator], kinds: Sequence[Hashable]) -> None:
        common = _common_blocks(cells)
        self.blocks = len(common)
        self.values = [point(of.on(common)) for of in cells]
        self._logs = [log_values(of.on(common)) if self.blocks > 1 else np.empty(0) for of in cells]
        usable = [place for place, logs in enumerate(self._logs) if len(logs) and np.isfinite(logs).all()]
        self._columns = {place: column for column, place in enumerate(usable)}
        self._fit: Fit | None = None
        if len(usable) > 1:
            self._fit = fit(np.stack([self._logs[i] for i in usable], axis=1), [kinds[i] for i in usable])

    def contrast(self, a: int, b: int) -> Contrast:
        """Cell a against cell b, by their places in the field."""
        of_a, of_b = self.values[a], self.values[b]
        if of_a == of_b and math.isfinite(of_a) and np.array_equal(self._logs[a], self._logs[b], equal_nan=True):
            return tie(of_a, self.blocks)
        if self._fit is None or not {a, b} <= self._columns.keys():
            return Contrast(of_a, of_b, Estimate(divided(of_a, of_b)), 1.0, self.blocks)
        found = self._fit.compared([self._columns[a]], [self._columns[b]])
        _, error, df = (float(each[0]) for each in found)
        return contrast(of_a, of_b, error, df, self.blocks)


def paired(a: Estimator, b: Estimator) -> Contrast:
    """Two cells of one run by themselves, on the blocks that both have: the paired t test of ln(value)."""
    return Field([a, b], [0, 0]).contrast(0, 1)


def tie(value: float, blocks: int) -> Contrast:
    """Two numbers that are the same in every block."""
    return Contrast(value, value, Estimate(1.0, 1.0, 1.0), 1.0, blocks, error=0.0)


def contrast(a: float, b: float, error: float, df: float, blocks: int) -> Contrast:
    """The contrast of two positive, finite numbers, from the standard error of ln(a/b)."""
    distance = math.log(a / b)
    reach = student.quantile(LEVEL, max(int(df), 1)) * error
    lo, hi = (math.exp(min(distance + side * reach, _LARGEST_LOG)) for side in (-1, 1))
    p = student.two_sided_p(distance / error, int(df)) if error else float(distance == 0) or student.SMALLEST_P
    return Contrast(a, b, Estimate(a / b, lo, hi), p, blocks, error, df)


def divided(a: float, b: float) -> float:
    """a/b where both are positive, else NaN; two infinite values cannot be told apart."""
    return a / b if a > 0 and b > 0 and not (math.isinf(a) and math.isinf(b)) else math.nan

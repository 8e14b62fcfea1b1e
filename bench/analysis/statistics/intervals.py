"""How sure a single number is: intervals by resampling blocks (pure).

Messages of one block share a machine's mood, tokens of one message even more; counting them as independent would give
intervals that are too narrow. So whole blocks are drawn with replacement and every number is recomputed from them. How
two numbers compare is another matter: bench.analysis.statistics.contrasts.

With few blocks a plain percentile interval is too narrow as well. Its tails are set wider, as t is wider than the
normal distribution (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, section 4.3: the expanded
percentile interval); and since no resample can go beyond the worst block seen, it is stretched to the t interval of the
logarithm where that is wider. docs/metrics.md says how often the result misses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from bench.analysis.statistics import student
from bench.analysis.statistics.estimators import Estimator, Floats, Ints

RESAMPLES = 10_000
LEVEL = 0.95
SEED = 20_240_607  # of the resampling; any other gives the same to two digits


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; all NaN if it was not measured, `lo` and `hi` NaN below two blocks."""

    value: float
    lo: float = math.nan
    hi: float = math.nan

    @property
    def has_interval(self) -> bool:
        """Whether there were blocks enough for an interval."""
        return not (math.isnan(self.lo) or math.isnan(self.hi))

    def times(self, factor: float) -> Estimate:
        """The same in another unit, or of so many."""
        return Estimate(*(float(value) * float(factor) for value in (self.value, self.lo, self.hi)))


@lru_cache(maxsize=64)
def block_weights(blocks: int) -> Ints:
    """How often each of `blocks` blocks is drawn in each resample, shape (RESAMPLES, blocks); always the same."""
    generator = np.random.default_rng([SEED, 0, blocks])
    weights = generator.multinomial(blocks, np.full(blocks, 1 / blocks), size=RESAMPLES).astype(np.int64)
    weights.setflags(write=False)
    return weights


def estimate_of(of: Estimator) -> Estimate:
    """The number from all its blocks, with its interval."""
    count = len(of.blocks)
    value = point(of)
    if count < 2 or math.isnan(value):
        return Estimate(value)
    return Estimate(value, *_interval(value, of.at(block_weights(count)), count))


def holm(p_values: ArrayLike) -> Floats:
    """Holm's step-down adjustment over the last axis: of families with claims at 0.05 at most 5 % err."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, axis=-1, kind="stable")
    steps = p.shape[-1] - np.arange(p.shape[-1])
    stepped = np.maximum.accumulate(np.minimum(np.take_along_axis(p, order, -1) * steps, 1.0), axis=-1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, stepped, -1)
    return adjusted


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share: unlike the bootstrap's it is not empty when all or none succeeded."""
    if trials == 0:
        return math.nan, math.nan
    z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max((centre - spread) / scale, 0.0), min((centre + spread) / scale, 1.0)


def point(of: Estimator) -> float:
    """The number from all its blocks; NaN without any."""
    return float(of.at(np.ones((1, len(of.blocks)), np.int64))[0]) if of.blocks else math.nan


def _tail(blocks: int) -> float:
    """The share to cut off on each side: 2.5 % for many blocks, less for few."""
    wide = student.quantile(LEVEL, blocks - 1) * math.sqrt(blocks / (blocks - 1))
    return NormalDist().cdf(-wide)


def _interval(value: float, drawn: Floats, blocks: int) -> tuple[float, float]:
    """The interval around `value`. A draw that gave no number stretches it both ways instead of vanishing."""
    tail = _tail(blocks)
    unknown = np.isnan(drawn)
    lo = float(np.quantile(np.where(unknown, -np.inf, drawn), tail, method="inverted_cdf"))
    hi = float(np.quantile(np.where(unknown, np.inf, drawn), 1 - tail, method="inverted_cdf"))
    error = _log_error(drawn, blocks)
    if error is not None:
        factor = math.exp(min(student.quantile(LEVEL, blocks - 1) * error, 700))
        lo, hi = min(lo, value / factor), max(hi, value * factor)
    return (math.nan if lo == -math.inf else lo), hi


def _log_error(drawn: Floats, blocks: int) -> float | None:
    """The standard error of the logarithm; None unless all draws are positive and finite.

    Resampling n blocks sees a variance that is too small by (n-1)/n.
    """
    if not (np.isfinite(drawn).all() and (drawn > 0).all()):
        return None
    return float(np.std(np.log(drawn))) * math.sqrt(blocks / (blocks - 1))

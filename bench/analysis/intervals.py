"""How sure a number is: intervals by resampling blocks, and what may be claimed from them (pure).

Messages of one block share a machine's mood, tokens of one message even more; counting them as independent would give
intervals that are too narrow. So whole blocks are drawn with replacement and every number is recomputed from them. Both
sides of a ratio use the same draw, which keeps the pairing.

With few blocks a plain percentile interval is too narrow as well. Its tails are set wider, as t is wider than the
normal distribution (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, section 4.3: the expanded
percentile interval); and since no resample can go beyond the worst block seen, it is stretched to the t interval of the
logarithm where that is wider. docs/metrics.md says how often the result misses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from bench.analysis import student
from bench.analysis.estimators import Estimator, Floats, Ints

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


@dataclass(frozen=True)
class Contrast:
    """Two numbers of the same kind: `a` and `b`, their ratio a/b with its interval, and the p-value of "ratio = 1".

    `blocks` counts the blocks behind it: for paired data those that both have, else the smaller number.
    """

    a: float
    b: float
    ratio: Estimate
    p: float
    blocks: int

    @property
    def half_width(self) -> float:
        """The largest |ln ratio| inside the interval; infinite without one. The A/A control's is the noise floor."""
        if not self.ratio.has_interval or self.ratio.lo <= 0:
            return math.inf
        return max(abs(math.log(self.ratio.lo)), abs(math.log(self.ratio.hi)))

    @property
    def excludes_one(self) -> bool:
        """Whether the interval leaves 1 out."""
        return self.ratio.has_interval and (self.ratio.lo > 1 or self.ratio.hi < 1)

    def exceeds(self, noise: float) -> bool:
        """Whether |ln ratio| is larger than `noise`, the half-width of an A/A control."""
        return self.ratio.value > 0 and abs(math.log(self.ratio.value)) > noise


@lru_cache(maxsize=64)
def block_weights(blocks: int, stream: int = 0) -> Ints:
    """How often each of `blocks` blocks is drawn in each resample, shape (RESAMPLES, blocks); always the same.

    Another `stream` draws independently: for two runs whose blocks are no pairs.
    """
    generator = np.random.default_rng([SEED, stream, blocks])
    weights = generator.multinomial(blocks, np.full(blocks, 1 / blocks), size=RESAMPLES).astype(np.int64)
    weights.setflags(write=False)
    return weights


def estimate(of: Estimator) -> Estimate:
    """The number from all its blocks, with its interval."""
    count = len(of.blocks)
    value = _point(of)
    if count < 2 or math.isnan(value):
        return Estimate(value)
    return Estimate(value, *_interval(value, draws(of), count))


def draws(of: Estimator) -> Floats:
    """The number in every resample; two estimators with equal blocks get the same resamples."""
    return of.at(block_weights(len(of.blocks)))


def paired(a: Estimator, b: Estimator, drawn: Sequence[Floats] | None = None) -> Contrast:
    """Compare two cells of one run on the blocks that both have; `drawn` are their `draws`, if they are known."""
    common = sorted(set(a.blocks) & set(b.blocks))
    a, b = a.on(common), b.on(common)
    if len(common) < 2:
        return _without_interval(a, b, len(common))
    draws_a, draws_b = drawn or (draws(a), draws(b))
    return _contrast(_point(a), _point(b), draws_a, draws_b, len(common))


def independent(a: Estimator, b: Estimator) -> Contrast:
    """Compare the same cell of two runs, whose blocks have nothing to do with each other."""
    count = min(len(a.blocks), len(b.blocks))
    if count < 2:
        return _without_interval(a, b, count)
    draws_a, draws_b = a.at(block_weights(len(a.blocks), 1)), b.at(block_weights(len(b.blocks), 2))
    return _contrast(_point(a), _point(b), draws_a, draws_b, count)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: claim those that are at most 0.05, and all claims together are wrong in 5 %."""
    order = np.argsort(p_values, kind="stable")
    adjusted = [1.0] * len(p_values)
    worst = 0.0
    for rank, position in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = worst
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


def _point(of: Estimator) -> float:
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


def _without_interval(a: Estimator, b: Estimator, blocks: int) -> Contrast:
    value_a, value_b = _point(a), _point(b)
    return Contrast(value_a, value_b, Estimate(_divide(value_a, value_b)), 1.0, blocks)


def _divide(a: float, b: float) -> float:
    """a/b where both are positive, else NaN; two infinite values cannot be told apart."""
    return a / b if a > 0 and b > 0 and not (math.isinf(a) and math.isinf(b)) else math.nan


def _contrast(a: float, b: float, draws_a: Floats, draws_b: Floats, blocks: int) -> Contrast:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where((draws_a > 0) & (draws_b > 0), draws_a / draws_b, np.nan)
    value = _divide(a, b)
    if math.isnan(value):
        return Contrast(a, b, Estimate(value), 1.0, blocks)
    return Contrast(a, b, Estimate(value, *_interval(value, ratios, blocks)), _p_value(value, ratios, blocks), blocks)


def _p_value(value: float, ratios: Floats, blocks: int) -> float:
    """t of ln(ratio) over its standard error; where a draw was infinite, what the blocks' signs can show."""
    error = _log_error(ratios, blocks)
    if error is not None:
        distance = abs(math.log(value))
        if error == 0:
            return 1.0 if distance == 0 else student.SMALLEST_P
        return student.two_sided_p(distance / error, blocks - 1)
    against = min(float(np.mean(~(ratios > 1))), float(np.mean(~(ratios < 1))))
    return max(min(2 * against, 1.0), 2.0 ** (1 - blocks))

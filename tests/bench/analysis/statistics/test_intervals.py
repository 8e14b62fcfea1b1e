"""Intervals of single numbers cover, and adjustments are those of the textbooks."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from bench.analysis.statistics import intervals, student
from bench.analysis.statistics.estimators import Ratio, quantile_of_values


@pytest.mark.parametrize(("df", "t"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (19, 2.093)])
def test_student_as_in_the_tables(df: int, t: float) -> None:
    assert student.quantile(0.95, df) == pytest.approx(t, abs=0.001)
    assert student.two_sided_p(t, df) == pytest.approx(0.05, abs=1e-4)


def test_student_at_its_ends() -> None:
    assert student.two_sided_p(0, 5) == 1
    assert student.two_sided_p(math.nan, 5) == 1
    assert student.two_sided_p(math.inf, 4) == student.SMALLEST_P


def test_holm_and_wilson_as_in_the_textbooks() -> None:
    assert intervals.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert intervals.holm([]).tolist() == []
    assert intervals.wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert intervals.wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert math.isnan(intervals.wilson(0, 0)[0])


def test_resamples_are_always_the_same_and_draw_as_many_blocks_as_there_are() -> None:
    weights = intervals.block_weights(7)
    assert weights.shape == (intervals.RESAMPLES, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert (weights == intervals.block_weights.__wrapped__(7)).all()


def test_a_single_block_has_no_interval() -> None:
    found = intervals.estimate_of(quantile_of_values(0.5, {1: np.array([1.0, 2.0, 3.0])}))
    assert found.value == 2
    assert not found.has_interval


@pytest.mark.parametrize("blocks", [5, 10])
def test_intervals_cover_the_truth(blocks: int) -> None:
    """A 95 % interval of a median, messages of a block sharing a mood: nominal is 5 % misses."""
    rng = np.random.default_rng(3)
    misses = 0
    for _ in range(300):
        values = {b: rng.lognormal(rng.normal(0, 0.1), 0.5, 40) for b in range(blocks)}
        found = intervals.estimate_of(quantile_of_values(0.5, values))
        misses += not found.lo <= 1.0 <= found.hi
    assert misses <= 24, f"{misses} of 300 intervals missed"


def test_the_tails_are_set_wider_for_few_blocks() -> None:
    """Hesterberg 2015, 4.3: cut at the normal's share beyond t (2.776) times the root of n/(n-1)."""
    values = np.array([-2.0, -1.0, 0.5, 1.0, 3.0])  # no logarithm
    draws = intervals.block_weights(5) @ values / 5
    found = intervals.estimate_of(Ratio((1, 2, 3, 4, 5), values, np.ones(5)))
    beyond = NormalDist().cdf(-2.7764 * math.sqrt(5 / 4))
    assert found.lo == np.quantile(draws, beyond, method="inverted_cdf")
    assert found.hi == np.quantile(draws, 1 - beyond, method="inverted_cdf")
    assert found.lo < np.quantile(draws, NormalDist().cdf(-2.7764), method="inverted_cdf")


def test_of_two_blocks_the_interval_is_that_of_t_on_the_logarithm() -> None:
    """Of e and e^3: mean 2 is not what is estimated, but their ratio's spread is, with the n/(n-1) of a variance."""
    values = np.array([math.e, math.e**3])
    draws = np.log(intervals.block_weights(2) @ values / 2)
    factor = math.exp(12.7062 * float(np.std(draws)) * math.sqrt(2))
    found = intervals.estimate_of(Ratio((1, 2), values, np.ones(2)))
    assert found.hi == pytest.approx(found.value * factor, rel=1e-3)
    assert found.lo == pytest.approx(found.value / factor, rel=1e-3)


def test_a_resample_without_a_number_widens_the_interval() -> None:
    rare = Ratio((1, 2, 3), np.array([1.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.0]))
    assert math.isnan(intervals.estimate_of(rare).lo)
    assert not intervals.estimate_of(rare).has_interval

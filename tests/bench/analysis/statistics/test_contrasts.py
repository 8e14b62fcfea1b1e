"""Two cells against each other: what a block shares cancels, errors are pooled, no cell lends precision it lacks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.analysis.statistics.contrasts import Field, fit, log_values, paired
from bench.analysis.statistics.estimators import Floats, Ratio, quantile_of_values


def of(values: Floats) -> Ratio:
    """A number with these values by block."""
    return Ratio(tuple(range(len(values))), values, np.ones(len(values)))


def test_pairing_removes_what_blocks_share() -> None:
    mood = np.array([1.0, 4.0, 9.0, 2.0, 16.0, 3.0])
    noise = np.array([1.00, 1.01, 0.99, 1.02, 0.98, 1.0])
    found = paired(of(1.2 * mood * noise), of(mood))
    assert found.ratio.value == pytest.approx(1.2, rel=0.02)
    assert found.ratio.lo > 1.1
    assert found.p < 0.01


def test_nothing_and_nothing_are_equal() -> None:
    """0 has no logarithm, but two cells that have 0 in every block are no open question."""
    assert paired(of(np.zeros(5)), of(np.zeros(5))).is_tie
    assert not paired(of(np.zeros(5)), of(np.ones(5))).is_tie


def test_two_cells_alone_are_the_paired_t_test() -> None:
    """By hand: five equal blocks but for the error of ln(a/b), 0.1, 0.2, 0.3, 0.2, 0.2."""
    logs = np.stack([np.array([0.1, 0.2, 0.3, 0.2, 0.2]), np.zeros(5)], axis=1)
    difference, error, df = fit(logs, [0, 0]).compared([0], [1])
    assert difference[0] == pytest.approx(0.2)
    assert error[0] == pytest.approx(math.sqrt(0.005 / 5))  # variance 0.02 / 4 over 5 blocks
    assert df[0] == 4


def test_equal_spreads_are_pooled() -> None:
    """Six alike cells: far more degrees of freedom than a pair has, and about the true error."""
    rng = np.random.default_rng(1)
    logs = rng.normal(0, 0.1, (500, 5, 6))
    _, errors, df = fit(logs, [0] * 6).compared([0], [1])
    assert df.mean() > 10
    assert math.sqrt(0.1**2 * 2 / 5) < np.sqrt((errors**2).mean()) < 1.25 * math.sqrt(0.1**2 * 2 / 5)


def test_a_quiet_cell_is_not_a_noisy_one_s_warrant() -> None:
    """Two noisy cells among quiet ones of their kind: their own error counts, and a quiet pair gets the pooled one."""
    rng = np.random.default_rng(2)
    logs = rng.normal(0, 1, (500, 9, 6)) * np.array([4, 4, 1, 1, 1, 1])
    noisy = fit(logs, [0] * 6).compared([0], [1])[1]
    quiet = fit(logs, [0] * 6).compared([2], [3])[1]
    truth = math.sqrt(16 * 2 / 9)
    assert np.median(noisy) > 0.8 * truth
    assert np.median(quiet) < 0.8 * np.median(noisy)


def test_kinds_with_a_spread_of_their_own_are_pooled_apart() -> None:
    rng = np.random.default_rng(3)
    logs = rng.normal(0, 1, (500, 5, 6)) * np.array([3, 3, 3, 1e-3, 1e-3, 1e-3])
    together = fit(logs, [0] * 6).variances[:, :3].mean()
    apart = fit(logs, ["pushed"] * 3 + ["pulled"] * 3).variances[:, :3].mean()
    assert together < 0.9 * 9 < 9 < apart * 1.1


def test_pseudo_values_keep_the_number_itself() -> None:
    rng = np.random.default_rng(4)
    number = quantile_of_values(0.99, {b: rng.lognormal(0, 1, 80) for b in range(5)})
    whole = float(number.at(np.ones((1, 5), np.int64))[0])
    assert log_values(number).mean() == pytest.approx(math.log(whole))


def test_only_common_blocks_are_compared() -> None:
    a = Ratio((1, 2, 3), np.array([2.0, 2.0, 100.0]), np.ones(3))
    b = Ratio((1, 2, 4), np.array([1.0, 1.0, 100.0]), np.ones(3))
    found = paired(a, b)
    assert (found.blocks, found.a, found.b, found.ratio.value) == (2, 2.0, 1.0, 2.0)


def test_equal_numbers_are_a_tie_even_among_noisy_ones() -> None:
    a = Ratio((1, 2, 3), np.array([3.0, 4.0, 5.0]), np.array([3.0, 4.0, 5.0]))
    noisy = Ratio((1, 2, 3), np.array([3.0, 9.0, 5.0]), np.array([3.0, 4.0, 5.0]))
    found = Field([a, a, noisy], [0, 0, 0]).contrast(0, 1)
    assert found.is_tie
    assert (found.ratio.value, found.ratio.lo, found.ratio.hi, found.p) == (1, 1, 1, 1)
    assert not Field([a, a, noisy], [0, 0, 0]).contrast(0, 2).is_tie


def test_a_difference_without_any_error_is_sure() -> None:
    found = paired(of(np.full(5, 3.0)), of(np.ones(5)))
    assert (found.ratio.lo, found.ratio.value, found.ratio.hi) == pytest.approx((3, 3, 3))
    assert found.p < 1e-9


def test_infinite_numbers_are_never_told_apart_from_each_other() -> None:
    never = quantile_of_values(0.5, {b: np.array([math.inf, math.inf]) for b in range(6)})
    soon = quantile_of_values(0.5, {b: np.array([1.0, 2.0]) for b in range(6)})
    assert math.isnan(paired(never, never).ratio.value)
    found = paired(never, soon)
    assert found.ratio.value == math.inf
    assert (found.p, found.ratio.has_interval) == (1.0, False)


def test_a_single_block_has_no_interval() -> None:
    found = paired(of(np.array([2.0])), of(np.array([1.0])))
    assert (found.ratio.value, found.p, found.ratio.has_interval, found.error) == (2.0, 1.0, False, math.inf)

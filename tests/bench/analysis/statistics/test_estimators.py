"""Quantiles and ratios of resampled blocks agree with the plain computation on the drawn values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.statistics import histogram
from bench.analysis.statistics.estimators import Ratio, quantile_of_counts, quantile_of_values
from clients.minima import MESSAGES_NEEDED

delays = st.lists(st.floats(0, 1e6) | st.just(float("inf")), min_size=1, max_size=30)


@given(blocks=st.lists(delays, min_size=1, max_size=5), data=st.data(), p=st.sampled_from(sorted(MESSAGES_NEEDED)))
def test_weighted_quantile_is_the_quantile_of_what_was_drawn(
    blocks: list[list[float]], data: st.DataObject, p: float
) -> None:
    drawn = data.draw(st.lists(st.integers(0, len(blocks) - 1), min_size=1, max_size=6))
    weights = np.bincount(drawn, minlength=len(blocks))[None, :]
    values = {k: np.array(block) for k, block in enumerate(blocks)}
    quantile = quantile_of_values(p, values, messages=dict.fromkeys(values, 1000))
    expanded = np.concatenate([values[k] for k in drawn])
    assert quantile.at(weights)[0] == np.quantile(expanded, p, method="inverted_cdf")


@given(blocks=st.lists(delays, min_size=1, max_size=4))
def test_a_quantile_of_counts_is_that_of_the_values_to_half_a_bin(blocks: list[list[float]]) -> None:
    values = {k: np.array(block) for k, block in enumerate(blocks)}
    counts = {}
    for k, block in values.items():
        finite = block[np.isfinite(block)]
        counts[k] = np.bincount(histogram.bins_of(finite), minlength=histogram.BINS)
        counts[k][histogram.NEVER_BIN] = len(block) - len(finite)
    weights = np.ones((1, len(values)), np.int64)
    messages = dict.fromkeys(values, 1000)
    counted = quantile_of_counts(0.95, histogram.values_ms(np.arange(histogram.BINS)), counts, messages).at(weights)[0]
    exact = quantile_of_values(0.95, values, messages).at(weights)[0]
    assert counted == pytest.approx(max(exact, histogram.FLOOR_MS), rel=0.000_51)


def test_bins_are_a_thousandth_wide_and_end() -> None:
    x = np.array([0.0, 0.0005, 0.001, 0.01, 1.0, 12.3, 999.0, 9e6])
    assert histogram.values_ms(histogram.bins_of(x))[2:] == pytest.approx(x[2:], rel=0.000_51)
    assert histogram.values_ms(histogram.bins_of(x))[:2] == pytest.approx(histogram.FLOOR_MS, rel=0.001)
    assert histogram.bins_of(np.array([1e12])) == histogram.NEVER_BIN - 1
    assert np.isinf(histogram.values_ms(np.array([histogram.NEVER_BIN])))


@pytest.mark.parametrize(("p", "needed"), [(0.95, 72), (0.99, 368)])
def test_a_percentile_that_the_sample_cannot_carry_is_empty(p: float, needed: int) -> None:
    one = np.ones((1, 2), np.int64)
    for messages, given_ in ((needed - 1, False), (needed, True)):
        values = {1: np.arange(10.0), 2: np.arange(float(messages - 10))}
        assert np.isfinite(quantile_of_values(p, values).at(one)[0]) == given_


def test_parts_of_the_blocks() -> None:
    ratio = Ratio((1, 2, 5), np.array([10.0, 20.0, 60.0]), np.array([1.0, 2.0, 2.0]))
    assert ratio.at(np.array([[1, 1, 1], [0, 2, 0]])).tolist() == [18.0, 10.0]
    assert ratio.on((2, 5)).at(np.array([[1, 1]])).tolist() == [20.0]
    assert np.isnan(ratio.at(np.array([[0, 0, 0]]))[0])
    quantile = quantile_of_values(0.5, {1: np.array([1.0]), 2: np.array([5.0, 7.0, 9.0])})
    assert quantile.on((2,)).at(np.array([[1]])).tolist() == [7.0]


def test_a_ratio_is_infinite_where_an_infinite_block_is_drawn_and_only_there() -> None:
    ratio = Ratio((1, 2), np.array([6.0, math.inf]), np.array([2.0, 2.0]))
    assert ratio.at(np.array([[1, 1], [2, 0], [0, 2]])).tolist() == [math.inf, 3.0, math.inf]

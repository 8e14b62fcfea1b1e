"""The search for the largest load that is still in time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.selfcost.stream_capacity import MOST_STEPS, STEP, Try, find_capacity, measure_delay_ms, steady_p99_ms


@pytest.mark.parametrize("bears", range(MOST_STEPS + 2))
def test_the_largest_number_is_found_within_four_tries(bears: int) -> None:
    tries: list[Try] = []
    found = find_capacity(lambda streams: 19.9 if streams <= bears * STEP else math.inf, tries.append)
    assert found == min(bears, MOST_STEPS) * STEP
    assert len(tries) <= 4
    assert all(STEP <= tried.streams <= MOST_STEPS * STEP for tried in tries)


def test_the_limit_itself_holds_and_no_number_does_not() -> None:
    assert Try(250, 20.0).holds
    assert not Try(250, 20.1).holds
    assert not Try(250, math.nan).holds


def test_only_the_time_in_which_all_streams_were_under_way_counts() -> None:
    due_ns = np.arange(0, 10_000_000_000, 10_000_000)  # ten seconds, a token every 10 ms
    late_ms = np.where((due_ns < 3e9) | (due_ns > 7e9), 500, 5)
    assert steady_p99_ms(due_ns, due_ns + late_ms * 1_000_000, ramp_s=3) == pytest.approx(5)
    assert steady_p99_ms(due_ns, due_ns + late_ms * 1_000_000, ramp_s=1) == pytest.approx(500)


def test_nothing_in_that_time_is_no_success() -> None:
    nothing = np.array([], np.int64)
    assert steady_p99_ms(nothing, nothing, 1) == math.inf
    one = np.array([7])
    assert steady_p99_ms(one, one, 1) == math.inf


def test_real_streams_have_a_delay_and_a_breakdown_is_infinite() -> None:
    assert 0 < measure_delay_ms("sse", streams=3, ramp_s=0.1, steady_s=0.3) < 10_000
    assert measure_delay_ms("pigeon", streams=1) == math.inf

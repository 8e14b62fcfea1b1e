"""The analysis can be measured."""

from __future__ import annotations

import pytest

from bench.selfcost.analysis_cost import measure_analysis


@pytest.mark.extra
def test_the_cost_of_the_analysis_can_be_measured() -> None:
    cost = measure_analysis(rows=20_000)
    assert cost.rows > 10_000
    assert cost.seconds > 0
    assert cost.peak_mib > 10

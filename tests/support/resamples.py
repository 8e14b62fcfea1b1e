"""Fewer resamples than a report takes: the tests' numbers do not need the last digit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.analysis.statistics import intervals


@pytest.fixture(scope="package", autouse=True)
def fewer_resamples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "RESAMPLES", 2000)
        intervals.block_weights.cache_clear()
        yield
    intervals.block_weights.cache_clear()

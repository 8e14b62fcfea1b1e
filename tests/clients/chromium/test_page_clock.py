"""The page's clock by round trips: never wrong by more than it says."""

from __future__ import annotations

import random

import pytest

from clients.chromium.page_clock import ClockJumped, PageClock, PageRoundTrip

OFFSET_NS = 5_000_000_000
GRAIN_MS = 0.1


def readings(there_ms: list[float], back_ms: list[float]) -> list[PageRoundTrip]:
    """Round trips of so long each way; the page sees its clock rounded down."""
    found = []
    for k, (there, back) in enumerate(zip(there_ms, back_ms, strict=True)):
        asked = 100.0 * k + random.random()
        ours_ns = round((asked + there) * 1e6) + OFFSET_NS
        found.append(PageRoundTrip(rounded(asked), ours_ns, rounded(asked + there + back)))
    return found


def rounded(ms: float) -> float:
    return ms // GRAIN_MS * GRAIN_MS


def test_the_error_is_a_bound_however_the_ways_differ() -> None:
    random.seed(4)
    for _ in range(200):
        slow = [random.expovariate(1) for _ in range(20)]
        quick = [random.uniform(0.01, 0.1) for _ in range(20)]
        there, back = (slow, quick) if random.random() < 0.5 else (quick, slow)
        clock = PageClock.of(readings(there, back), grain_ms=GRAIN_MS)
        assert abs(clock.offset_ns - OFFSET_NS) <= clock.error_ns
        assert abs(clock.ns(7.5) - (7_500_000 + OFFSET_NS)) <= clock.error_ns


def test_readings_together_are_surer_than_the_best_alone() -> None:
    """One was quick on the way there, another on the way back."""
    pair = readings([0.05, 3.0], [3.0, 0.05])
    together = PageClock.of(pair, grain_ms=GRAIN_MS).error_ns
    assert together < min(PageClock.of([each], grain_ms=GRAIN_MS).error_ns for each in pair) / 5


def test_a_clock_that_jumped_is_noticed() -> None:
    before, after = readings([0.1, 0.1], [0.1, 0.1])
    with pytest.raises(ClockJumped):
        PageClock.of([before, after._replace(ours_ns=after.ours_ns + 5_000_000)], grain_ms=GRAIN_MS)

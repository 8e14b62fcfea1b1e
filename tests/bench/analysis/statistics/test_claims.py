"""The one rule for a claim: each obstacle by itself, said with ratio and interval; nobody has a rule of their own."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bench.analysis.statistics import claims
from bench.analysis.statistics.claims import MIN_BLOCKS, Obstacle, Scale, fewer_arrived, judged, scale
from bench.analysis.statistics.contrasts import Contrast, contrast
from bench.analysis.statistics.intervals import Estimate

SURE = contrast(1.2, 1.0, 0.02, 12, 5)
UNSURE = contrast(1.2, 1.0, 0.2, 12, 5)
TIE = Contrast(3.0, 3.0, Estimate(1.0, 1.0, 1.0), 1.0, 5, error=0.0)
FEW = contrast(200.0, 1.0, 0.02, 12, 4)
INFINITE = Contrast(math.inf, 1.0, Estimate(math.inf), 1.0, 5)
LOSSY = Contrast(1.54, 1.46, Estimate(1.54 / 1.46), 1.0, 5)


@pytest.mark.parametrize(
    ("compared", "unit", "obstacle", "reason"),
    [
        (SURE, Scale(), None, ""),
        (contrast(0.8, 1.0, 0.02, 12, 5), Scale(), None, ""),
        (TIE, Scale(), Obstacle.EQUAL, ""),
        (FEW, Scale(), Obstacle.FEW_BLOCKS, "4 valid blocks, 5 needed"),
        (UNSURE, Scale(), Obstacle.CHANCE, "the difference could be chance: 1.20× (0.776–1.86)"),
        (SURE, Scale("ms", 0.5), Obstacle.HARNESS, "within the harness's error (0.5 ms): 1.20× (1.15–1.25)"),
        (contrast(1.009, 1, 0.0001, 12, 5), Scale(), Obstacle.SMALL, "a difference below 1 %: 1.01× (1.01–1.01)"),
        (INFINITE, Scale(), Obstacle.NO_NUMBER, "one of the two is not above zero, or infinite: no ratio to judge"),
        # Both are well: it is the blocks behind them that are not.
        (LOSSY, Scale(), Obstacle.NO_NUMBER, "in some blocks one of the two is not above zero"),
    ],
)
def test_what_stands_against_a_claim(compared: Contrast, unit: Scale, obstacle: Obstacle | None, reason: str) -> None:
    (finding,) = judged([(compared, unit)])
    assert finding.obstacle is obstacle
    assert finding.claimed == (obstacle is None)
    assert finding.reason.startswith(reason)


def test_a_family_is_judged_together() -> None:
    """Sure enough alone, not among so many; and the reason says among how many."""
    alone = contrast(1.2, 1.0, 0.06, 12, 5)
    assert judged([(alone, Scale())])[0].claimed
    findings = judged([(alone, Scale()), *[(UNSURE, Scale())] * 9])
    assert findings[0].obstacle is Obstacle.CORRECTION
    assert findings[0].reason.startswith("the difference could be chance among 10 comparisons: 1.2")


@pytest.mark.parametrize("other", [TIE, FEW, INFINITE])
def test_what_cannot_be_tested_takes_nothing_from_the_others(other: Contrast) -> None:
    assert judged([(SURE, Scale()), *[(other, Scale())] * 50])[0].adjusted_p == pytest.approx(SURE.p)


def test_latencies_have_a_floor_in_their_unit_and_costs_have_none() -> None:
    assert scale("delay_ms_p99", "ms") == Scale("ms", 1.3)
    assert scale("delay_ms_p50", "ms").error < scale("delay_ms_p95", "ms").error < scale("delay_ms_p99", "ms").error
    assert scale("cpu_us_per_token", "µs/token").error == 0


def test_fewer_arrived_only_if_more_than_chance_says_so() -> None:
    assert fewer_arrived(300, 400, 400, 400)
    assert not fewer_arrived(399, 400, 400, 400)


def test_nobody_else_decides() -> None:
    analysis = Path(claims.__file__).parents[1]
    deciding = ("holm(", "SMALLEST_EFFECT =", f"MIN_BLOCKS = {MIN_BLOCKS}", "MAX_P =")
    others = [path for path in analysis.rglob("*.py") if path.name not in ("claims.py", "intervals.py")]
    assert len(others) > 40
    found = [(path.name, word) for path in others for word in deciding if word in path.read_text("utf-8")]
    assert not found

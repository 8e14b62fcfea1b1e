"""The one rule for a claim: each obstacle by itself, and that nobody has a rule of their own."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bench.analysis import claims
from bench.analysis.claims import Obstacle, judged, noise_of
from bench.analysis.intervals import Contrast, Estimate


def contrast(ratio: float = 1.2, lo: float = 1.1, hi: float = 1.3, p: float = 0.001, blocks: int = 5) -> Contrast:
    return Contrast(ratio, 1.0, Estimate(ratio, lo, hi), p, blocks)


@pytest.mark.parametrize(
    ("compared", "noise", "obstacle"),
    [
        (contrast(), 0.05, None),
        (contrast(0.8, 0.7, 0.9), 0.05, None),
        (contrast(blocks=4), 0.05, Obstacle.FEW_BLOCKS),
        (contrast(), math.inf, Obstacle.NO_CONTROL),
        (contrast(lo=0.99), 0.05, Obstacle.CHANCE),
        (contrast(p=0.06), 0.05, Obstacle.CHANCE),
        (contrast(), math.log(1.21), Obstacle.NOISE),
        (contrast(1.009, 1.008, 1.0095), 0.0, Obstacle.NOISE),  # below 1 % nothing is claimed, however sure
    ],
)
def test_what_stands_against_a_claim(compared: Contrast, noise: float, obstacle: Obstacle | None) -> None:
    (finding,) = judged([(compared, noise)])
    assert finding.obstacle is obstacle
    assert finding.claimed == (obstacle is None)


def test_a_family_is_judged_together() -> None:
    """Three tests: Holm's first p of 0.02 counts as 0.06, and so do those behind it."""
    findings = judged([(contrast(p=p), 0.0) for p in (0.03, 0.02, 0.04)])
    assert [finding.adjusted_p for finding in findings] == pytest.approx([0.06, 0.06, 0.06])
    assert {finding.obstacle for finding in findings} == {Obstacle.CHANCE}


def test_the_noise_is_the_widest_that_a_control_allows() -> None:
    assert noise_of([contrast(1.0, 0.8, 1.1), contrast(1.0, 0.9, 1.05)]) == pytest.approx(-math.log(0.8))
    assert math.isinf(noise_of([]))


def test_nobody_else_decides() -> None:
    folder = Path(claims.__file__).parent
    deciding = (".excludes_one", ".exceeds(", "holm(", "log(1.01)", "half_width for")
    others = [path for path in folder.glob("*.py") if path.name not in ("claims.py", "intervals.py")]
    found = [(path.name, word) for path in others for word in deciding if word in path.read_text("utf-8")]
    assert not found

"""The one rule by which a difference is claimed, be it by a report, a comparison of runs or a reader's question (pure).

A difference is claimed only if nothing stands against it:
- there are MIN_BLOCKS blocks behind it,
- its p-value stays below 5 % after Holm's adjustment over the family: all pairs that can differ,
- it is larger than the harness's own error (HARNESS_ERROR), and than SMALLEST_EFFECT.

Where something does, the Obstacle says what, and `reason` says it in words, with the ratio and its interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from bench.analysis.statistics import intervals, student
from bench.analysis.statistics.contrasts import Contrast
from bench.analysis.statistics.estimators import Floats
from bench.analysis.statistics.wording import as_read, counted, times

Bools = NDArray[np.bool_]

MIN_BLOCKS = 5
MAX_P = 1 - intervals.LEVEL
SMALLEST_EFFECT = math.log(1.01)  # as Criterion's default noise threshold; a choice

# What the clients' stamps may be off by, in the column's unit: between two cells no smaller difference is the
# transports'. From sends with known times (docs/metrics.md, the golden clock): p50 45 to 70 µs, p99 0.5 to 1.3 ms. A
# p95 lies below the p99 and gets the lower end of that; so does an answer's waiting, the most that a token was late.
_P50_MS, _P95_MS, _P99_MS = 0.07, 0.5, 1.3
HARNESS_ERROR: dict[str, float] = {
    **{f"{name}_p50": _P50_MS for name in ("ttft_ms", "ttft_overhead_ms", "delay_ms", "itl_ms", "e2e_ms")},
    **{f"{name}_p95": _P95_MS for name in ("ttft_ms", "delay_ms", "itl_ms", "e2e_ms")},
    **{f"{name}_p99": _P99_MS for name in ("ttft_ms", "ttft_overhead_ms", "delay_ms", "itl_ms")},
    "wait_s_per_answer": _P95_MS / 1000,
}


class Obstacle(Enum):
    """What stands against a claim."""

    UNFIT_RUN = auto()
    EQUAL = auto()
    FEW_BLOCKS = auto()
    NO_NUMBER = auto()
    CHANCE = auto()
    CORRECTION = auto()
    HARNESS = auto()
    SMALL = auto()


_NOT_TESTED = (Obstacle.UNFIT_RUN, Obstacle.EQUAL, Obstacle.FEW_BLOCKS, Obstacle.NO_NUMBER)


@dataclass(frozen=True)
class JudgedContrast:
    """What became of one comparison: its p-value within the family, what stands against a claim, and in words."""

    contrast: Contrast
    adjusted_p: float
    obstacle: Obstacle | None
    reason: str = ""

    @property
    def claimed(self) -> bool:
        """Whether it may be called a difference."""
        return self.obstacle is None

    @property
    def is_open(self) -> bool:
        """Whether it was tested, and nothing was claimed."""
        return self.obstacle not in (None, *_NOT_TESTED)


@dataclass(frozen=True)
class Scale:
    """What a column's numbers are measured in, and the harness's own error in that unit."""

    unit: str = ""
    error: float = 0.0


def scale(column: str, unit: str) -> Scale:
    """The scale of a column of bench.analysis.measures.metrics."""
    return Scale(unit, HARNESS_ERROR.get(column, 0.0))


def judged(family: Sequence[tuple[Contrast, Scale]], unfit: str = "") -> list[JudgedContrast]:
    """Judge comparisons that belong together. Ties and pairs without blocks enough are not tested, and cost nothing.

    `unfit` says why the whole run allows no claim (`Measurements.unfit`).
    """
    if unfit:
        return [JudgedContrast(contrast, 1.0, Obstacle.UNFIT_RUN, unfit) for contrast, _ in family]
    tested = [place for place, (contrast, _) in enumerate(family) if _is_tested(contrast)]
    adjusted = dict(zip(tested, intervals.holm([family[place][0].p for place in tested]).tolist(), strict=True))
    found = []
    for place, (contrast, unit) in enumerate(family):
        p = adjusted.get(place, 1.0)
        obstacle = _obstacle(contrast, p, unit)
        found.append(JudgedContrast(contrast, p, obstacle, _reason(obstacle, contrast, unit, len(tested))))
    return found


def claimed_at_once(differences: Floats, errors: Floats, df: Floats) -> Bools:
    """The same for many made-up runs in one go (bench.analysis.simulation), which have no ties and no floors.

    Differences of ln, their standard errors and degrees of freedom have shape (runs, …); each run is a family.
    """
    p = student.two_sided_ps(differences / errors, df)
    adjusted = intervals.holm(p.reshape(len(p), -1)).reshape(p.shape)
    return np.asarray((adjusted <= MAX_P) & (np.abs(differences) > SMALLEST_EFFECT))


def _is_tested(contrast: Contrast) -> bool:
    return contrast.blocks >= MIN_BLOCKS and contrast.ratio.has_interval and not contrast.is_tie


def _obstacle(contrast: Contrast, adjusted_p: float, unit: Scale) -> Obstacle | None:
    checks = (
        (contrast.is_tie, Obstacle.EQUAL),
        (contrast.blocks < MIN_BLOCKS, Obstacle.FEW_BLOCKS),
        (not contrast.ratio.has_interval, Obstacle.NO_NUMBER),
        (contrast.p > MAX_P, Obstacle.CHANCE),
        (abs(contrast.a - contrast.b) <= unit.error, Obstacle.HARNESS),
        (adjusted_p > MAX_P, Obstacle.CORRECTION),
        (contrast.ratio.value > 0 and abs(math.log(contrast.ratio.value)) <= SMALLEST_EFFECT, Obstacle.SMALL),
    )
    return next((obstacle for stands, obstacle in checks if stands), None)


def _reason(obstacle: Obstacle | None, contrast: Contrast, unit: Scale, tested: int) -> str:
    """Why no difference is claimed, with the ratio and its interval; empty for a claim and for equal numbers."""
    ratio = times(contrast.ratio)
    error, measure = as_read(intervals.Estimate(unit.error), unit.unit)
    reasons = {
        Obstacle.FEW_BLOCKS: few_blocks(contrast.blocks),
        Obstacle.NO_NUMBER: f"{_where(contrast)}one of the two is not above zero, or infinite: no ratio to judge",
        Obstacle.CHANCE: f"the difference could be chance: {ratio}",
        Obstacle.CORRECTION: f"the difference could be chance among {counted(tested, 'comparison')}: {ratio}",
        Obstacle.HARNESS: f"within the harness's error ({error.value:g} {measure}): {ratio}",
        Obstacle.SMALL: f"a difference below 1 %: {ratio}",
    }
    return "" if obstacle is None else reasons.get(obstacle, "")


def _where(contrast: Contrast) -> str:
    """Two numbers that are well themselves may come from blocks that are not: one with lost messages, say."""
    return "in some blocks " if all(0 < value < math.inf for value in (contrast.a, contrast.b)) else ""


def few_blocks(blocks: int) -> str:
    """Too few blocks, in words."""
    return f"{counted(blocks, 'valid block')}, {MIN_BLOCKS} needed"


def fewer_arrived(whole: int, sent: int, of_best: int, sent_of_best: int) -> bool:
    """Whether fewer messages arrived whole than the best one's: Wilson's intervals do not overlap."""
    return intervals.wilson(whole, sent)[1] < intervals.wilson(of_best, sent_of_best)[0]

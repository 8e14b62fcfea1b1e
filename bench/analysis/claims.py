"""The one rule by which a difference is claimed, be it by a report, a comparison of runs or a reader's question (pure).

A difference is claimed only if nothing stands against it:
- there are MIN_BLOCKS blocks on both sides, and an A/A control (the same cell twice) that tells how equal cells differ,
- the 95 % interval of the ratio leaves out 1, and its p-value stays below 5 % after Holm's adjustment over the family,
- it is larger than any difference that the control's interval allows, and larger than SMALLEST_EFFECT.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from bench.analysis import intervals
from bench.analysis.groups import MeasuredCell
from bench.analysis.intervals import Contrast

MIN_BLOCKS = 5
SMALLEST_EFFECT = math.log(1.01)  # as Criterion's default noise threshold; a choice


class Obstacle(Enum):
    """What stands against a claim; the first two are the run's, the others the difference's own."""

    FEW_BLOCKS = auto()
    NO_CONTROL = auto()
    CHANCE = auto()
    NOISE = auto()


@dataclass(frozen=True)
class JudgedContrast:
    """What became of one comparison: its p-value within the family, and what stands against a claim."""

    adjusted_p: float
    obstacle: Obstacle | None

    @property
    def claimed(self) -> bool:
        """Whether it may be called a difference."""
        return self.obstacle is None


def judged(family: Sequence[tuple[Contrast, float]]) -> list[JudgedContrast]:
    """Judge comparisons that belong together, each with the noise between equal cells, |ln ratio|."""
    adjusted = intervals.holm([contrast.p for contrast, _ in family])
    return [
        JudgedContrast(p, _obstacle(contrast, p, noise)) for (contrast, noise), p in zip(family, adjusted, strict=True)
    ]


def _obstacle(contrast: Contrast, adjusted_p: float, noise: float) -> Obstacle | None:
    if contrast.blocks < MIN_BLOCKS:
        return Obstacle.FEW_BLOCKS
    if math.isinf(noise):
        return Obstacle.NO_CONTROL
    if not contrast.excludes_one or adjusted_p > 1 - intervals.LEVEL:
        return Obstacle.CHANCE
    return None if contrast.exceeds(smallest_claim(noise)) else Obstacle.NOISE


def smallest_claim(noise: float) -> float:
    """The |ln ratio| that a difference must exceed where equal cells differ by up to `noise`."""
    return max(noise, SMALLEST_EFFECT)


def noise_of(controls: Iterable[Contrast]) -> float:
    """The largest |ln ratio| of two equal cells that these comparisons allow; infinite without any."""
    return max((contrast.half_width for contrast in controls), default=math.inf)


def control_pairs(cells: Iterable[MeasuredCell]) -> list[tuple[MeasuredCell, MeasuredCell]]:
    """Each A/A control that has valid blocks, and what it is the copy of."""
    measured = {cell.key: cell for cell in cells if cell.blocks}
    controls = [cell for key, cell in measured.items() if key.is_control and key.original in measured]
    return [(control, measured[control.key.original]) for control in controls]

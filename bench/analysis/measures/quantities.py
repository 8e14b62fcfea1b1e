"""Numbers with their units as people read them (wording.as_read), and no unit that repeats its number's name (pure).

What has no unit of its own is counted.
"""

from __future__ import annotations

from bench.analysis.measures.metrics import METRICS
from bench.analysis.statistics.intervals import Estimate
from bench.analysis.statistics.wording import as_read, interval, with_unit

_COUNTED = ("requests/message", "connections/message")


def unit_of(column: str) -> str:
    """The unit that stands behind a number of `column`: "%" for a share, none where the column's name has it all."""
    unit = METRICS[column].unit if column in METRICS else ""
    return "" if unit in _COUNTED else as_read(Estimate(0.0), unit)[1]


def as_shown(found: Estimate, column: str) -> Estimate:
    """`found` in the unit of `unit_of`."""
    return as_read(found, METRICS[column].unit)[0] if column in METRICS else found


def quantity(value: float, column: str) -> str:
    """A value of `column` with its unit: "800 ms", "99 %"."""
    return with_unit(as_shown(Estimate(value), column).value, unit_of(column))


def interval_bounds(found: Estimate, column: str) -> str:
    """Its interval alone, in the same unit, which is not repeated; empty without one."""
    return interval(as_shown(found, column))

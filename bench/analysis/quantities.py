"""Numbers with their units as people read them: shares in percent, no unit that repeats its number's name (pure).

What has no unit of its own is counted.
"""

from __future__ import annotations

from bench.analysis.intervals import Estimate
from bench.analysis.metrics import METRICS
from bench.analysis.wording import interval, with_unit

_SHARE, _COUNTED = "share", ("requests/message", "connections/message")


def unit_of(column: str) -> str:
    """The unit that stands behind a number of `column`: "%" for a share, none where the column's name has it all."""
    unit = METRICS[column].unit if column in METRICS else ""
    return "%" if unit == _SHARE else "" if unit in _COUNTED else unit


def as_shown(found: Estimate, column: str) -> Estimate:
    """`found` in the unit of `unit_of`."""
    return found.times(100) if column in METRICS and METRICS[column].unit == _SHARE else found


def quantity(value: float, column: str) -> str:
    """A value of `column` with its unit: "800 ms", "99 %"."""
    return with_unit(as_shown(Estimate(value), column).value, unit_of(column))


def bounds(found: Estimate, column: str) -> str:
    """Its interval alone, in the same unit, which is not repeated; empty without one."""
    return interval(as_shown(found, column))

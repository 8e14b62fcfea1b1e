"""Numbers as people set them: the roundest that what was seen allows (pure)."""

from __future__ import annotations

import math

_COARSE = (86_400, 43_200, 21_600, 7200, 3600, 1800, 900, 600, 300, 60, 30, 10, 5)

MILLISECONDS = (1000.0, 500.0, 250.0, 100.0, 50.0, 25.0, 10.0, 5.0)
"""The steps of times that are set in milliseconds."""


def roundest(low: float, high: float, coarse: tuple[float, ...] = _COARSE) -> float:
    """The roundest number from `low` to `high`: whoever configured the real one chose such a one, probably.

    coarse: steps above 1 that people take, of seconds

    >>> roundest(59.2, 60.4), roundest(3598, 3604), roundest(2.74, 2.77), roundest(7, 7)
    (60.0, 3600.0, 2.75, 7.0)
    """
    if not low < high:
        return high
    steps = [*coarse, *(m * 10.0**e for e in range(0, -7, -1) for m in (2.5, 1, 0.5))]
    for step in sorted(set(steps), reverse=True):
        number = math.ceil(low / step - 1e-9) * step
        if 0 < number <= high:
            return round(number, 9)
    return high

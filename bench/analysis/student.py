"""Student's t distribution for whole degrees of freedom (pure).

The finite series of Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 (odd) and 26.7.4 (even).
"""

from __future__ import annotations

import math
from functools import lru_cache

SMALLEST_P = 1e-12  # below this, the sum's rounding is all that is left


def two_sided_p(t: float, df: int) -> float:
    """The probability of a |T| of at least `|t|` with `df` >= 1 degrees of freedom, 1 for a NaN."""
    if math.isnan(t):
        return 1.0
    angle = math.atan2(abs(t), math.sqrt(df))
    cosine = math.cos(angle)
    odd = df % 2
    term = cosine if odd else 1.0
    series = term if df > 1 else 0.0
    for k in range(2, df - 1, 2):
        term *= cosine**2 * (k / (k + 1) if odd else (k - 1) / k)
        series += term
    series *= math.sin(angle)
    inside = 2 / math.pi * (angle + series) if odd else series
    return max(1.0 - inside, SMALLEST_P)


@lru_cache
def quantile(level: float, df: int) -> float:
    """The t with `P(|T| <= t) = level`, e.g. 2.776 for 0.95 and 4 degrees of freedom."""
    low, high = 0.0, 1e12
    while high - low > 1e-9 * (1 + high):
        middle = (low + high) / 2
        if two_sided_p(middle, df) > 1 - level:
            low = middle
        else:
            high = middle
    return high

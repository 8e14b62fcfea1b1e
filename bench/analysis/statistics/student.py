"""Student's t distribution for whole degrees of freedom (pure).

The finite series of Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 (odd) and 26.7.4 (even).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

SMALLEST_P = 1e-12  # below this, the sum's rounding is all that is left


def two_sided_p(t: float, df: int) -> float:
    """The probability of a |T| of at least `|t|` with `df` >= 1 degrees of freedom, 1 for a NaN."""
    return float(two_sided_ps(t, df))


def two_sided_ps(t: ArrayLike, df: ArrayLike) -> NDArray[np.float64]:
    """The same for arrays; degrees of freedom are rounded down, which makes a claim harder."""
    ts, dfs = np.broadcast_arrays(np.abs(np.asarray(t, float)), np.floor(np.asarray(df, float)))
    p = np.ones(ts.shape)
    for freedom in np.unique(dfs):
        of_it = dfs == freedom
        p[of_it] = _tails(ts[of_it], int(freedom))
    return np.where(np.isnan(ts), 1.0, p)


def _tails(t: NDArray[np.float64], df: int) -> NDArray[np.float64]:
    angle = np.arctan2(t, np.sqrt(df))
    cosine = np.cos(angle)
    odd = df % 2
    term = cosine if odd else np.ones_like(cosine)
    series = term if df > 1 else np.zeros_like(cosine)
    for k in range(2, df - 1, 2):
        term = term * cosine**2 * (k / (k + 1) if odd else (k - 1) / k)
        series = series + term
    series = series * np.sin(angle)
    inside = 2 / np.pi * (angle + series) if odd else series
    return np.maximum(1.0 - inside, SMALLEST_P)


@lru_cache(maxsize=1024)
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

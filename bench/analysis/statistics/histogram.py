"""Delays counted in bins so fine that a quantile read from them is exact to 0.05 % (pure).

Bin k holds delays from `FLOOR_MS * 1.001**k` to 0.1 % more, and stands for the middle; bin 0 also takes whatever is
smaller (a delay of a microsecond is none), the last bin whatever never arrived.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RELATIVE_WIDTH = 0.001
FLOOR_MS = 0.001
CEILING_MS = 1e7  # 2.8 hours; more is counted as this
FINITE_BINS = int(np.ceil(np.log(CEILING_MS / FLOOR_MS) / np.log1p(RELATIVE_WIDTH)))
NEVER_BIN = FINITE_BINS  # the bin of what never arrived
BINS = FINITE_BINS + 1


def bins_of(delay_ms: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each finite delay."""
    scaled = np.log(np.maximum(delay_ms, FLOOR_MS) / FLOOR_MS) / np.log1p(RELATIVE_WIDTH)
    bins: NDArray[np.int64] = np.minimum(scaled.astype(np.int64), FINITE_BINS - 1)
    return bins


def values_ms(bins: NDArray[np.int64]) -> NDArray[np.float64]:
    """The delay that each bin stands for; infinite for `NEVER_BIN`."""
    middle = FLOOR_MS * (1 + RELATIVE_WIDTH) ** (bins + 0.5)
    return np.where(bins == NEVER_BIN, np.inf, middle)

"""Which messages kept what the plan's `[slo.message]` asks of a single one (pure). Their share is the goodput."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

Limits = Mapping[str, float]
"""By the name of a message's column (bench.slo.MessageLimits), what it may be at most, on the run's clock."""


def within(messages: pd.DataFrame, limits: Mapping[str, Limits]) -> pd.Series[float]:
    """1 for each message that arrived whole and kept all limits of its cell, 0 for others; NaN where there are none.

    What a message has no value of (a single token has no gap) cannot exceed its limit.
    """
    good = pd.Series(math.nan, messages.index, float)
    for cell, wanted in limits.items():
        of_cell = messages[messages["cell"] == cell]
        kept = of_cell["completed"].astype(bool)
        for name, limit in wanted.items():
            kept &= ~(of_cell[name].astype(float) > limit)
        good[of_cell.index] = kept.astype(float)
    return good

"""Which messages kept what the plan's `[slo.message]` asks of a single one (pure). Their share is the goodput."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from bench.store import Run

Limits = Mapping[str, float]
"""By the name of a message's column, what it may be at most."""

PER_MESSAGE = ("ttft_ms", "ttft_overhead_ms", "tpot_ms", "e2e_ms", "wait_s")
"""What can be limited message by message: columns of bench.analysis.per_message, and times all."""


def limits_of(run: Run) -> dict[str, Limits]:
    """The limits of each cell, by its name, on the run's clock: a plan's times are real ones."""
    slo = run.plan.get("slo")
    table = slo.get("message") if isinstance(slo, Mapping) else None
    given = {name: value for name, value in table.items() if value is not None} if isinstance(table, Mapping) else {}
    limits = {name: float(given[name]) / run.time_scale for name in PER_MESSAGE if name in given}
    return {cell.cell: limits for cell in run.cells} if limits else {}


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

"""Why a number is not there, in words: what the tables show as a dash, and documents as null, has its reason."""

from __future__ import annotations

import math

from bench.analysis.measures.groups import MeasuredCell
from bench.analysis.measures.metrics import COUNTS, METRICS, estimate, estimator
from bench.analysis.statistics.estimators import Quantile
from bench.analysis.statistics.intervals import Estimate
from bench.analysis.statistics.wording import counted
from clients.minima import MESSAGES_NEEDED

BLOCKS_FOR_INTERVAL = 2
OF_DUE = frozenset(
    {
        *(f"{what}_ms_p{p}" for what in ("ttft_overhead", "delay", "lag", "transit") for p in (50, 95, 99)),
        *("wait_s_per_answer", "burst_emitted_mean", "catch_up_ms_p50"),
    }
)
"""Numbers that are measured against the model's own times."""
OVER_BASELINE = "cpu_us_per_token_over_baseline"
INFINITE = "infinite: a failed message counts as infinitely late"


def why_no_value(cell: MeasuredCell, column: str) -> str:
    """Why the cell has no number in `column`; empty if it has one, be it infinite."""
    if not cell.blocks:
        reasons = sorted({reason for record in cell.records for reason in record.reasons})
        return "no valid block" + (f": {reasons[0]}" if reasons else "")
    if column in COUNTS or not math.isnan(estimate(cell, column).value):
        return ""
    if column in OF_DUE and not cell.has_due:
        return "nobody tells when this endpoint's model made its tokens"
    made = estimator(cell, column)
    if isinstance(made, Quantile):
        return _too_few(int(made.messages.sum()), made.p)
    if column == OVER_BASELINE and not math.isnan(estimate(cell, "cpu_us_per_token").value):
        return "there is no baseline (blocking) to take off in its group"
    return "not measured in this run"


def _too_few(messages: int, p: float) -> str:
    if not messages:
        return "no message of this cell has it"
    return f"a p{100 * p:g} takes {counted(MESSAGES_NEEDED[p], 'message')}, this cell has {messages}"


def why_no_interval(cell: MeasuredCell, found: Estimate) -> str:
    """Why a number has no interval at all; empty if it has one, be it open on one side."""
    if not (math.isnan(found.lo) and math.isnan(found.hi)):
        return ""
    if len(cell.blocks) < BLOCKS_FOR_INTERVAL:
        return f"{counted(len(cell.blocks), 'valid block')} and so no interval; it takes {BLOCKS_FOR_INTERVAL}"
    return "no interval"


def why_not_finite(cell: MeasuredCell, column: str) -> str:
    """Why one of value, lo and hi of a metric is no finite number; empty if all are."""
    if column not in METRICS:
        return ""
    found = estimate(cell, column) if cell.blocks else Estimate(math.nan)
    if reason := why_no_value(cell, column) or why_no_interval(cell, found):
        return reason if math.isfinite(found.value) or math.isnan(found.value) else f"{INFINITE}; {reason}"
    if math.isinf(found.value):
        return INFINITE
    open_ends = [name for name, bound in (("lo", found.lo), ("hi", found.hi)) if not math.isfinite(bound)]
    return f"{' and '.join(open_ends)} {INFINITE}, and some resamples have too many" if open_ends else ""

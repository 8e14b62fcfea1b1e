"""Which messages kept the plan's limits (pure). Their share is the goodput.

A limit is a number that no message may exceed: of its time to first token, its end-to-end latency and so on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import pandas as pd

PER_MESSAGE = ("ttft_ms", "ttft_overhead_ms", "e2e_ms", "tpot_ms", "wait_s", "recovery_ms", "drops")
"""What can be limited message by message; each is a column of bench.analysis.per_message or of streams.parquet."""

_OF_A_QUANTILE = re.compile(r"_p\d\d\Z")


def limits_of(plan: Mapping[str, object]) -> dict[str, float]:
    """The limits per message that a plan's `[slo]` table implies: `ttft_ms_p95 = 800` wants 800 ms of a message.

    Keys that are about no single message (`completed_ratio`, `delay_ms_p99`) say nothing here.
    """
    table = plan.get("slo")
    limits: dict[str, float] = {}
    for key, value in table.items() if isinstance(table, Mapping) else ():
        name = _OF_A_QUANTILE.sub("", str(key))
        if name in PER_MESSAGE and isinstance(value, int | float):
            limits[name] = min(float(value), limits.get(name, math.inf))
    return limits


def within(messages: pd.DataFrame, limits: Mapping[str, float]) -> pd.Series[float]:
    """1 for each message that arrived whole and kept every limit, else 0; NaN if there is no limit.

    What a message has no value of (a single token has no gap) cannot exceed its limit.
    """
    if not limits:
        return pd.Series(math.nan, messages.index, float)
    kept = messages["completed"]
    for name, limit in limits.items():
        kept = kept & ~(messages[name].astype(float) > limit)
    return kept.astype(float)

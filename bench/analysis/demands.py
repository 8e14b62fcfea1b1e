"""What a run's plan demands of its cells, read back from `run.json`; and which messages keep what single ones must.

It knows nothing of how numbers are made, so that they may be made with it (goodput).
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pandas as pd

from bench.plan import Cell
from bench.slo import MessageLimits, checked, message_limits, scaled
from bench.store import Run, StoreError
from bench.table_checks import PlanError


class _Demands(msgspec.Struct):
    """What a run's plan says of limits."""

    slo: dict[str, Any] = {}
    slos: dict[str, dict[str, Any]] = {}
    cells: list[Cell] = []


def demands(run: Run) -> dict[str, dict[str, Any]]:
    """The SLO of each cell by its name, as the plan has it; nothing where it has none. Raises StoreError."""
    if not (run.plan.get("slo") or run.plan.get("slos")):
        return {}  # whatever else an older or newer version's plan may hold
    try:
        plan = msgspec.convert(run.plan, _Demands)
        slo = checked(plan.slo, "[slo]")
        slos = {name: checked(table, f"[slos.{name}]") for name, table in plan.slos.items()}
    except (msgspec.ValidationError, PlanError) as error:
        raise StoreError(f"run.json is damaged: plan: {error}") from error
    return {cell.key: slos.get(cell.slo, {}) if cell.slo else slo for cell in plan.cells}


def within_slo(messages: pd.DataFrame, run: Run) -> pd.Series[float]:
    """1 for each message that is good by its cell's `[slo.message]`, else 0; NaN where the cell has none.

    `messages` are rows of streams.parquet with the columns of bench.analysis.per_message. Raises StoreError.
    """
    found = pd.Series(math.nan, messages.index, float)
    for cell, given in message_limits_of(run).items():
        of_cell = messages["cell"] == cell
        found[of_cell] = good_messages(messages[of_cell], given, run.time_scale).astype(float)
    return found


def good_messages(messages: pd.DataFrame, given: MessageLimits, time_scale: float = 1.0) -> pd.Series[bool]:
    """Which messages are complete and within every limit; a single token has no time per output token to exceed."""
    good = messages["completed"].astype(bool)
    for name, limit in msgspec.structs.asdict(given).items():
        if limit is not None:
            good &= ~(messages[name] > scaled(name, limit, time_scale))
    return good


def message_limits_of(run: Run) -> dict[str, MessageLimits]:
    """The limits on single messages by the cell's name; cells without any are left out. Raises StoreError."""
    found = {name: message_limits(table) for name, table in demands(run).items()}
    return {name: given for name, given in found.items() if given is not None}

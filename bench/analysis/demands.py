"""What a run's plan demands of its cells, read back from `run.json`; and which messages keep what single ones must.

It knows nothing of how numbers are made, so that they may be made with it (goodput).
"""

from __future__ import annotations

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


def good_messages(messages: pd.DataFrame, given: MessageLimits, time_scale: float = 1.0) -> pd.Series[bool]:
    """Which rows of `MeasuredCell.messages` are complete and within the limits of `[slo.message]`, for goodput."""
    good = messages["completed"].astype(bool)
    for name, limit in msgspec.structs.asdict(given).items():
        if limit is not None:
            good &= _MESSAGE_TIMES[name](messages) <= scaled(name, limit, time_scale)
    return good


_MESSAGE_TIMES = {
    "ttft_ms": lambda messages: messages["ttft_ms"],
    "tpot_ms": lambda messages: messages["client_span_ms"] / (messages["tokens_expected"] - 1).clip(lower=1),
    "e2e_ms": lambda messages: (messages["end_ns"] - messages["intended_start_ns"]) / 1e6,
}


def message_limits_of(run: Run) -> dict[str, MessageLimits]:
    """The limits on single messages by the cell's name; cells without any are left out. Raises StoreError."""
    found = {name: message_limits(table) for name, table in demands(run).items()}
    return {name: given for name, given in found.items() if given is not None}

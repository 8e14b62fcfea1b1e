"""What a run's plan demands of its cells, and of single messages, read back from `run.json`.

It knows nothing of how numbers are made, so that they may be made with it (goodput).
"""

from __future__ import annotations

from typing import Any

import msgspec

from bench.plan import Cell
from bench.run_record import Run
from bench.slo import checked_slo, message_limits, scaled
from bench.store import StoreError
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
        slo = checked_slo(plan.slo, "[slo]")
        slos = {name: checked_slo(table, f"[slos.{name}]") for name, table in plan.slos.items()}
    except (msgspec.ValidationError, PlanError) as error:
        raise StoreError(f"run.json is damaged: plan: {error}") from error
    return {cell.key: slos.get(cell.slo, {}) if cell.slo else slo for cell in plan.cells}


def message_limits_of(run: Run) -> dict[str, dict[str, float]]:
    """The limits on single messages by the cell's name, as the run's clock has them; cells without any are left out.

    Raises StoreError.
    """
    found = {name: message_limits(table) for name, table in demands(run).items()}
    return {
        cell: {name: scaled(name, limit, run.time_scale) for name, limit in given.items()}
        for cell, given in found.items()
        if given
    }

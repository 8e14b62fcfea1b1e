"""Whether a run keeps what its plan demands: each limit against the interval of the number that it is set to.

A limit is met only where the whole interval keeps it, and unmet where none of it does. In between the run shows neither
("not shown"), and where there is no interval, or no valid cell, nobody can know ("unknown"). Only what is met passes: a
run that is too small must not open a gate. What is counted (drops, lost tokens) has no interval and is as it is; so is
a share of 1, which no sample could show: every message of the run was good.

The A/A controls are not judged: they are there for the method, and would double each chance of a false alarm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import pandas as pd

from bench.analysis.groups import Key, MeasuredCell, Measurements
from bench.analysis.intervals import Estimate
from bench.analysis.metrics import COUNTS, METRICS, estimate
from bench.analysis.missing import why_no_interval, why_no_value
from bench.analysis.wording import interval, percent, with_unit
from bench.plan import Cell
from bench.slo import LARGER_IS_BETTER, MessageLimits, checked, limits, message_limits, scaled
from bench.store import Run, StoreError
from bench.table_checks import PlanError

Outcome = Literal["met", "unmet", "not shown", "unknown"]


@dataclass(frozen=True)
class Gate:
    """One limit on one number of one cell, and what became of it; `limit` and `found` are times of the run's clock.

    `reason` says why it is unknown, and is empty otherwise.
    """

    key: Key
    column: str
    limit: float
    found: Estimate
    outcome: Outcome
    reason: str = ""

    @property
    def unit(self) -> str:
        """The unit of limit and number; empty for what is counted."""
        return METRICS[self.column].unit if self.column in METRICS else ""

    @property
    def demand(self) -> str:
        """The limit in words, e.g. "ttft_ms_p95 at most 800 ms"."""
        bound = "at least" if self.column in LARGER_IS_BETTER else "at most"
        return f"{self.column} {bound} {self._shown(self.limit)}"

    @property
    def finding(self) -> str:
        """The number beside the limit, and by how much it is beyond; or why there is none."""
        if self.outcome == "unknown":
            return self.reason
        between = interval(self.found.times(self._factor))
        value = self._shown(self.found.value) + (f" (95 % interval {between})" if between else "")
        if self.outcome == "not shown":
            return f"it is {value}, and the interval reaches to both sides of the limit; more blocks narrow it"
        return f"it is {value}" + (f", {self._distance}" if self.outcome == "unmet" else "")

    @property
    def sentence(self) -> str:
        """What became of it, in one line: which number of which cell, and by how much."""
        return f"{self.outcome}: {self.key.title}, {self.demand}: {self.finding}"

    @property
    def _distance(self) -> str:
        away = abs(self.found.value - self.limit)
        side = "below" if self.found.value < self.limit else "above"
        if self.unit == "share":
            return f"{with_unit(100 * away, 'percentage points')} {side} the limit"
        relative = f" ({percent(math.log1p(away / self.limit))})" if self.limit > 0 and math.isfinite(away) else ""
        return f"{self._shown(away)}{relative} {side} the limit"

    @property
    def _factor(self) -> float:
        return 100 if self.unit == "share" else 1

    def _shown(self, value: float) -> str:
        return with_unit(value * self._factor, "%" if self.unit == "share" else self.unit)


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


def gates(measured: Measurements) -> list[Gate]:
    """Every limit of the plan, judged, in the order of the cells. Raises StoreError if the plan's are damaged."""
    wanted = demands(measured.run)
    judged = (cell for cell in measured.cells if not cell.key.is_control)
    return [gate for cell in judged for gate in _of_cell(cell, wanted, measured.run.time_scale)]


def _of_cell(cell: MeasuredCell, wanted: Mapping[str, Mapping[str, Any]], time_scale: float) -> Iterator[Gate]:
    for column, limit in limits(wanted.get(cell.records[0].cell, {})).items():
        yield _judged(cell, column, scaled(column, limit, time_scale))


def passed(judged: Iterable[Gate]) -> bool:
    """Whether every limit is met."""
    return all(gate.outcome == "met" for gate in judged)


def not_met(judged: Iterable[Gate]) -> list[Gate]:
    """Those that are not met, the unmet ones first."""
    order: Sequence[Outcome] = ("unmet", "not shown", "unknown")
    return sorted((gate for gate in judged if gate.outcome != "met"), key=lambda gate: order.index(gate.outcome))


def _judged(cell: MeasuredCell, column: str, limit: float) -> Gate:
    found = _found(cell, column)
    reason = why_no_value(cell, column)
    if not reason and not cell.is_valid:
        reason = f"only {len(cell.blocks)} of its {len(cell.records)} blocks are valid"
    if not reason and not _is_exact(column, limit):
        reason = why_no_interval(cell, found)
    if reason:
        return Gate(cell.key, column, limit, found, "unknown", reason)
    exact = _is_exact(column, limit)
    lo, hi = (found.value, found.value) if exact else (_or(found.lo, -math.inf), _or(found.hi, math.inf))
    return Gate(cell.key, column, limit, found, _outcome(column, limit, lo, hi))


def _found(cell: MeasuredCell, column: str) -> Estimate:
    return Estimate(float(cell.messages[column].sum())) if column in COUNTS else estimate(cell, column)


def _is_exact(column: str, limit: float) -> bool:
    return column in COUNTS or (column in LARGER_IS_BETTER and limit == 1)


def _or(bound: float, otherwise: float) -> float:
    return otherwise if math.isnan(bound) else bound


def _outcome(column: str, limit: float, lo: float, hi: float) -> Outcome:
    if column in LARGER_IS_BETTER:
        return "met" if lo >= limit else "unmet" if hi < limit else "not shown"
    return "met" if hi <= limit else "unmet" if lo > limit else "not shown"


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

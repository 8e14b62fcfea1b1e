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
from dataclasses import dataclass, replace
from typing import Any, Literal

from bench.analysis.measures.demands import demands
from bench.analysis.measures.groups import Key, MeasuredCell, Measurements
from bench.analysis.measures.metrics import COUNTS, METRICS, estimate
from bench.analysis.measures.missing import why_no_interval, why_no_value
from bench.analysis.measures.quantities import interval_bounds, quantity, unit_of
from bench.analysis.statistics.intervals import Estimate
from bench.analysis.statistics.wording import number, percent, with_unit
from bench.slo import LARGER_IS_BETTER, cell_limits, scaled

GateOutcome = Literal["met", "unmet", "not shown", "unknown"]

TIMES = 10  # from so many times the limit on, percentages are no help
_NONE = Estimate(math.nan)
_SHARES = {"completed_ratio": "completed", "goodput_ratio": "within_slo"}  # by the column of the messages


@dataclass(frozen=True)
class Gate:
    """One limit on one number of one cell, and what became of it; `limit` and `found` are times of the run's clock.

    `reason` says why it is unknown, and is empty otherwise.
    """

    key: Key
    column: str
    limit: float
    found: Estimate
    outcome: GateOutcome
    reason: str = ""

    @property
    def is_exact(self) -> bool:
        """Whether it is about what this run counted, and not about what its sample shows."""
        return self.column in COUNTS or (self.column in LARGER_IS_BETTER and self.limit == 1)

    @property
    def demand(self) -> str:
        """The limit in words, e.g. "ttft_ms_p95 at most 800 ms"."""
        bound = "at least" if self.column in LARGER_IS_BETTER else "at most"
        return f"{self.column} {bound} {quantity(self.limit, self.column)}"

    @property
    def finding(self) -> str:
        """The number beside the limit, and by how much it is beyond; or why there is none."""
        if self.outcome == "unknown":
            return self.reason
        between = "" if self.is_exact else interval_bounds(self.found, self.column)
        value = quantity(self.found.value, self.column) + (f" (95 % interval {between})" if between else "")
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
        if unit_of(self.column) == "%":
            return f"{with_unit(100 * away, 'percentage points')} {side} the limit"
        if self.limit > 0 and TIMES <= self.found.value / self.limit < math.inf:
            return f"{number(self.found.value / self.limit)} times the limit"
        relative = f" ({percent(math.log1p(away / self.limit))})" if self.limit > 0 and math.isfinite(away) else ""
        return f"{quantity(away, self.column)}{relative} {side} the limit"


def gates(measured: Measurements) -> list[Gate]:
    """Every limit of the plan, judged, in the order of the cells. Raises StoreError if the plan's are damaged."""
    wanted = demands(measured.run)
    judged = (cell for cell in measured.cells if not cell.key.is_control)
    return [gate for cell in judged for gate in _of_cell(cell, wanted, measured.run.time_scale)]


def _of_cell(cell: MeasuredCell, wanted: Mapping[str, Mapping[str, Any]], time_scale: float) -> Iterator[Gate]:
    for column, limit in cell_limits(wanted.get(cell.records[0].cell, {})).items():
        yield _judged(cell, column, scaled(column, limit, time_scale))


def passed(judged: Iterable[Gate]) -> bool:
    """Whether every limit is met."""
    return all(gate.outcome == "met" for gate in judged)


def ordered(judged: Iterable[Gate]) -> list[Gate]:
    """The unmet ones first, the met ones last."""
    order: Sequence[GateOutcome] = ("unmet", "not shown", "unknown", "met")
    return sorted(judged, key=lambda gate: order.index(gate.outcome))


def not_met(judged: Iterable[Gate]) -> list[Gate]:
    """Those that are not met, the unmet ones first."""
    return [gate for gate in ordered(judged) if gate.outcome != "met"]


def _judged(cell: MeasuredCell, column: str, limit: float) -> Gate:
    """Start from the gate that nobody can judge, and drop the reasons one by one."""
    gate = Gate(cell.key, column, limit, estimate(cell, column) if column in METRICS else _NONE, "unknown")
    gate = replace(gate, found=_counted(cell, column)) if gate.is_exact else gate
    reason = why_no_value(cell, column)
    if not reason and not cell.is_valid:
        reason = cell.apart or f"only {len(cell.blocks)} of its {len(cell.records)} blocks are valid"
    if not reason and not gate.is_exact:
        reason = why_no_interval(cell, gate.found)
    return replace(gate, reason=reason) if reason else replace(gate, outcome=_outcome(gate))


def _counted(cell: MeasuredCell, column: str) -> Estimate:
    """What happened in this run: in blocks that no number rests on, since a rival was void there, it did as well."""
    messages = cell.valid_messages
    return Estimate(float(messages[_SHARES[column]].mean() if column in _SHARES else messages[column].sum()))


def _outcome(gate: Gate) -> GateOutcome:
    lo, hi = (gate.found.value, gate.found.value) if gate.is_exact else (gate.found.lo, gate.found.hi)
    lo, hi = -math.inf if math.isnan(lo) else lo, math.inf if math.isnan(hi) else hi
    if gate.column in LARGER_IS_BETTER:
        return "met" if lo >= gate.limit else "unmet" if hi < gate.limit else "not shown"
    return "met" if hi <= gate.limit else "unmet" if lo > gate.limit else "not shown"

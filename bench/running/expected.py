"""How long a run will take, worked out of its plan before it begins (pure).

Intermediaries that drop messages make it longer, up to the clients' time limit: that is what a run is to find out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.plan import Cell, Plan
from bench.run_record import CellRecord
from bench.running.fingerprint import FIRST_BLOCK, messages_of
from clients.arrivals import PlannedMessage, plan_warmup
from servers.stream import StreamSpec, build
from servers.transport import CONTESTANTS

START_S = 1.0  # of a load process, with its connections, and of writing what it saw
BROWSER_S = 1.5  # of a browser, more
BLOCK_S = 2.0  # servers and proxies start and stop
_SAMPLE = 40  # answers that are simulated for the mean length of all
_CANNOT_DROP = ("direct", "none")


@dataclass(frozen=True)
class Expected:
    """Seconds where every message arrives, and where those behind intermediaries all run into the time limit."""

    at_best_s: float
    at_worst_s: float

    def text(self) -> str:
        """For people, e.g. "about 2 min 20 s"."""
        text = f"about {duration(self.at_best_s)}"
        if self.at_worst_s > 1.2 * self.at_best_s:
            text += f", up to {duration(self.at_worst_s)} where messages are dropped"
        return text


def expected(plan: Plan, todo: Sequence[CellRecord]) -> Expected:
    """How long the cells `todo` of `plan` will take."""
    pairs = {(cell.stream, cell.load): cell for cell in plan.cells}
    paces = {names: _Pace.of(plan, cell) for names, cell in pairs.items()}
    wanted = {cell.key: cell for cell in plan.cells}
    best: dict[int, list[float]] = defaultdict(list)
    worst: dict[int, list[float]] = defaultdict(list)
    for record in todo:
        cell = wanted[record.cell]
        pace = paces[cell.stream, cell.load]
        best[record.block].append(pace.cell_s(cell, dropped=False))
        worst[record.block].append(pace.cell_s(cell, dropped=cell.profile not in _CANNOT_DROP))
    return Expected(_side_by_side_s(best, plan.parallel), _side_by_side_s(worst, plan.parallel))


def _side_by_side_s(blocks: dict[int, list[float]], parallel: int) -> float:
    """At once they take as long as the longest, or as all of them divided."""
    return sum(BLOCK_S + max(*cells_s, sum(cells_s) / parallel, 0.0) for cells_s in blocks.values())


@dataclass(frozen=True)
class _Pace:
    """What a load and a stream make of a cell's time, in seconds of the plan; `turns` are those after the first."""

    time_scale: float
    warmup_s: float
    starts_s: float
    answer_s: float
    think_s: float
    timeout_s: float
    turns: int

    @classmethod
    def of(cls, plan: Plan, cell: Cell) -> _Pace:
        """The pace of a cell's load and stream."""
        load, messages = plan.load_of(cell), messages_of(plan, cell)
        warmup = plan_warmup(load, messages[0].stream, plan.seed, FIRST_BLOCK)
        return cls(
            time_scale=plan.time_scale,
            warmup_s=_last_start_s(warmup) + _mean_answer_s(warmup),
            starts_s=_last_start_s(messages),
            answer_s=_mean_answer_s(messages),
            think_s=load.think_s,
            timeout_s=load.timeout_s,
            turns=max(message.turn for message in messages),
        )

    def cell_s(self, cell: Cell, *, dropped: bool) -> float:
        """Seconds of one cell."""
        pulls = CONTESTANTS[cell.transport].pulls and not cell.wait
        answer_s = min(self.answer_s + (cell.interval if pulls else 0.0), self.timeout_s)
        answer_s = self.timeout_s if dropped else answer_s
        real_s = self.warmup_s + self.starts_s + answer_s + self.turns * (self.think_s + answer_s)
        return START_S + BROWSER_S * (cell.client == "browser") + real_s / self.time_scale


def _last_start_s(messages: Sequence[PlannedMessage]) -> float:
    return max((message.offset_ns or 0 for message in messages), default=0) / 1e9


def _mean_answer_s(messages: Sequence[PlannedMessage]) -> float:
    sample = messages[:_SAMPLE]
    if not sample:
        return 0.0
    return fmean(build(StreamSpec.parse(m.stream), m.seed).duration_ns for m in sample) / 1e9


def duration(seconds: float) -> str:
    """Seconds, rounded for people.

    >>> duration(42), duration(148), duration(1463), duration(4200)
    ('40 s', '2 min 30 s', '24 min', '1 h 10 min')
    """
    if seconds < 55:
        return f"{max(5, round(seconds / 5) * 5)} s"
    if seconds < 600:
        minutes, rest = divmod(round(seconds / 10) * 10, 60)
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    hours, minutes = divmod(round(seconds / 60), 60)
    return " ".join(part for part in (f"{hours} h" * bool(hours), f"{minutes} min" * bool(minutes)) if part)

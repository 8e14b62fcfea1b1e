"""What polling must cost, from the plan alone, beside what was measured (pure but for reading the plan's files).

A poll every `interval` from the moment at which the question was accepted; a token waits for the next one. So the first
token comes at the model's own time rounded up to the interval, a token waits half an interval on an average, and a poll
brings as many as the model makes in one (the rule). Answers that are short against the interval do not fill it evenly:
there the same polls are set against the plan's own schedules, token by token (the prediction).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.analysis.measures.groups import MeasuredCell, Measurements
from bench.analysis.measures.metrics import METRICS, estimate
from bench.analysis.statistics.estimators import Floats
from bench.analysis.statistics.wording import with_unit
from bench.plan import Cell, Plan, parse
from clients.arrivals import plan_messages
from servers.stream import Schedule, StreamSpec, build
from servers.user_errors import InputError

COLUMNS = ("ttft_ms_p50", "delay_ms_p50", "burst_tokens_mean", "requests_per_message")
MAX_MESSAGES = 800  # whose answers are built: a second's work
_NS_PER_MS = 1e6


@dataclass(frozen=True)
class Polled:
    """When one answer's tokens were made and when polls brought them, ms after the question; and how many polls."""

    due_ms: Floats
    received_ms: Floats
    polls: int


@dataclass(frozen=True)
class Theory:
    """One number of a polling cell: as measured, as the plan predicts it, and by the rule; NaN where that has none."""

    cell: MeasuredCell
    column: str
    measured: float
    predicted: float
    rule: float

    @property
    def error(self) -> float:
        """How far the measured number is from the predicted one, as a share of that."""
        return self.measured / self.predicted - 1

    @property
    def sentence(self) -> str:
        """The two beside each other."""
        metric = METRICS[self.column]
        measured, predicted = (with_unit(value, metric.unit) for value in (self.measured, self.predicted))
        return f"{self.cell.key.title}: {metric.title} is {measured}; from the plan alone follow {predicted}."


def polled(due_ms: Floats, interval_ms: float, round_trip_ms: float = 0.0) -> Polled:
    """The answer whose tokens fall due `due_ms` after the server got the question, fetched every `interval_ms`.

    Of the first round trip half brings the question; the acceptance and the first poll take another; then each poll's
    answer takes half of one.
    """
    number = np.maximum(np.ceil((due_ms - round_trip_ms) / interval_ms - 1e-9), 0)
    asked_ms = round_trip_ms / 2
    received_ms = asked_ms + round_trip_ms + number * interval_ms + round_trip_ms / 2
    return Polled(due_ms + asked_ms, received_ms, int(number.max(initial=0)) + 1)


def predicted(
    schedules: Sequence[Schedule], interval_ms: float, round_trip_ms: float, scale: float
) -> dict[str, float]:
    """COLUMNS for these answers, whose times are divided by `scale`; `interval_ms` and `round_trip_ms` are not."""
    answers = [polled(np.array(s.due_ns) / _NS_PER_MS / scale, interval_ms, round_trip_ms) for s in schedules]
    received = [answer.received_ms for answer in answers]
    delays = np.concatenate([answer.received_ms - answer.due_ms for answer in answers])
    reads = sum(len(np.unique(each)) for each in received)
    return {
        "ttft_ms_p50": _median(np.array([each[0] for each in received])),
        "delay_ms_p50": _median(delays),
        "burst_tokens_mean": len(delays) / reads,
        "requests_per_message": 1 + sum(answer.polls for answer in answers) / len(answers),
    }


def rule(ttft_ms: float, gap_ms: float, interval_ms: float, round_trip_ms: float) -> dict[str, float]:
    """COLUMNS by the rule of thumb, for long answers: no number of requests, which depends on how long they are."""
    return {
        "ttft_ms_p50": float(np.ceil(ttft_ms / interval_ms)) * interval_ms + 2 * round_trip_ms,
        "delay_ms_p50": interval_ms / 2 + round_trip_ms,
        "burst_tokens_mean": max(interval_ms / gap_ms, 1.0) if gap_ms else float("inf"),
        "requests_per_message": float("nan"),
    }


def theory(measured: Measurements) -> list[Theory]:
    """Every number of COLUMNS of every polling cell; none of a run whose plan cannot be read, or of long polling.

    A round trip is what the answer to the question took; runs of before did not note it, then it is 0.
    """
    try:
        plan = parse(measured.run.plan)
        return [row for cell in plan.cells for row in _rows(measured, plan, cell)]
    except InputError:  # a plan of another tool, or a trace that is not here any more
        return []


def _rows(measured: Measurements, plan: Plan, cell: Cell) -> Iterator[Theory]:
    if cell.transport != "polling" or cell.wait or cell.profile != "direct" or "recording" in plan.stream_of(cell):
        return
    found = next((each for each in measured.cells if each.records and each.records[0].cell == cell.key), None)
    if found is None or not found.blocks:
        return
    round_trip_ms = float(np.nan_to_num(estimate(found, "head_ms_p50").value))
    interval_ms = 1000 * cell.interval / plan.time_scale
    expected = predicted(_schedules(plan, cell, found.blocks), interval_ms, round_trip_ms, plan.time_scale)
    spec = StreamSpec.parse(plan.stream_of(cell))
    ttft_ms, gap_ms = spec.ttft_ms / plan.time_scale, spec.gap_ms / plan.time_scale / spec.per_emission
    by_rule = rule(ttft_ms, gap_ms, interval_ms, round_trip_ms)
    for column in COLUMNS:
        yield Theory(found, column, estimate(found, column).value, expected[column], by_rule[column])


def _schedules(plan: Plan, cell: Cell, blocks: Sequence[int]) -> list[Schedule]:
    """The answers that the plan asks for in these blocks; of a large plan, the first ones of each."""
    load, stream = plan.load_of(cell), plan.stream_of(cell)
    most = -(-MAX_MESSAGES // len(blocks))
    messages = [m for block in blocks for m in plan_messages(load, stream, plan.seed, block)[:most]]
    return [build(StreamSpec.parse(message.stream), message.seed) for message in messages]


def _median(values: Floats) -> float:
    return float(np.quantile(values, 0.5, method="inverted_cdf"))


def requests_explained(cell: MeasuredCell) -> str:
    """Why a transport that keeps its connections takes more than one request per message; "" if it does not.

    Users that the warm-up did not need open a connection of their own; a WebSocket's upgrade is a request.
    """
    requests, connections = (estimate(cell, c).value for c in ("requests_per_message", "connections_per_message"))
    if cell.key.transport != "websocket" or not 0 < connections < 1 or abs(requests - 1 - connections) > 0.01:
        return ""
    return (
        f"{cell.key.title}: {requests:.2f} requests per message are 1 question and {connections:.2f} upgrades, "
        "of users whose connection the warm-up had not opened; a longer run has fewer."
    )

"""The numbers of a run, as docs/metrics.md defines them: summary.csv and what the report shows beyond it.

A metric is a recipe that makes an estimator (statistics.estimators) from a cell's data; intervals, ratios and
comparisons then work for all of them alike. A failed message counts as infinitely late.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from bench.analysis.measures.groups import MeasuredCell, Measurements
from bench.analysis.statistics import histogram, intervals
from bench.analysis.statistics.estimators import Estimator, Ratio, quantile_of_counts, quantile_of_values
from bench.analysis.statistics.intervals import Estimate
from clients import columns


@dataclass(frozen=True)
class Metric:
    """A number, its name for people, its unit, and how it is made from a cell's data."""

    title: str
    unit: str
    build: Callable[[MeasuredCell], Estimator]


def estimator(cell: MeasuredCell, column: str) -> Estimator:
    """A metric of METRICS as something that any resample of the blocks can be put into."""
    if column not in cell.estimators:
        cell.estimators[column] = METRICS[column].build(cell)
    return cell.estimators[column]


def estimate(cell: MeasuredCell, column: str) -> Estimate:
    """A metric's value with its 95 % interval."""
    if column not in cell.estimates:
        found = intervals.estimate_of(estimator(cell, column))
        cell.estimates[column] = _widened(found, estimator(cell, column)) if METRICS[column].unit == "share" else found
    return cell.estimates[column]


def _widened(found: Estimate, of: Estimator) -> Estimate:
    """When all messages are good, resampling sees no spread; Wilson's interval then says what so few can show."""
    if not found.has_interval or not isinstance(of, Ratio):
        return found
    lo, hi = intervals.wilson(int(of.numerator.sum()), int(of.denominator.sum()))
    return Estimate(found.value, min(found.lo, lo), min(max(found.hi, hi), 1.0))


def _message_quantile(p: float, column: str) -> Callable[[MeasuredCell], Estimator]:
    return lambda cell: quantile_of_values(p, cell.values(column))


def _token_quantile(
    p: float, histograms: Literal["delays", "lags", "transits", "gaps"]
) -> Callable[[MeasuredCell], Estimator]:
    def build(cell: MeasuredCell) -> Estimator:
        support = histogram.values_ms(np.arange(histogram.BINS))
        messages = dict(zip(cell.blocks, cell.totals["messages"].astype(int).tolist(), strict=True))
        counted = getattr(cell, histograms)
        return quantile_of_counts(p, support, {b: counted[b] for b in cell.blocks}, messages)

    return build


def _ratio(numerator: str, denominator: str, scale: float = 1.0) -> Callable[[MeasuredCell], Estimator]:
    def build(cell: MeasuredCell) -> Estimator:
        measured = cell.totals[[numerator, denominator]].dropna()
        blocks = tuple(int(b) for b in measured.index)
        return Ratio(blocks, measured[numerator].to_numpy(float), measured[denominator].to_numpy(float), scale)

    return build


def _recovery(cell: MeasuredCell) -> Estimator:
    """Over the messages that dropped; one that was never completed took for ever."""
    dropped = cell.messages[cell.messages["drops"] > 0]
    times = dropped["recovery_ms"].astype(float).mask(~dropped["completed"], np.inf)
    return _median_of(dropped.assign(recovery_ms=times), "recovery_ms")


def _time_lost(cell: MeasuredCell) -> Estimator:
    """Until a drop was noticed and from there to the next new token; for ever if the message was never completed."""
    dropped = cell.messages[cell.messages["drops"] > 0]
    times = (dropped["detection_ms"].fillna(0.0) + dropped["recovery_ms"].astype(float)).mask(
        ~dropped["completed"], np.inf
    )
    return _median_of(dropped.assign(lost_ms=times), "lost_ms")


def _median_of_known(column: str) -> Callable[[MeasuredCell], Estimator]:
    """The median over the messages that have a value."""
    return lambda cell: _median_of(cell.messages, column)


def _of_dropped(column: str) -> Callable[[MeasuredCell], Estimator]:
    """The median over the messages that dropped and have a value."""
    return lambda cell: _median_of(cell.messages[cell.messages["drops"] > 0], column)


def _median_of(messages: pd.DataFrame, column: str) -> Estimator:
    known = messages.dropna(subset=[column])
    return quantile_of_values(0.5, {int(str(b)): v.to_numpy(float) for b, v in known.groupby("block")[column]})


METRICS: dict[str, Metric] = {
    "completed_ratio": Metric("messages completed", "share", _ratio("completed", "messages")),
    "ttft_ms_p50": Metric("first token p50", "ms", _message_quantile(0.5, "ttft_ms")),
    "ttft_ms_p95": Metric("first token p95", "ms", _message_quantile(0.95, "ttft_ms")),
    "ttft_ms_p99": Metric("first token p99", "ms", _message_quantile(0.99, "ttft_ms")),
    "ttft_overhead_ms_p50": Metric("first token overhead p50", "ms", _message_quantile(0.5, "ttft_overhead_ms")),
    "ttft_overhead_ms_p99": Metric("first token overhead p99", "ms", _message_quantile(0.99, "ttft_overhead_ms")),
    "delay_ms_p50": Metric("token delay p50", "ms", _token_quantile(0.5, "delays")),
    "delay_ms_p95": Metric("token delay p95", "ms", _token_quantile(0.95, "delays")),
    "delay_ms_p99": Metric("token delay p99", "ms", _token_quantile(0.99, "delays")),
    "burst_tokens_mean": Metric("tokens per read", "tokens/read", _ratio("rows", "reads")),
    "stalls_per_1k_tokens": Metric("stalls per 1000 tokens", "/1000 tokens", _ratio("stalls", "expected", 1000)),
    "requests_per_message": Metric("requests per message", "requests/message", _ratio("requests", "messages")),
    "connections_per_message": Metric(
        "connections per message", "connections/message", _ratio("connections", "messages")
    ),
    "bytes_per_token": Metric("bytes per token", "B/token", _ratio("bytes", "bytes_delivered")),
    "recovery_ms_p50": Metric("recovery p50", "ms", _recovery),
    "client_cpu_us_per_token": Metric("client CPU µs per token", "µs/token", _ratio("client_cpu_us", "delivered")),
    "server_cpu_us_per_token": Metric("server CPU µs per token", "µs/token", _ratio("server_cpu_us", "delivered")),
    "server_cpu_us_per_token_at_equal_pace": Metric(
        "server CPU per token at equal pace", "µs/token", _ratio("paced_server_cpu_us", "delivered")
    ),
    "itl_ms_p50": Metric("inter-token latency p50", "ms", _token_quantile(0.5, "gaps")),
    "itl_ms_p95": Metric("inter-token latency p95", "ms", _token_quantile(0.95, "gaps")),
    "itl_ms_p99": Metric("inter-token latency p99", "ms", _token_quantile(0.99, "gaps")),
    "e2e_ms_p50": Metric("end-to-end latency p50", "ms", _message_quantile(0.5, "e2e_ms")),
    "e2e_ms_p95": Metric("end-to-end latency p95", "ms", _message_quantile(0.95, "e2e_ms")),
    "wait_s_per_answer": Metric("waiting per answer", "s/answer", _ratio("wait_s", "messages")),
    "wire_bytes_per_token": Metric("bytes on the wire per token", "B/token", _ratio("wire_bytes", "wire_delivered")),
    "packets_per_token": Metric("packets per token", "packets/token", _ratio("packets", "wire_delivered")),
    "cpu_us_per_token_over_baseline": Metric(
        "CPU per token above the baseline", "µs/token", _ratio("over_baseline_cpu_us", "delivered")
    ),
    "goodput_ratio": Metric("messages within the SLO", "share", _ratio("within_slo", "messages")),
    "head_ms_p50": Metric("head of the response p50", "ms", _median_of_known("head_ms")),
    "stop_s_p50": Metric("working for nobody p50", "s", _of_dropped("stop_s")),
    "requests_worst_second": Metric(
        "requests in the worst second", "requests/s", _ratio("requests_worst_second", "cells")
    ),
    "server_memory_kb_per_open_stream": Metric(
        "server memory per open stream", "kB/stream", _ratio("memory_bytes", "open_most", 1 / 1000)
    ),
    # Not in summary.csv: for the report, its charts and the notebook.
    "burst_emitted_mean": Metric("tokens per emission", "tokens/emission", _ratio("tokens", "emissions")),
    "bytes_per_message": Metric("bytes per message", "B/message", _ratio("bytes", "bytes_messages")),
    "stamp_bytes_per_token": Metric(
        "bytes of our own stamps per token", "B/token", _ratio("stamp_bytes", "bytes_delivered")
    ),
    "bytes_per_token_without_stamps": Metric(
        "bytes per token without our stamps", "B/token", _ratio("unstamped_bytes", "bytes_delivered")
    ),
    "wire_bytes_per_token_without_stamps": Metric(
        "bytes on the wire per token without our stamps", "B/token", _ratio("unstamped_wire_bytes", "wire_delivered")
    ),
    "tpot_ms_p50": Metric("time per output token p50", "ms", _median_of_known("tpot_ms")),
    "tokens_per_s_per_user_p50": Metric("tokens per second per user p50", "tokens/s", _median_of_known("tokens_per_s")),
    "tokens_per_s": Metric("tokens per second of the cell", "tokens/s", _ratio("delivered", "span_s")),
    "cpu_us_per_token": Metric("CPU per token", "µs/token", _ratio("cpu_us", "delivered")),
    "server_only_cpu_us_per_token": Metric(
        "server CPU per token without Redis", "µs/token", _ratio("server_only_cpu_us", "delivered")
    ),
    "lag_ms_p50": Metric("due to sent p50", "ms", _token_quantile(0.5, "lags")),
    "lag_ms_p99": Metric("due to sent p99", "ms", _token_quantile(0.99, "lags")),
    "transit_ms_p50": Metric("sent to received p50", "ms", _token_quantile(0.5, "transits")),
    "transit_ms_p99": Metric("sent to received p99", "ms", _token_quantile(0.99, "transits")),
    "detection_ms_p50": Metric("silent until noticed p50", "ms", _of_dropped("detection_ms")),
    "time_lost_ms_p50": Metric("time lost by drops p50", "ms", _time_lost),
    "catch_up_ms_p50": Metric("catching up p50", "ms", _of_dropped("catch_up_ms")),
    "redis_cpu_us_per_token": Metric("Redis CPU per token", "µs/token", _ratio("redis_cpu_us", "delivered")),
}

COUNTS = ("streams", "tokens_lost", "tokens_duplicated", "drops")
"""Columns of summary.csv that count what happened; they are no estimates and have no interval."""


def summary_table(measured: Measurements) -> pd.DataFrame:
    """The content of summary.csv: a row per cell, NaN for what was not measured or the sample cannot carry."""
    return pd.DataFrame([_summary_row(cell) for cell in measured.cells])


def _summary_row(cell: MeasuredCell) -> dict[str, object]:
    counts = {"streams": len(cell.messages), **{c: int(cell.messages[c].sum()) for c in COUNTS[1:]}}
    facts: dict[str, object] = {**cell.key._asdict(), **counts, "valid": cell.is_valid}
    row: dict[str, object] = {}
    for column in columns.SUMMARY:
        if column in METRICS:
            found = estimate(cell, column)
            row |= {column: found.value, f"{column}_lo": found.lo, f"{column}_hi": found.hi}
        else:
            row[column] = facts[column]
    return row

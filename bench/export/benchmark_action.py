"""The numbers that github-action-benchmark follows over commits: its format `customSmallerIsBetter`, a JSON list."""

from __future__ import annotations

import math

import msgspec

from bench.analysis.measures.groups import MeasuredCell, Measurements
from bench.analysis.measures.metrics import METRICS, estimate
from bench.analysis.statistics.intervals import Estimate
from bench.analysis.statistics.wording import counted, interval

COLUMNS = (
    *("ttft_overhead_ms_p50", "ttft_ms_p95", "delay_ms_p50", "delay_ms_p99", "requests_per_message"),
    *("bytes_per_token", "client_cpu_us_per_token", "server_cpu_us_per_token"),
)
"""One chart each, per cell. The share of messages that were lost comes in front."""


class Entry(msgspec.Struct, omit_defaults=True):
    """One point of one chart; `range` and `extra` are shown as they are."""

    name: str
    unit: str
    value: float
    range: str = ""
    extra: str = ""


def benchmark_json(measured: Measurements) -> bytes:
    """The list as JSON text. A number that is not there, or infinite, has no entry: the format has no word for it."""
    entries = [entry for cell in measured.cells if not cell.key.is_control for entry in _of_cell(cell)]
    return msgspec.json.format(msgspec.json.encode(entries), indent=1) + b"\n"


def _of_cell(cell: MeasuredCell) -> list[Entry]:
    if not cell.is_valid:
        return []
    whole = estimate(cell, "completed_ratio")
    lost = Estimate(*(100 * (1 - value) for value in (whole.value, whole.hi, whole.lo)))
    found = [_entry(cell, "messages lost", "%", lost)]
    found += [_entry(cell, METRICS[c].title, METRICS[c].unit, estimate(cell, c)) for c in COLUMNS]
    return [entry for entry in found if math.isfinite(entry.value)]


def _entry(cell: MeasuredCell, title: str, unit: str, found: Estimate) -> Entry:
    extra = f"{counted(len(cell.blocks), 'block')}, {counted(len(cell.messages), 'message')}"
    return Entry(f"{cell.key.title} · {title}", unit, found.value, interval(found), extra)

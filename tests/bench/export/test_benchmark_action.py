"""What github-action-benchmark reads: a list of names, units and finite numbers, smaller being better."""

from __future__ import annotations

import json
import math
from pathlib import Path

from support.outcomes import raced, troubled

from bench.analysis.measures.groups import measure
from bench.export.benchmark_action import benchmark_json


def test_a_list_of_finite_numbers(tmp_path: Path) -> None:
    entries = json.loads(benchmark_json(measure(raced(tmp_path, {}))))
    assert all(set(entry) <= {"name", "unit", "value", "range", "extra"} for entry in entries)
    assert all(isinstance(entry["value"], float) and math.isfinite(entry["value"]) for entry in entries)
    by_name = {entry["name"]: entry for entry in entries}
    assert len(by_name) == len(entries)
    assert not any("A/A" in name for name in by_name)
    lost = by_name["WebSocket · messages lost"]
    assert 40 < lost["value"] < 80
    low, high = map(float, lost["range"].split("–"))
    assert low < lost["value"] < high
    assert by_name["SSE · messages lost"]["value"] == 0
    assert by_name["SSE · first token p95"]["extra"] == "5 blocks, 80 messages"
    assert "WebSocket · first token p95" not in by_name  # infinite


def test_void_cells_have_no_numbers(tmp_path: Path) -> None:
    names = {entry["name"] for entry in json.loads(benchmark_json(measure(troubled(tmp_path))))}
    assert {name.partition(" · ")[0] for name in names} == {"Chunked"}  # SSE is void

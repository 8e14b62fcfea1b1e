"""Answers of a source: what nobody knows of them is empty, and the report says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support.runs import Message, RunBuilder

from bench.analysis.findings.run_warnings import run_warnings
from bench.analysis.measures.groups import measure
from bench.analysis.measures.metrics import summary_table
from clients.core.record import UNKNOWN_NS


def test_the_overhead_over_an_unknown_schedule_is_empty(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    for block in range(6):
        messages = [Message([(10, 11), (20, 22)]) for _ in range(5)]
        run.cell("sse", block, messages)
        run.cell("chunked", block, [Message(m.tokens, facts={"ttft_scheduled_ns": UNKNOWN_NS}) for m in messages])
    measured = measure(run.write())
    rows = {str(row["transport"]): row for _, row in summary_table(measured).iterrows()}
    known, told = rows["sse"], rows["chunked"]
    assert (known["ttft_overhead_ms_p50"], np.isnan(told["ttft_overhead_ms_p50"])) == (1, True)
    assert known["ttft_ms_p50"] == told["ttft_ms_p50"] == 11
    assert known["delay_ms_p50"] == told["delay_ms_p50"]
    (warning,) = [each for each in run_warnings(measured) if each.code == "answers told"]
    assert warning.text.startswith("The answers of Chunked came from a source")
    assert "SSE" not in warning.text


def test_nothing_is_said_where_the_schedule_is_known(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    run.cell("sse", 1, [Message([(0, 1)])])
    assert "answers told" not in [each.code for each in run_warnings(measure(run.write()))]

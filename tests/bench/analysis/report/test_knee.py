"""A search for the knee in the report: the sentence, the table, the curve."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support.runs import Message, RunBuilder

from bench.analysis.measures.groups import measure
from bench.analysis.report.knee import knee_curve, knee_data, knee_of
from bench.analysis.report.report import print_summary, write_report
from bench.store import RunFolder

WHY = "sse: p99 delay 181.4 ms > 20 ms at 60 users"
STEPS = [{"users": 20, "sse": 3.5}, {"users": 40, "sse": 12.5}, {"users": 60, "sse": "inf", "<b>": None}]
FOUND: dict[str, Any] = {"users": 40, "why": WHY, "limit_ms": 20.0, "p99_delay_ms": STEPS}


def run_with(out_dir: Path, knee: object) -> RunFolder:
    builder = RunBuilder(out_dir, {"plan": {"name": "locust", "knee": knee}})
    builder.cell("sse", 1, [Message([(1, 2), (2, 3)])] * 2)
    return builder.write()


def test_the_knee_its_table_and_its_curve_are_in_the_report(tmp_path: Path) -> None:
    folder = run_with(tmp_path, FOUND)
    summary = write_report(folder)
    html = folder.report_path.read_text()
    assert f"The knee is at 40 users ({WHY.replace('>', '&gt;')})." in html
    table = knee_data(summary.measured)[0]
    assert [(row.title, row.cells) for row in table.rows] == [
        ("20", [("3.50", ""), ("–", "")]),
        ("40", [("12.5", ""), ("–", "")]),
        ("60", [("∞", ""), ("–", "")]),
    ]
    assert "Token delay, p99, at the end of each step" in html
    assert "<b>" not in html
    assert (folder.charts_path / "knee.svg").exists()
    console = Console(width=200, record=True, file=io.StringIO())
    print_summary(summary, console)
    assert f"The knee is at 40 users ({WHY})." in console.export_text()


def test_the_curve_has_the_steps_the_limit_and_the_knee(tmp_path: Path) -> None:
    figure = knee_curve(measure(run_with(tmp_path, FOUND)))
    assert figure is not None
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["SSE", "<b>", "never", "limit, 20 ms", "knee, 40 users"]
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == [20, 40, 60]


def test_a_search_that_was_ended_says_so(tmp_path: Path) -> None:
    knee = knee_of(run_with(tmp_path, FOUND | {"users": None}).load())
    assert knee is not None
    assert "not found" in knee.sentence


@pytest.mark.parametrize("strange", [None, 5, [], {}, {"users": "40", "p99_delay_ms": 7}, {"p99_delay_ms": [3, {}]}])
def test_a_plan_that_says_something_else_is_no_trouble(tmp_path: Path, strange: object) -> None:
    folder = run_with(tmp_path, strange)
    write_report(folder)
    assert not (folder.charts_path / "knee.svg").exists()

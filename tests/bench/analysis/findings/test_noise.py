"""What equal cells differ by, and what a run can find, from cells whose difference is known."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from support.runs import Message, RunBuilder

from bench.analysis.findings.noise import control_findings, lateness_ms, print_noise, uneven_blocks
from bench.analysis.findings.run_warnings import run_warnings
from bench.analysis.measures.groups import Measurements, measure
from bench.run_record import CellAttempt


def pair(folder: Path, factor: float) -> Measurements:
    """Six blocks of SSE and its copy, which sends `factor` times the requests."""
    run = RunBuilder(folder)
    for block in range(1, 7):
        for variant, requests in (({}, 10), ({"copy": "aa"}, round(10 * factor))):
            messages = [Message([(10.0, 11.0)], facts={"requests": requests})] * 4
            late = {"generator_lag_ms_p99": float(block), "emit_lag_ms_p99": 0.5}
            run.cell("sse", block, messages, variant=dict[str, object](variant), **late)
    return measure(run.write())


def test_two_equal_cells_that_differ_are_found_and_shown(tmp_path: Path) -> None:
    measured = pair(tmp_path, 1.2)
    claimed = [
        (original.key.title, column) for original, column, finding in control_findings(measured) if finding.claimed
    ]
    assert claimed == [("SSE", "requests_per_message")]
    (warning,) = [warning for warning in run_warnings(measured) if warning.code == "control differs"]
    assert "requests per message: 1.20×" in warning.text
    console = Console(width=140, record=True, file=io.StringIO())
    print_noise(measured, console)
    line = next(line for line in console.export_text().splitlines() if "requests per message" in line)
    assert "12, 10" in line
    assert "1.01×" in line


def test_two_equal_cells_that_are_equal_are_no_warning(tmp_path: Path) -> None:
    measured = pair(tmp_path, 1.0)
    assert not any(finding.claimed for *_, finding in control_findings(measured))
    assert not [warning for warning in run_warnings(measured) if "control" in warning.code]


def test_without_a_control_nothing_checks_the_method(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    run.cell("sse", 1, [Message([(10.0, 11.0)])])
    measured = measure(run.write())
    assert not list(control_findings(measured))
    assert "no control" in {warning.code for warning in run_warnings(measured)}


def test_the_harness_s_own_lateness_is_told(tmp_path: Path) -> None:
    measured = pair(tmp_path, 1.0)
    assert lateness_ms(measured) == {"start": 3.5, "emit": 0.5}
    (floor,) = [warning for warning in run_warnings(measured) if warning.code == "floor"]
    assert "start 3.50 ms, emit 0.5" in floor.text


def test_what_ran_again_and_what_others_took_is_told(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    run.cell("sse", 1, [Message([(10.0, 11.0)])], foreign_cpu_ratio=0.124, earlier=[CellAttempt(status="void")])
    run.cell("chunked", 1, [Message([(10.0, 11.0)])], foreign_cpu_ratio=0.02)
    run.cell("blocking", 1, [], status="void", foreign_cpu_ratio=0.9, earlier=[CellAttempt(status="void")] * 2)
    said = {warning.code: warning.text for warning in run_warnings(measure(run.write()))}
    assert said["run again"] == "2 cells ran again, the first attempt being void; 1 of them valid now."
    assert said["other programs"] == "Other programs took up to 12 % of a core while valid cells ran."


def test_lost_messages_are_no_uneven_blocks(tmp_path: Path) -> None:
    """A block that lost a message has an infinite tail, which is told of as a failure; an interval up to infinity is
    not "too narrow". A block that is slow is found all the same."""
    run = RunBuilder(tmp_path)
    for block in range(1, 6):
        received_ms = 19.0 if block == 4 else 11.0
        messages = [Message([(10.0, received_ms)])] * 73
        last = Message([(10.0, received_ms)], expected=2, outcome="truncated") if block == 2 else messages[0]
        run.cell("sse", block, [*messages, last])
    found = list(uneven_blocks(measure(run.write())))
    assert {(column, block, round(factor)) for _, column, block, factor in found} == {
        ("ttft_overhead_ms_p99", 4, 9),
        ("delay_ms_p99", 4, 9),
    }


def test_what_failed_was_not_measured(tmp_path: Path) -> None:
    """It was said of 0 cells, beside those that had failed."""
    run = RunBuilder(tmp_path, {"status": "failed"})
    for block, status in ((1, "ok"), (2, "failed"), (3, "pending")):
        run.cell("sse", block, [Message([(10.0, 11.0)])] if status == "ok" else [], status=status)
    (said,) = [warning.text for warning in run_warnings(measure(run.write())) if warning.code == "unfinished"]
    assert said == "The run has failed; 2 cells not measured."

"""What equal cells differ by, and what a run can find, from cells whose difference is known."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from support.runs import Message, RunBuilder

from bench.analysis.groups import Measurements, measure
from bench.analysis.noise import control_findings, lateness_ms, print_noise
from bench.analysis.run_warnings import run_warnings
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

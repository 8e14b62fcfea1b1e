"""What a browser adds, and its six connections, from painted.parquet to the report; worked out on paper."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.runs import MS, Message, RunBuilder

from bench.analysis.measures.groups import measure
from bench.analysis.report import browser_charts
from bench.analysis.report.browser_numbers import at_once_tables, first_tokens, painted_tables, ways_at_once
from bench.analysis.report.report import print_summary, write_report
from bench.store import RunFolder

PLAN: dict[str, Any] = {
    "load": {"arrivals": "burst", "concurrency": 1},
    "loads": {"two": {"arrivals": "burst", "concurrency": 2}},
}
BROWSER: dict[str, object] = {"client": "browser"}
TWO = BROWSER | {"load": "two"}


def shown(first_ms: float, painted_ms: float, start_ns: int = 1000 * 1000 * MS) -> Message:
    """A message whose model begins after 100 ms, in script after `first_ms`, painted after `painted_ms`."""
    painted = {
        "first_painted_ns": start_ns + round(painted_ms * MS),
        "frames": 2,
        "tokens_painted": 3,
        "painted_gap_ms_max": 16.0,
        "frames_dropped": 1,
        "clock_error_ns": 80_000,
        "protocol": "http/1.1",
    }
    facts = {"intended_start_ns": start_ns, "ttft_scheduled_ns": 100 * MS, "first_token_ns": start_ns + first_ms * MS}
    return Message([(100, first_ms), (110, 112), (120, 122)], facts=facts, painted=painted)


@pytest.fixture
def paper(tmp_path: Path) -> RunBuilder:
    run = RunBuilder(tmp_path, {"plan": PLAN})
    run.cell("sse", 1, [Message([(100, 101), (110, 111), (120, 121)])])
    run.cell("sse", 1, [shown(104, 110)], variant=BROWSER)
    # Two bursts of two: the last of each after 300 and after 500 ms.
    bursts = [1000 * 1000 * MS, 2000 * 1000 * MS]
    times = [(bursts[0], 120), (bursts[0], 300), (bursts[1], 500), (bursts[1], 110)]
    run.cell("sse", 1, [shown(ms, ms + 8, start) for start, ms in times], variant=TWO)
    return run


def test_what_a_browser_adds_to_the_first_token(paper: RunBuilder) -> None:
    (found,) = first_tokens(measure(paper.write()))
    assert (found.asyncio_ms, found.script_ms, found.painted_ms) == pytest.approx((1, 4, 10))


def test_the_table_of_what_was_painted(paper: RunBuilder) -> None:
    measured = measure(paper.write())
    (table,) = painted_tables(measured)
    assert [row.title for row in table.rows] == ["SSE, fetch", "SSE, fetch · 2 at once"]
    texts = [[value for value, _ in row.cells] for row in table.rows]
    assert texts[0] == ["1", "4", "10", "1.50", "16", "1", "0", "0.0800"]
    assert texts[1][0] == "–"  # no asyncio client has asked so
    assert [row.title for row in painted_tables(measured, only_alone=True)[0].rows] == ["SSE, fetch"]


def test_void_cells_are_shown_as_such_and_in_no_picture(paper: RunBuilder) -> None:
    for record, _ in paper.cells:
        record.status = "void"
    measured = measure(paper.write())
    (painted,), (at_once,) = painted_tables(measured), at_once_tables(measured)
    assert [value for value, _ in painted.rows[0].cells][:3] == ["1", "4", "10"]
    assert [row.standing for row in painted.rows] == ["void", "void"]
    assert [row.standing for row in at_once.rows] == ["void, some of it"]
    assert not first_tokens(measured)
    assert not ways_at_once(measured)


def test_the_names_stand_on_no_point(paper: RunBuilder) -> None:
    figure = browser_charts.at_once(measure(paper.write()))
    assert figure is not None
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["SSE, fetch"]
    assert not any(axes.get_legend() or legend.get_window_extent().overlaps(axes.bbox) for axes in figure.axes)


def test_the_last_of_so_many_at_once(paper: RunBuilder) -> None:
    measured = measure(paper.write())
    (way,) = ways_at_once(measured)
    assert (way.title, way.version) == ("SSE, fetch", "HTTP/1.1")
    assert way.last_ms == {1: 104, 2: 400}  # the median of 300 and 500
    assert sorted(way.all_ms[2]) == [110, 120, 300, 500]
    (table,) = at_once_tables(measured)
    assert [value for value, _ in table.rows[0].cells] == ["104", "400"]


def test_the_report_shows_both(paper: RunBuilder) -> None:
    folder = paper.write()
    summary = write_report(folder)
    assert {"painted.png", "painted.svg", "at_once.png", "at_once.svg"} <= {
        p.name for p in folder.charts_path.iterdir()
    }
    html = folder.report_path.read_text()
    assert "What a browser adds to the first token" in html
    assert "Six connections to a server" in html
    printed = StringIO()
    print_summary(summary, Console(file=printed, width=80))
    assert "First token of the last of so many at once" in printed.getvalue()
    assert max(map(len, printed.getvalue().splitlines())) <= 80


def test_a_failed_message_is_never_painted(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path, {"plan": PLAN})
    good, cut = shown(104, 110), shown(104, 110, start_ns=1001 * 1000 * MS)
    cut.outcome, cut.expected = "truncated", 9
    run.cell("sse", 1, [good, cut, cut], variant={"client": "browser"})
    (found,) = first_tokens(measure(run.write()))
    assert (found.script_ms, found.painted_ms) == (float("inf"), float("inf"))


def test_merging_again_keeps_what_was_painted(paper: RunBuilder) -> None:
    """As a resumed run does, whose other cells are still parts."""
    folder = paper.write()
    before = folder.painted_path.read_bytes()
    run = folder.load()
    run.cells[0].status = "pending"
    folder.save(run)
    RunFolder(folder.path).merge()
    assert folder.painted_path.read_bytes() == before


def test_runs_without_a_browser_have_none(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    run.cell("sse", 1, [Message([(100, 101)])])
    folder = run.write()
    assert not folder.painted_path.exists()
    assert painted_tables(measure(folder)) == at_once_tables(measure(folder)) == []

"""The page and the terminal: self-contained, escaped, honest about scaled and missing things."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from rich.console import Console
from support.runs import Message, RunBuilder

from bench.analysis.report import charts, distributions, shown_cells
from bench.analysis.report.report import Summary, print_summary, write_report
from bench.analysis.report.theme import STYLE, colour
from bench.analysis.synthetic import Caricature, synthetic_run
from bench.store import RunFolder
from servers.transport import TRANSPORTS

pytestmark = pytest.mark.slow

SECTIONS = ("buffered", "words", "numbers", "failures", "validity", "method", "machine")
HOSTILE = "<script>alert(1)</script> $\\frac{1}{0}$ [red]"


class Links(HTMLParser):
    """Everything in a page that could fetch or run something."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.targets += [value or "" for name, value in attrs if name in ("src", "href", "data", "srcset")]


def printed(summary: Summary) -> str:
    console = Console(width=80, record=True, file=StringIO())
    print_summary(summary, console)
    return console.export_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    field = (*(Caricature(name, kind="pull" if t.pulls else "push", delay_ms=100) for name, t in TRANSPORTS.items()),)
    field += (Caricature("sse", "copy=aa", delay_ms=100), Caricature("sse", "heartbeat=15", failing=0.1))
    return synthetic_run(tmp_path_factory.mktemp("runs"), blocks=6, messages=12, tokens=20, field=field)


@pytest.fixture(scope="module")
def summary(folder: RunFolder) -> Summary:
    return write_report(folder)


def test_the_page_needs_nothing_from_elsewhere(folder: RunFolder, summary: Summary) -> None:
    assert summary.report == folder.report_path
    html = folder.report_path.read_text()
    links = Links()
    links.feed(html)
    assert links.targets
    assert all(target.startswith("#") for target in links.targets)
    assert not {"script", "link", "iframe", "object"} & set(links.tags)
    assert not re.search(r"@import|url\((?!#)", html)
    headings = re.findall(r'<h2 id="([^"]+)"', html)
    assert [heading for heading in headings if not heading.startswith("chart-")] == list(SECTIONS)
    assert re.findall(r'<li><a href="#([^"]+)"', html) == headings, "the contents list has every heading"
    drawn = {path.stem for path in folder.charts_path.iterdir()}
    assert drawn == {chart.name for chart in charts.CHARTS if chart.speed} - {"traffic", "waterfall"}, (
        "neither measured"
    )
    for chart in charts.CHARTS:
        assert (chart.reading in html or chart.reading.replace("'", "&#39;") in html) is (chart.name in drawn)


def test_the_terminal_shows_every_row_within_80_columns(summary: Summary) -> None:
    text = printed(summary)
    assert max(map(len, text.splitlines())) <= 80
    words = set(re.findall(r"[^\s│─]+", text))
    assert {"requests", "/message", "complete", "transport", "Smoothness", "heartbeat=15"} <= words, "none is broken"
    for transport in TRANSPORTS.values():
        assert transport.title in text
    assert summary.headline[:40] in text
    assert "Did everything arrive?" in text


@pytest.mark.usefixtures("summary")
def test_the_same_run_gives_the_same_files(folder: RunFolder) -> None:
    names = ("summary.csv", "report.html", "charts/ttft.svg", "charts/cpu.png")
    before = [(folder.path / name).read_bytes() for name in names]
    write_report(folder)
    assert [(folder.path / name).read_bytes() for name in names] == before


def test_hostile_text_is_only_text(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path, {"name": HOSTILE, "plan": {"description": HOSTILE}, "warnings": [HOSTILE]})
    run.changes["machine"] = {"cpu": HOSTILE}
    for block in (1, 2):
        run.cell(HOSTILE, block, [Message([(1, 2), (3, 4)])], profile=HOSTILE)
        run.cell("sse", block, [Message([(1, 2)])], status="void", reasons=[HOSTILE])
    summary = write_report(run.write())
    html = summary.report.read_text()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    for svg in summary.report.parent.glob("charts/*.svg"):
        assert "<script" not in svg.read_text()
    assert "<script>alert(1)</script>" in printed(summary).replace("\n", "").replace(" ", "")


def test_a_scaled_run_says_so_at_the_top(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path, {"time_scale": 20.0})
    run.cell("sse", 1, [Message([(1, 2)])])
    html = write_report(run.write()).report.read_text()
    assert html.index("divided by 20") < html.index("<nav")


def test_many_cells_stay_legible(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    for k in range(15):
        run.cell("polling", 1, [Message([(1, 2), (3, 5)])], variant={"interval": k / 10})
    folder = run.write()
    summary = write_report(folder)
    assert len(shown_cells.charted(summary.measured)) == shown_cells.MAX_ROWS
    assert "The pictures show 12 of 15 rows" in folder.report_path.read_text()


def test_equal_cells_do_not_hide_each_other(summary: Summary) -> None:
    """Each has a row of its own in the picture of the first token, in its transport's colour."""
    with mpl.rc_context(STYLE):
        figure = distributions.first_token(summary.measured)
    assert figure is not None
    for axes in figure.axes:
        rows = {float(y): line.get_color() for line in axes.lines for y in np.asarray(line.get_ydata())}
        cells = shown_cells.charted(summary.measured)
        assert rows == {float(row): colour(cell.key) for row, cell in enumerate(cells)}


def test_the_staircase_shows_one_message_of_one_block_in_every_cell(summary: Summary) -> None:
    samples = summary.measured.samples
    assert len(samples) == len(TRANSPORTS) + 2
    due = {key: tuple(s.due_ms - s.due_ms[0]) for key, s in samples.items()}
    assert len(set(due.values())) == 1, "the same schedule in every row"

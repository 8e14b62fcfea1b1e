"""Markdown for pull requests: what a reader of it parses is what was meant, whatever the words are."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from support.outcomes import HOSTILE, lost, raced, troubled

from bench.analysis.findings.comparison import compare
from bench.analysis.findings.gates import gates
from bench.analysis.measures.groups import measure
from bench.analysis.synthetic import Caricature, synthetic_run
from bench.export import markdown
from bench.export.markdown import MAX_ROWS, MAX_SQUARE, comparison_markdown, run_markdown, table
from bench.store import RunFolder
from servers.foreign_text import MOST_OF_MARKDOWN, in_markdown, printable

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
LIMIT_OF_A_COMMENT = 65_536


class Page(HTMLParser):
    """The squares of the tables of a page, its text, and the names of its elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.squares: list[str] = []
        self.text = ""
        self.elements: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.elements.add(tag)
        if tag in ("td", "th"):
            self.squares.append("")
        self._inside = tag in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.squares and self._inside:
            self.squares[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = False


def read(text: str) -> Page:
    return Page(READER.render(text))


def markdown_of(folder: RunFolder) -> str:
    measured = measure(folder)
    return run_markdown(measured, gates(measured), "a-run")


def as_shown(words: str) -> str:
    """What a reader is to see of any words: one line, and nobody called."""
    return printable(" ".join(words.split())).replace("@", "@\u200b")


@given(st.lists(st.text(max_size=20), min_size=1, max_size=3))
def test_any_words_stay_in_their_square(words: list[str]) -> None:
    page = read("\n".join(table(["h"] * len(words), [words])))
    assert page.squares == ["h"] * len(words) + [as_shown(word) for word in words]
    assert page.elements == {"table", "thead", "tbody", "tr", "th", "td"}


@given(st.text(max_size=60))
@example("1. one")
@example("- one")
@example("12) one")
@example("<!-- one")
@example("> one")
def test_any_words_are_a_line_of_a_list(words: str) -> None:
    page = read(f"- {in_markdown(words)}")
    assert page.elements <= {"ul", "li"}
    assert page.text.strip() == as_shown(words)


def test_a_stranger_is_not_called_and_nothing_is_endless() -> None:
    assert "@someone" not in in_markdown(HOSTILE)
    assert len(in_markdown("x" * 10_000)) == MOST_OF_MARKDOWN + 1
    lines = table(["h"], [[str(k)] for k in range(MAX_ROWS + 3)])
    assert lines[-2:] == ["… and 3 more.", ""]


def test_a_sentence_is_whole_and_a_square_is_short(tmp_path: Path) -> None:
    """The answer of the reference run has 420 characters: whoever reads half of it reads another answer."""
    words = " ".join(["word"] * 200)
    assert words in read(markdown_of(raced(tmp_path, {}, blocks=1, warnings=[words]))).text
    (square,) = read("\n".join(table(["x"], [[words]]))).squares[1:]
    assert len(square) == MAX_SQUARE + 1


def test_an_unmet_limit_says_which_where_and_by_how_much(tmp_path: Path) -> None:
    text = markdown_of(raced(tmp_path, {"completed_ratio": 0.9, "ttft_ms_p99": 1000}))
    page = read(text)
    assert text.startswith("### Tokenderby: plan synthetic, 4 of 6 limits not met\n")
    row = page.squares.index("unmet")
    assert page.squares[row + 1 : row + 3] == ["WebSocket", "completed_ratio at least 90 %"]
    assert "percentage points below the limit" in page.squares[row + 3]
    assert page.squares.count("unknown") == 3  # 80 messages carry no p99
    assert {"Survival", "First token"} <= set(page.squares)
    assert "details" in page.elements


def test_words_of_a_run_do_no_harm(tmp_path: Path) -> None:
    page = read(markdown_of(troubled(tmp_path)))
    assert not page.elements & {"img", "code", "em", "a", "s"}
    assert "the run is failed, 1 cell failed" in page.text
    assert "<img src=x>" in page.text


def test_every_limit_met(tmp_path: Path) -> None:
    assert "synthetic, every limit met" in markdown_of(raced(tmp_path, {"drops": 0}, blocks=2))


def test_ties_stand_where_the_board_has_them(tmp_path: Path) -> None:
    """Who has the best number has it on the board and here; where all have the same one, nobody is named."""
    field = tuple(Caricature(name) for name in ("websocket", "chunked", "sse"))
    polling = Caricature("polling", "", "pull", 1000)
    for cells in (field, (*field, polling)):
        folder = synthetic_run(tmp_path, blocks=5, messages=8, tokens=8, field=cells)
        lines = [line.split(" | ") for line in markdown_of(folder).splitlines() if " | " in line]
        said = {words[0].strip("| "): words[1:] for words in lines}
        assert said["Survival"][0] == "all equal: 100 %"
        assert said["Requests"][0] == ("all equal: 1" if cells is field else "WebSocket 1; Chunked 1; SSE 1")
        assert said["Requests"][1].strip() == ""


def test_nothing_through_is_said_first(tmp_path: Path) -> None:
    text = markdown_of(lost(tmp_path))
    assert "1 cell got nothing through" in text.splitlines()[0]
    assert "nothing got through: WebSocket: not one of 8 messages arrived whole" in text


def test_a_large_run_fits_into_a_comment(tmp_path: Path) -> None:
    count = MAX_ROWS // 2 + 3
    field = [Caricature("sse", f"load=a-load-with-a-long-name-{k}") for k in range(count)]
    folder = synthetic_run(tmp_path, blocks=2, messages=2, tokens=3, field=field)
    run = folder.load()
    cells = [{"transport": "sse", "load": f"a-load-with-a-long-name-{k}"} for k in range(count)]
    run.plan |= {"cells": cells, "slo": {"ttft_ms_p99": 1, "delay_ms_p99": 1}}
    folder.save(run)
    text = markdown_of(folder)
    assert f"… and {2 * count - MAX_ROWS} more." in text
    assert len(text) < LIMIT_OF_A_COMMENT
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(markdown, "MAX_CHARACTERS", 6_000)
        assert 5_000 < len(markdown_of(folder)) < 6_100


def test_a_comparison_shows_both_values(tmp_path: Path) -> None:
    def run(delay_ms: float, seed: int) -> RunFolder:
        field = (Caricature("sse", delay_ms=delay_ms), Caricature("sse", "copy=aa", delay_ms=delay_ms))
        return synthetic_run(tmp_path, blocks=8, messages=30, tokens=20, field=field, seed=seed)

    comparison = compare(run(0.5, 1), run(1.0, 2))
    page = read(comparison_markdown(comparison, ("old", "new")))
    row = page.squares.index("token delay p50")
    before, after, ratio, judgement = page.squares[row + 1 : row + 5]
    assert before.endswith(" ms")
    assert float(before.split()[0]) == pytest.approx(0.5, rel=0.2)
    assert float(after.split()[0]) == pytest.approx(1.0, rel=0.2)
    assert ratio.startswith(("1.9", "2.0", "2.1"))
    assert judgement == "regression"
    assert "A: old" in page.text
    assert "B: new" in page.text

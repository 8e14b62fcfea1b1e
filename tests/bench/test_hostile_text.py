"""What a run's folder, or a server, says cannot steer a terminal, turn a page's text around or end a report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.runs import Message, RunBuilder

from bench.analysis.report.report import print_summary, write_report
from bench.console import Console
from bench.run_to_report import say
from servers.foreign_text import REPLACEMENT, in_markdown, printable

ESCAPE, TURN = "\x1b[2J\x1b]0;mine\x07", "\u202e"
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize("letter", ["\x00", "\x1b", "\x7f", "\x9b", "\u202e", "\u2066", "\ufffe"])
def test_what_steers_is_replaced(letter: str) -> None:
    assert printable(f"a{letter}b") == f"a{REPLACEMENT}b"


@pytest.mark.parametrize("text", ["a\tb\r\n", "é漢字", "👩\u200d💻", "“70\u00a0s”"])
def test_other_text_stays(text: str) -> None:
    assert printable(text) == text


def test_a_hostile_run_s_report_is_harmless_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names, reasons and warnings of a run.json that somebody sent, and what a server gave as its error."""
    run = RunBuilder(tmp_path, {"warnings": [f"warned{ESCAPE}{TURN}"]})
    refused = Message([], 1, "http_error", facts={"detail": f"status 500: said{ESCAPE}{TURN}"})
    for block in (1, 2):
        run.cell("sse", block, [Message([(1, 2), (3, 4)])])
        run.cell(f"evil{ESCAPE}{TURN}", block, [Message([(1, 2), (3, 4)])])
        run.cell("websocket", block, [refused])
    run.cell("chunked", 1, [Message([(1, 2)])], status="void", reasons=[f"void{ESCAPE}{TURN}"])
    summary = write_report(run.write())
    print_summary(summary, Console(width=80, color_system=None))
    say(f"gone{ESCAPE}{TURN}")
    shown = capsys.readouterr()
    page = summary.report.read_text("utf-8")
    for text in (shown.out, shown.err, page, in_markdown(f"md{ESCAPE}{TURN}")):
        assert not STEERING.search(text)
    for word in ("evil", "warned", "status 500: said", "void"):
        assert f"{word}{REPLACEMENT}" in page
        assert f"{word}{REPLACEMENT}" in " ".join(shown.out.split())


def test_what_rich_itself_sends_still_arrives(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(force_terminal=True, color_system="standard", width=80)
    console.print("bold", style="bold")
    console.show_cursor(show=False)
    assert "\x1b[1mbold\x1b[0m" in (out := capsys.readouterr().out)
    assert "\x1b[?25l" in out

"""The notebook on a run of somebody else's: its names are words there, whatever Markdown or HTML would make of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from markdown_it import MarkdownIt
from support.notebooks import NOTEBOOK
from support.runs import Message, RunBuilder

EVIL = "**evil** <img src=x> [here](http://x) $x$ `y`\u202e\x1b[2J"
DRAWING = {"charts", "numbers", "delay"}  # cells that show pictures and tables alone
READER = MarkdownIt("commonmark")
OURS = {"p", "strong", "em", "code", "ul", "li", "br", "h3"}  # what the notebook's own Markdown has


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run in it whose names, reasons and warnings are hostile; the notebook runs there."""
    run = RunBuilder(tmp_path, {"name": EVIL, "warnings": [EVIL], "plan": {"parallel": 1}})
    whole = [Message([(1, 2), (3, 4)])] * 2
    refused = [Message([], 2, "http_error", facts={"detail": f"status 500: {EVIL}"})] * 2
    for block in (1, 2):
        run.cell(EVIL, block, whole, profile=EVIL)
        run.cell("sse", block, whole, profile=EVIL)
        run.cell("websocket", block, refused)
    run.cell("chunked", 1, whole, status="void", reasons=[EVIL])
    run.write()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    """The IPython that a kernel has, in this process."""
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def shown(shell: InteractiveShell) -> list[dict[str, str]]:
    """What the notebook's cells display, by kind."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.id not in DRAWING:
            with capture_output() as captured:
                done = shell.run_cell(cell.source)  # type: ignore[no-untyped-call]
            assert done.success, cell.id
            found += [output.data for output in captured.outputs]
    return found


@pytest.mark.slow
def test_a_foreign_name_is_a_word_in_markdown_and_in_tables(foreign: Path, shell: InteractiveShell) -> None:
    outputs = shown(shell)
    texts = [output["text/markdown"] for output in outputs if "text/markdown" in output]
    tables = [output["text/html"] for output in outputs if "text/html" in output]
    for text in texts:
        tokens = [token for block in READER.parse(text) for token in (block, *(block.children or ()))]
        assert {token.tag for token in tokens} - {""} <= OURS, text
        html = {token.content for token in tokens if token.type.startswith("html")}
        assert all(each.startswith(("<small>", "</small>")) for each in html), text
        assert all("evil" not in token.content for token in tokens if token.type == "code_inline"), text
    assert sum("evil" in text for text in texts) >= 5
    assert sum("evil" in table for table in tables) >= 2
    for text in (*texts, *tables):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "<img" not in text
    assert all("mathjax_ignore" in table for table in tables)
    assert not any("...</td>" in table for table in tables), "a reason is whole"

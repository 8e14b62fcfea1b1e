"""The referees' court: what it measures of a tool, and where its table goes. aiperf and guidellm are not asked here."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "referees.py"


@pytest.fixture(scope="module")
def referees() -> Any:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("referees", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["referees"] = module
    spec.loader.exec_module(module)
    return module


def test_a_tool_is_set_beside_the_servers_own_stamps(referees: Any, tmp_path: Path) -> None:
    ours = referees.TOOLS[0]
    task = referees.Task("", streams=3, requests=3, tools=tmp_path, out=tmp_path / "out")
    row = referees.run(ours, task)
    assert (row.streams, row.name, row.lost) == (3, "Tokenderby", 0)
    assert all(0 < error_ms < 5000 for error_ms in row.errors_ms)  # no tool can have a token before the server
    assert row.cpu_us > 0
    assert len((task.out / "stamps.txt").read_text().splitlines()) == 3

    meter = referees.Meter(None, [0.0, 1e9], [0.0, 1e9], [0.0, 3e9])  # one core for the tool, two for others
    clumsy = replace(ours, read=lambda task: [ms + 5000 for ms in ours.read(task)][1:])
    worse = referees._row(clumsy, task, meter, 0.0)
    assert worse.lost == 1
    assert all(later > earlier + 4000 for later, earlier in zip(worse.errors_ms, row.errors_ms, strict=True))
    assert worse.others_cores == pytest.approx(2)


def test_a_tool_without_a_result_is_a_line_too(referees: Any, tmp_path: Path) -> None:
    tool = referees.Tool("broken", lambda _: [sys.executable, "-c", "pass"], lambda _: [])
    line = referees._row_of(tool, referees.Task("", streams=2, requests=4, tools=tmp_path, out=tmp_path / "out"))
    assert line.startswith("| 2 | broken | no result: ")


def test_the_table_goes_between_the_documents_marks(referees: Any, tmp_path: Path) -> None:
    document = tmp_path / "referees.md"
    document.write_text((SCRIPT.parents[1] / "docs" / "referees.md").read_text())
    for text in ("first", "second"):
        referees.write(document, text)
    written = document.read_text()
    assert "\n\nsecond\n\n" in written
    assert "first\n" not in written
    assert written.startswith("# Referees")
    assert "**Messages lost.**" in written


@pytest.mark.parametrize(("words", "said"), [(("--only", "nobody"), "--only: no tool"), (("--streams", "x"), "'x'")])
def test_wrong_words_install_nothing(
    referees: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, str],
    said: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["referees.py", *words, "--tools", str(tmp_path / "tools")])
    with pytest.raises(SystemExit, match="2"):
        referees.main()
    assert said in capsys.readouterr().err
    assert not (tmp_path / "tools").exists()

"""Where exports go, through the command: files, standard output with nothing else there, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from support.outcomes import raced
from support.runs import Message, RunBuilder

from bench import cli
from bench.console import Console
from bench.export.exports import Exports
from bench.run_to_report import DONE, FAILED, INTERRUPTED, conclude
from bench.store import RunFolder


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    return int(ended.value.code or 0)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return raced(tmp_path / "results", {"completed_ratio": 1}, blocks=2).path


def test_a_report_with_every_format(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {name: tmp_path / f"outcome.{name}" for name in ("markdown", "junit", "benchmark-json")}
    (tmp_path / "link.md").symlink_to(files["markdown"])
    options = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    options[1] = str(tmp_path / "link.md")
    before = (run / "run.json").read_bytes()
    code = command("report", str(run), "--json", "-", "--slo", "drops=0", *options)
    out, err = capsys.readouterr()
    assert code == 1
    document = json.loads(out)
    assert [each["outcome"] for each in document["slo"]].count("unmet") == 1  # WebSocket lost messages
    assert (run / "run.json").read_bytes() == before
    assert "slo unmet: WebSocket, completed_ratio at least 100 %" in err
    assert "SLO: 5 of 6 limits met" in err
    assert str(run / "report.html") in " ".join(err.split())
    assert (tmp_path / "link.md").is_symlink()
    assert "1 of 6 limits not met" in files["markdown"].read_text("utf-8")
    assert ElementTree.parse(files["junit"]).getroot().tag == "testsuites"
    assert isinstance(json.loads(files["benchmark-json"].read_text("utf-8")), list)
    assert {entry.name for entry in tmp_path.iterdir()} == {"results", "link.md", *(f.name for f in files.values())}


def test_limits_given_with_the_report_are_the_plan_s_wherever_it_shows_them(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What makes a message a good one is asked while they are counted; the page shows the limit too."""
    given = ("--slo", "message.e2e_ms=100000", "--slo", "goodput_ratio=0.1")
    command("report", str(run), "--json", "-", *given)
    found = [each for each in json.loads(capsys.readouterr().out)["slo"] if each["column"] == "goodput_ratio"]
    assert [each["outcome"] for each in found] == ["met"] * 3
    assert "goodput_ratio at least 10 %" in (run / "report.html").read_text("utf-8")


def test_limits_leave_the_code_of_an_interrupted_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = raced(tmp_path, {"completed_ratio": 1}, blocks=1, status="interrupted")
    exports = Exports(json=str(tmp_path / "outcome.json"), junit=str(tmp_path / ("x" * 300)))
    assert conclude(folder, folder.load(), Console(quiet=True), exports) == INTERRUPTED
    assert json.loads((tmp_path / "outcome.json").read_text("utf-8"))["verdict"]["passed"] is False
    assert "--junit: cannot write" in capsys.readouterr().err


def with_void_cells(out: Path, messages: int) -> RunFolder:
    """A complete run of two void cells of so many messages each."""
    made = RunBuilder(out, {"plan": {"cells": [{"transport": "sse"}]}})
    fate: dict[str, Any] = {"status": "void", "reasons": ["load came late: p99 9.0 ms > 2 ms"]}
    for block in (1, 2):
        made.cell("sse", block, [Message([(100, 101), (110, 112)])] * messages, **fate).messages = messages
    return made.write()


def test_a_run_that_measured_nothing_says_so_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Void cells alone, with messages or without: the reason, wherever people and pipelines look; no limit is met."""
    folder = with_void_cells(tmp_path / "void", messages=2)
    files = {name: tmp_path / f"outcome.{name}" for name in ("json", "markdown", "junit")}
    options = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    assert command("report", str(folder.path), *options) == DONE
    why = "Nothing was measured: no cell is valid (2 void); block 1, sse: load came late: p99 9.0 ms > 2 ms"
    said = (
        f"{why}; measure again while nothing else computes on the machine (`tokenderby doctor` says whether it is fit)"
    )
    assert f"{said}." in " ".join(capsys.readouterr().out.split())
    assert said in folder.report_path.read_text("utf-8").replace("&gt;", ">")
    assert json.loads(files["json"].read_text("utf-8"))["verdict"]["sentence"] == f"{said}."
    assert "plan hand, nothing was measured" in files["markdown"].read_text("utf-8")
    assert len(ElementTree.parse(files["junit"]).getroot().findall(".//skipped")) == 1
    assert command("report", str(folder.path), "--slo", "delay_ms_p99=100") == FAILED
    empty = with_void_cells(tmp_path / "empty", messages=0)
    assert conclude(empty, empty.load(), Console(quiet=True), Exports()) == DONE


def test_a_comparison_on_standard_output(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("compare", str(run), str(run), "--markdown", "-") == 0
    out, err = capsys.readouterr()
    assert out.startswith("### Tokenderby: No regression and no improvement")
    assert "No regression and no improvement" in err
    assert command("compare", str(run), str(run), "--all") == 0
    assert "no difference" in capsys.readouterr().out


def test_a_pipe_is_written_into(run: Path, tmp_path: Path) -> None:
    """What is no file is not replaced by one. (A pipe of our own: a fault here would cost the machine its device.)"""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)  # the text is shorter than a pipe holds
    try:
        assert command("compare", str(run), str(run), "--markdown", str(pipe)) == 0
        assert pipe.is_fifo()
        assert os.read(reader, 1 << 16).startswith(b"### Tokenderby: No regression")
    finally:
        os.close(reader)


def test_a_file_that_cannot_be_written_is_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long, good = str(tmp_path / ("x" * 300)), tmp_path / "good.xml"
    assert command("compare", str(run), str(run), "--json", long, "--junit", str(good)) == 1
    assert capsys.readouterr().err.startswith(f"tokenderby: --json: cannot write {long[:200]}: File name too long")
    assert good.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--json", "-", "--markdown", "-"], ["only one of the formats can go to standard output"]),
        (["--json", "no/such/folder/x.json"], ["--json", "a file in a folder that is there", "no/such/folder"]),
        (["--junit", "."], ["--junit", "is a directory"]),
        (["--slo", "ttft_ms_p95"], ["--slo", "takes KEY=VALUE with a number, as ttft_ms_p95=800"]),
        (["--slo", "ttft_ms_p95=fast"], ["--slo", "'ttft_ms_p95=fast' takes KEY=VALUE"]),
        (["--slo", "ttft_ms_p9=3"], ["--slo: no key 'ttft_ms_p9'", "'ttft_ms_p99'"]),
        (["--slo", "completed_ratio=nan"], ["--slo completed_ratio: takes a number from 0 to 1"]),
        (["--slo", "message.ttft=3"], ["--slo message: no key 'ttft'", "'ttft_ms'"]),
    ],
)
def test_mistakes(run: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: list[str]) -> None:
    assert command("report", str(run), *options) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    for word in words:
        assert word in err

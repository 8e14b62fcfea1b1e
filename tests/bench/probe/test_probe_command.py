"""`tokenderby probe` as a process: its words, its load, Ctrl-C and --resume."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import click
import pytest
from support.processes import RunningServer

from bench.console import Console
from bench.option_types import Duration
from bench.probe.finding import Finding, Findings, read_findings
from bench.probe.probe_command import _conclude, _say, probe
from servers.user_errors import InputError, OutputLost

Serve = Callable[[str], RunningServer]


def started(*words: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.cli", "probe", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)


@pytest.mark.slow
def test_what_is_known_at_ctrl_c_is_kept_and_a_resumed_probe_asks_only_for_the_rest(
    server: Serve, tmp_path: Path
) -> None:
    words = [f"sse={server('sse').url}", "--up-to", "1"]
    with started(*words, folder=tmp_path) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        first = next(line for line in lines if line.startswith("headers: "))
        process.send_signal(signal.SIGINT)
        rest = "".join(lines)
    assert process.returncode == 130
    assert "go on with: tokenderby probe --resume tokenderby-probe.json" in rest

    kept = read_findings(tmp_path / "tokenderby-probe.json")
    assert kept.interrupted
    headers = kept.get("headers")
    assert headers is not None
    assert headers.is_complete
    assert headers.words in first
    assert any(not each.is_complete for each in kept.findings)

    with started("--resume", "tokenderby-probe.json", folder=tmp_path) as process:
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, output + errors
    assert f"\n{first}" not in output  # it is not asked again
    whole = read_findings(tmp_path / "tokenderby-probe.json")
    assert not whole.interrupted
    assert all(each.is_complete for each in whole.findings)
    assert whole.get("headers") == headers
    assert {(each.question, each.transport) for each in whole.findings} == {
        (each.question, each.transport) for each in kept.findings
    }
    assert len(whole.findings) > 10
    assert "connections at once" in output
    assert json.loads((tmp_path / "tokenderby-probe.json").read_bytes())["schema"] == 1


@pytest.mark.parametrize(
    ("text", "found_s"), [("90s", 90.0), ("10m", 600.0), ("1h", 3600.0), ("1.5m", 90.0), ("45", 45.0), (" 2m ", 120.0)]
)
def test_a_duration_is_read_as_people_write_it(text: str, found_s: float) -> None:
    assert Duration(1, 3600).convert(text, None, None) == found_s


@pytest.mark.parametrize("text", ["", "m", "10x", "-5s", "0.5s", "61m", "1e3", "nan", "inf", "١٠m", "10 m", "9" * 400])
def test_what_is_no_duration_is_said_with_what_it_takes(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"takes a time from 1s to 3600s, as 90s, 10m or 1h"):
        Duration(1, 3600).convert(text, None, None)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "takes a URL, as https://chat.example.com, or --resume FILE"),
        (["--resume", "no-such-file"], "no-such-file: No such file"),
        (["--up-to", "soon", "http://a"], "takes a time from 1s"),
        (["ftp://a"], "takes https://HOST, or TRANSPORT=https://HOST"),
    ],
)
def test_wrong_words_are_named(words: list[str], told: str) -> None:
    with pytest.raises((click.ClickException, InputError)) as error:
        probe.main(words, standalone_mode=False)
    text = error.value.format_message() if isinstance(error.value, click.ClickException) else str(error.value)
    assert told in text


def test_a_resumed_probe_has_its_words_already(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_bytes(Findings(urls={"sse": "http://127.0.0.1:1"}, up_to_s=1.0, started="").encode())
    with pytest.raises(click.UsageError, match="leave them out"):
        probe.main(["--resume", str(kept), "http://127.0.0.1:1"], standalone_mode=False)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"schema": 2}', b"\xff", b"[" * 100_000])
def test_a_file_that_is_no_probe_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "other.json").write_bytes(data)
    with pytest.raises(InputError, match=r"other\.json: takes a file that `tokenderby probe --json` wrote"):
        read_findings(tmp_path / "other.json")


def test_a_pipe_is_no_probe_to_go_on_with(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(InputError, match=r"pipe\.json: takes a file"):
        read_findings(tmp_path / "pipe.json")


FOUND = Findings(
    urls={"sse": "http://a"}, up_to_s=1.0, started="", findings=(Finding(question="idle", words="\x1b[2Jgone\n"),)
)


@pytest.mark.parametrize("option", ["--json", "--out"])
@pytest.mark.parametrize("place", [".", "/", "no-such-folder/file", "/dev/null"])
def test_where_nothing_can_be_written_is_said_before_anything_is_asked(option: str, place: str) -> None:
    with pytest.raises((InputError, click.UsageError), match=f"{option}|is a directory") as error:
        probe.main([option, place, "http://127.0.0.1:1"], standalone_mode=False)
    assert isinstance(error.value, InputError | click.UsageError)
    assert error.value.exit_code == 2


@pytest.fixture
def full() -> Iterator[TextIO]:
    """A file that takes nothing."""
    file = Path("/dev/full").open("w", encoding="utf-8", buffering=1)  # noqa: SIM115 (closing it fails as well)
    yield file
    with suppress(OSError):
        file.close()


def test_what_is_found_is_written_although_nobody_can_be_told(tmp_path: Path, full: TextIO) -> None:
    with pytest.raises(OutputLost):
        _conclude(FOUND, str(tmp_path / "a.json"), tmp_path / "a.toml", (), Console(file=full))
    assert read_findings(tmp_path / "a.json") == FOUND
    assert (tmp_path / "a.toml").exists()


def test_a_file_that_cannot_be_written_hides_nothing_else(tmp_path: Path) -> None:
    shown = io.StringIO()
    with pytest.raises(OSError, match="a directory"):
        _conclude(FOUND, str(tmp_path), tmp_path / "a.toml", (), Console(file=shown, width=200))
    assert (tmp_path / "a.toml").exists()
    assert "?[2Jgone?" in shown.getvalue()
    assert "\x1b" not in shown.getvalue()


def test_a_finding_on_the_way_that_nobody_reads_ends_nothing(full: TextIO) -> None:
    console = Console(file=full)
    _say(console, FOUND.findings[0])
    assert console.quiet  # it was lost


def test_a_finding_on_the_way_is_shown_without_what_a_terminal_obeys() -> None:
    shown = io.StringIO()
    _say(Console(file=shown, width=200), FOUND.findings[0])
    assert shown.getvalue() == "idle: ?[2Jgone?\n"


class Interrupted(io.StringIO):
    """Whoever writes to it the first time is interrupted."""

    was_interrupted = False

    def write(self, text: str, /) -> int:
        if not self.was_interrupted:
            self.was_interrupted = True
            raise KeyboardInterrupt
        return super().write(text)


@pytest.mark.parametrize("json_file", [None, "given.json"])
def test_ctrl_c_while_the_report_is_made_loses_nothing(
    json_file: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = Interrupted()
    assert _conclude(FOUND, json_file, None, (), Console(file=shown, width=200)) == 130
    kept = json_file or "tokenderby-probe.json"
    assert f"go on with: tokenderby probe --resume {kept}" in shown.getvalue()
    assert read_findings(tmp_path / kept) == FOUND


def test_the_line_to_go_on_with_has_all_that_a_resumed_probe_needs(tmp_path: Path) -> None:
    shown, kept = io.StringIO(), tmp_path / "a b.json"
    again = ("--cafile", "ca.pem", "--insecure")
    interrupted = Findings(urls=FOUND.urls, up_to_s=1.0, started="", interrupted=True)
    assert _conclude(interrupted, str(kept), Path("mine.toml"), again, Console(file=shown, width=200)) == 130
    assert f"probe --resume '{kept}' --cafile ca.pem --insecure --out mine.toml\n" in shown.getvalue()

"""`tokenderby probe` as a process: its words, its load, Ctrl-C and --resume."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from support.processes import RunningServer

from bench.option_types import Duration
from bench.probe.finding import Findings, read_findings
from bench.probe.probe_command import probe
from servers.user_errors import InputError

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

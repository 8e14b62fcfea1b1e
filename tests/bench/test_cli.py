"""The command line's words: one clear line for each mistake, exit code 2."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.cli import main


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


Tokenderby = Callable[..., Done]


@pytest.fixture
def tokenderby(capsys: pytest.CaptureFixture[str]) -> Tokenderby:
    """Run a command line in this process: starting Python for each mistake would take minutes."""

    def run(*arguments: str) -> Done:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        output = capsys.readouterr()
        return Done(int(ended.value.code or 0), output.out, output.err)

    return run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "quik"], ["plan", "quik", "quick"]),
        (["run", "--streems", "3"], ["--streems", "--streams"]),
        (["run", "--streams", "many"], ["--streams", "many"]),
        (["run", "--streams", "0"], ["streams", "from 1"]),
        (["run", "--blocks", "0"], ["blocks", "from 1"]),
        (["run", "--time-scale", "0"], ["time_scale", "from 0.01"]),
        (["run", "--transports", "sse,pollin"], ["--transports", "pollin", "polling"]),
        (["run", "--transports", "sse,,"], ["--transports", "commas"]),
        (["run", "--profiles", "nowhere"], ["profile", "nowhere", "direct"]),
        (["run", "--recovery", "again"], ["recovery", "none, restart, resume"]),
        (["run", "--target", "sse"], ["--target", "TRANSPORT=URL"]),
        (["run", "--target", "sse=http://127.0.0.1:1"], ["--target sse", "127.0.0.1:1"]),
        (["run", "--resume", "nowhere"], ["--resume", "nowhere"]),
        (["run", "quick", "--resume", "nowhere"], ["--resume", "leave out plan"]),
        (["run", "--out", "/dev/null/x"], ["--out", "folder"]),
        (["serve", "pigeon"], ["pigeon", "sse"]),
        (["report", "nowhere"], ["nowhere"]),
        (["compare", "nowhere", "latest"], ["nowhere"]),
        (["rum"], ["rum"]),
    ],
)
def test_mistakes(tokenderby: Tokenderby, arguments: list[str], words: list[str]) -> None:
    done = tokenderby(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("tokenderby: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


def test_a_misspelt_key_in_a_plan(tokenderby: Tokenderby, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text('[load]\nstraems = 3\n[[cells]]\ntransport = "sse"\n')
    monkeypatch.chdir(tmp_path)
    done = tokenderby("run", "mine.toml")
    assert done.returncode == 2
    assert "[load]: no key 'straems' here; did you mean 'streams'?" in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["run"], ["serve"], ["proxy"], ["profiles"], ["report"], ["compare"], ["doctor"], ["plans"]]
)
def test_help_teaches(tokenderby: Tokenderby, arguments: list[str]) -> None:
    done = tokenderby(*arguments, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: tokenderby")


def test_help_imports_nothing_heavy() -> None:
    program = "import sys; import bench.cli; print({'pandas', 'aiohttp', 'matplotlib', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()"


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "bench.cli", "run", "quik"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_plans_are_listed(tokenderby: Tokenderby) -> None:
    done = tokenderby("plans")
    assert done.returncode == 0
    for name in ("quick", "article", "full"):
        assert f"{name} " in done.stdout


def test_doctor_finds_redis_and_says_what_it_thinks_of_each_thing(tokenderby: Tokenderby) -> None:
    began = time.monotonic()
    done = tokenderby("doctor")
    assert done.returncode == 0, done.stdout
    assert time.monotonic() - began < 30
    for name in ("cores", "governor", "CPU steal", "open files", "Redis", "uvloop", "TCP_INFO", "clock", "timer"):
        assert name in done.stdout

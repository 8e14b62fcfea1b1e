"""A real `tokenderby run` in a process of its own, with its results in a temporary folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from support.any_machine import VALIDITY
from support.programs import program

from bench.run_record import Run
from bench.store import RunFolder

PATIENCE_S = 120
MARK = "TOKENDERBY_TEST"

# Short answers of a fast model; limits so wide that a busy test machine voids nothing.
PLAN = """
blocks = 1
control = "none"

[stream]
profile = "fast"
{stream}

[load]
streams = {streams}
rate_per_s = 50
warmup_streams = 2
timeout_s = 20
{load}

{validity}
{cells}
"""
SSE = '[[cells]]\ntransport = "sse"\nreuse = [true, false]\n'  # two cells at one server


@dataclass
class Bench:
    """Runs the command in `folder`.

    Every process that comes of it carries `mark` in its environment, or is in the `sessions` of one that does: Redis
    writes over its environment.
    """

    folder: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    sessions: set[int] = field(default_factory=set)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def plan(self, cells: str = SSE, stream: str = "tokens = 8", load: str = "", streams: int = 10) -> str:
        """Write a tiny plan and return its path."""
        if "polling" in cells:
            program("redis")
        path = self.folder / "tiny.toml"
        path.write_text(PLAN.format(validity=VALIDITY, cells=cells, stream=stream, load=load, streams=streams))
        return str(path)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `tokenderby ARGUMENTS` and do not wait for it."""
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.cli", *arguments],
            cwd=self.folder,
            env=os.environ | {MARK: self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `tokenderby ARGUMENTS` to its end."""
        return finished(self.start(*arguments))

    def only_run(self) -> tuple[RunFolder, Run]:
        """The one run under `results/`."""
        (path,) = (entry for entry in (self.folder / "results").iterdir() if entry.name != "latest")
        folder = RunFolder(path)
        return folder, folder.load()

    def processes(self) -> list[psutil.Process]:
        """What still runs of all that was started."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            session = os.getsid(process.pid)
            known = session in self.sessions or os.getsid(process.ppid() or 1) in self.sessions
            if not known and process.environ().get(MARK) != self.mark:
                return False
            self.sessions.add(session)
            return bool(process.status() != psutil.STATUS_ZOMBIE)
        except (psutil.Error, ProcessLookupError):
            return False

    def wait_for(self, *words: str, connected: bool = False) -> psutil.Process:
        """The process with `words` in its command line, once it is there (and has a connection, if `connected`)."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for process in self.processes():
                if _is(process, words, connected):
                    return process
            assert self.processes(), "the command has ended"
            time.sleep(0.02)
        raise AssertionError(f"no process {words}")

    def wait_until_nothing_runs(self) -> None:
        """Fail if something is left behind."""
        deadline = time.monotonic() + 10
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert self.processes() == []


def _is(process: psutil.Process, words: tuple[str, ...], connected: bool) -> bool:
    try:
        command = " ".join(process.cmdline())
        matches = all(word in command for word in words) and "bench.running.child" not in command
        return matches and (not connected or bool(process.net_connections("tcp")))
    except psutil.Error:
        return False


def finished(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for the end of a started command."""
    with process:
        output, errors = process.communicate(timeout=PATIENCE_S)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench in an empty folder; what a failed test leaves running is killed."""
    bench = Bench(tmp_path)
    yield bench
    for process in bench.processes():
        process.kill()
    for command in bench.started:
        with command:
            command.communicate()

"""What is written down of the machine and the code."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.running import machine


def test_asking_for_the_commit_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed `git status` that was writing its index leaves a lock that stops every commit."""
    run = ("git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(tmp_path))
    (tmp_path / "file").write_text("text")
    for command in (("init", "-q"), ("add", "file"), ("commit", "-q", "-m", "one")):
        subprocess.run((*run, *command), check=True)
    os.utime(tmp_path / "file", (1, 1))  # the index does not know this time: `status` would write it down
    index = (tmp_path / ".git" / "index").read_bytes()
    monkeypatch.setattr(machine, "_PROJECT", tmp_path)
    monkeypatch.delenv("TOKENDERBY_GIT_COMMIT", raising=False)
    assert len(machine.git_commit() or "") == 40
    assert (tmp_path / ".git" / "index").read_bytes() == index


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there are only the ticks")
def test_the_cpu_time_of_a_process_has_no_ticks() -> None:
    """Two ticks of 10 ms in a cell would make Redis's cost a guess."""
    me = psutil.Process()
    for _ in range(5):
        before_s, found_s, after_s = time.process_time(), machine.cpu_seconds(me), time.process_time()
        assert found_s is not None
        assert before_s <= found_s <= after_s
        while time.process_time() < after_s + 0.003:
            pass


def test_a_process_that_has_ended_has_no_cpu_time() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = psutil.Process(child.pid)
        assert machine.cpu_seconds(process) is not None
        child.kill()
        child.wait()
    assert machine.cpu_seconds(process) is None
    assert machine.cpu_seconds(None) is None

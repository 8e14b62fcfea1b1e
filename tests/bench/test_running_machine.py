"""What is written down of the machine and the code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

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

"""A real `docker compose` for tests."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.run_record import Run
from bench.store import RunFolder

ROOT = Path(__file__).parents[2]
OWNER = 1234 if os.getuid() == 0 else os.getuid()  # whose folder the results go to


@dataclass(frozen=True)
class Compose:
    """One Compose project; `environment` are its settings."""

    project: str
    environment: dict[str, str]

    def __call__(self, *words: str, timeout_s: float = 60, check: bool = True) -> str:
        """`docker compose WORDS`; what it printed. Fails the test if it fails."""
        done = subprocess.run(
            ["docker", "compose", "-p", self.project, *words],
            cwd=ROOT,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert not check or done.returncode == 0, f"docker compose {' '.join(words)}:\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    @property
    def results(self) -> Path:
        """The folder that runs go to."""
        return Path(self.environment["RESULTS"])

    def container(self, service: str) -> str:
        """The id of a service's container, running or not."""
        return self("ps", "--all", "--quiet", service).strip()

    def said(self, service: str) -> str:
        """What a service has printed."""
        return self("logs", "--no-log-prefix", service)

    def finished(self) -> set[tuple[int, str]]:
        """Block and name of each cell that the bench service has called finished, and not failed."""
        lines = re.findall(r"\[\d+/\d+\] block (\d+)  (.+?): (?:ok,|void \()", self.said("bench"))
        return {(int(block), cell) for block, cell in lines}

    def ended(self, service: str, timeout_s: float) -> int:
        """Wait for a container's end; its exit code."""
        return int(docker("wait", self.container(service), timeout_s=timeout_s))

    def port(self, service: str) -> str:
        """`http://127.0.0.1:PORT` of a published service."""
        return f"http://127.0.0.1:{self.environment[f'{service.upper()}_PORT']}"

    def only_run(self) -> tuple[RunFolder, Run]:
        """The one run in the results folder."""
        (path,) = self.results.glob("*Z-*")
        return RunFolder(path), RunFolder(path).load()


def docker(*words: str, timeout_s: float = 60) -> str:
    """`docker WORDS`; what it printed."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def until(happened: Callable[[], object], timeout_s: float = 60) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)

"""Locust processes for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

LOCUSTFILE = str(Path(__file__).parents[2] / "clients" / "locustfile.py")


def environment(**urls: str) -> dict[str, str]:
    """This process's environment, with the servers' addresses and nobody else's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TOKENDERBY", "LOCUST"))}
    return kept | {f"TOKENDERBY_{transport.upper()}_URL": url for transport, url in urls.items()}


def locust(*words: str, log: Path | None = None, **urls: str) -> subprocess.Popen[str]:
    """A Locust process. What it says is in `log`, or else for `communicate`."""
    command = [sys.executable, "-m", "locust", "-f", LOCUSTFILE, *words]
    output: int | IO[str] = subprocess.PIPE if log is None else log.open("w")
    try:
        return subprocess.Popen(
            command,
            env=environment(**urls),
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    finally:
        if not isinstance(output, int):
            output.close()


def headless(results: Path, *words: str, **urls: str) -> tuple[int, str]:
    """Run a test to its end: exit code and output."""
    process = locust("--headless", "--only-summary", "--results-dir", str(results), *words, log=None, **urls)
    output, _ = process.communicate(timeout=90)
    return process.returncode, output

"""What the Makefile and Compose promise that can be seen without a network or an engine."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return found


def test_every_container_has_limits(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service.get("mem_limit"), name
        assert 0 < service.get("pids_limit", 0) <= 4096, name


def test_redis_refuses_writes_before_it_is_ended(services: dict[str, dict[str, Any]]) -> None:
    command = services["redis"]["command"]
    assert command[command.index("--maxmemory") + 1] == "1gb"
    assert services["redis"]["mem_limit"] == "1536m"
    assert command[command.index("--save") + 1] == ""


def made(*goals: str) -> str:
    """What `make` would do, with the environment as if it were up to date."""
    command = ["make", "--no-print-directory", "-n", "-o", ".venv/.run", "-o", ".venv/.dev", *goals]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout


@pytest.mark.needs("make")
def test_setup_says_what_comes_next() -> None:
    assert "Next: . .venv/bin/activate && tokenderby doctor" in made("setup")
    assert "Next" not in made("bench")
    assert "tokenderby run quick" in made("bench")


@pytest.mark.needs("make")
def test_the_notebook_opens_for_root_too() -> None:
    assert "--allow-root" in made("notebook")

"""What the Makefile and Compose promise that can be seen without a network or an engine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.programs import PROGRAMS, VARIABLE

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
def test_setup_is_made_good_after_a_python_without_ensurepip(tmp_path: Path) -> None:
    """Debian without python3-venv leaves half an environment behind; the next call must not take it for a whole one."""
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\n[ "$2" = venv ] || exit 0\n'
        'mkdir -p "$3/bin" && ln -sf /bin/true "$3/bin/python"\n'
        '[ -e ensurepip ] && ln -sf /bin/true "$3/bin/pip"\n'
    )
    python.chmod(0o755)
    (tmp_path / "requirements").mkdir()
    for file in ("pyproject.toml", "requirements/run.txt"):
        (tmp_path / file).touch()
    command = ["make", "-f", str(ROOT / "Makefile"), f"PYTHON={python}", "setup"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert "on Debian, apt install python3-venv" in done.stdout
    assert done.returncode == 2
    (tmp_path / "ensurepip").touch()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.needs("make")
def test_the_notebook_opens_for_root_too() -> None:
    assert "--allow-root" in made("notebook")


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_what_is_written_is_ignored_by_git_unless_asked_for(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    kept = ["results/perf.csv", "results/README.md", "results/review.ipynb", "results/reference/run.json"]
    written = [
        ".venv/bin/python",
        "results/20261126T170000Z-quick/run.json",
        "results/latest",
        "results/calibration.json",
    ]
    command = ["git", "check-ignore", *kept, *written]
    ignored = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30).stdout.split()
    assert ignored == written


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    return found


def test_ci_may_only_read_and_ends(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert 0 < job["timeout-minutes"] <= 30, name
        assert all("@v" in step["uses"] for step in job["steps"] if "uses" in step), name


def test_ci_has_every_program_that_a_test_may_ask_for(workflow: dict[str, Any]) -> None:
    """Else its tests would be skipped everywhere, and nobody would know."""
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    required = {line["os"]: set(line["require"].split(",")) for line in matrix["include"]}
    assert set(required) == set(matrix["os"])
    assert required["ubuntu-24.04"] == set(PROGRAMS)
    assert f"export {VARIABLE}={','.join(PROGRAMS)}\n" in (ROOT / ".ci" / "run").read_text()


def test_the_same_checks_everywhere() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [source["repo"] for source in config["repos"]] == ["local"]  # nothing is downloaded
    assert "pre-commit run --all-files" in made("check")

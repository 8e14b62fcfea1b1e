"""The workflow that docs/ offers: harmless to copy, and its commands exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.cli import main

WORKFLOW = Path(__file__).parents[2] / "docs" / "ci-workflow.yml"
COMMAND = re.compile(r"tokenderby (\w+) (.*)")


@pytest.fixture
def workflow() -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    return loaded


def steps(workflow: dict[Any, Any]) -> Iterator[dict[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


def test_only_the_job_that_runs_no_foreign_code_may_write(workflow: dict[Any, Any]) -> None:
    assert set(workflow[True]) == {"pull_request"}  # YAML 1.1 reads "on" as true
    assert workflow["permissions"] == {}
    measure, comment = workflow["jobs"]["measure"], workflow["jobs"]["comment"]
    assert measure["permissions"] == {"contents": "read"}
    assert comment["permissions"] == {"pull-requests": "write"}
    assert "head.repo.full_name == github.repository" in comment["if"]
    assert not any("checkout" in step.get("uses", "") for step in comment["steps"])
    for step in measure["steps"]:
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


def test_versions_are_pinned_and_no_event_is_pasted_into_a_shell(workflow: dict[Any, Any]) -> None:
    for step in steps(workflow):
        assert "uses" not in step or re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])
        assert "${{" not in step.get("run", "")
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())


def test_its_commands_exist(workflow: dict[Any, Any], capsys: pytest.CaptureFixture[str]) -> None:
    said = [COMMAND.search(step.get("run", "")) for step in steps(workflow)]
    found = [(match[1], set(re.findall(r"--[a-z-]+", match[2]))) for match in said if match]
    assert [command for command, _ in found] == ["run", "run", "compare"]
    for command, options in found:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        known = capsys.readouterr().out
        assert all(f"{option} " in known for option in options), options

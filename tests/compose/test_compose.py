"""`make compose-test`: what `docker compose up` promises, with a real engine (docs/compose.md)."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from support.composing import OWNER, Compose, docker

pytestmark = [pytest.mark.compose, pytest.mark.slow]

IMAGE_LIMIT_BYTES = 500_000_000
WARMUP_TOKENS = 500  # of one cell of the quick plan, and some


def until(happened: Callable[[], object], timeout_s: float = 60) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def answers(url: str) -> bool:
    """Whether a page is served there."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def test_up_runs_the_plan_and_serves_both_pages(compose: Compose) -> None:
    compose("up", "--build", "--detach", "--scale", "locust-worker=2", timeout_s=400)
    until(lambda: answers(compose.port("locust")))
    until(lambda: answers(f"{compose.port('notebook')}/login"))
    until(lambda: answers(f"{compose.port('sse')}/healthz"))  # through the timeout proxy
    check_containers(compose)
    assert compose.ended("bench", timeout_s=300) == 0, compose("logs", "bench")
    check_run(compose)
    image = docker("inspect", "--format", "{{.Id}}", "tokenderby")
    again = compose("up", "--detach", "--no-recreate", "sse", "notebook")
    assert docker("inspect", "--format", "{{.Id}}", "tokenderby") == image
    assert "building" not in again.lower()
    compose("down", "--timeout", "5", timeout_s=120)
    label = f"label=com.docker.compose.project={compose.project}"
    for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls")):
        assert docker(*kind, "--quiet", "--filter", label) == ""


def check_containers(compose: Compose) -> None:
    """Loopback only, nothing writable, no root among the servers, no tools, a small image."""
    for service in compose("ps", "--services").split():
        facts = json.loads(docker("inspect", compose.container(service).split()[0]))[0]
        assert facts["HostConfig"]["ReadonlyRootfs"], service
        bound = [each for every in (facts["HostConfig"]["PortBindings"] or {}).values() for each in every]
        assert {each["HostIp"] for each in bound} <= {"127.0.0.1"}, service
        assert bound == [] or service != "redis"
    assert compose("exec", "sse", "id", "-u").strip() == "10001"
    processes = compose("exec", "notebook", "cat", "/proc/1/status")
    assert f"Uid:\t{OWNER}\t{OWNER}" in processes  # the owner of the results folder
    tools = compose("exec", "sse", "sh", "-c", "ls /opt/tokenderby/bin; command -v gcc make uv git || true")
    assert not {"pip", "hatchling", "gcc", "make", "uv", "git"} & set(tools.replace("/", " ").split())
    base, image = (int(docker("inspect", "--format", "{{.Size}}", name)) for name in ("python:3.13-slim", "tokenderby"))
    assert image - base < IMAGE_LIMIT_BYTES


def check_run(compose: Compose) -> None:
    """A complete run, every message arrived, files of the host's user, and what shared which core."""
    folder, run = compose.only_run()
    assert (run.status, run.name) == ("complete", "quick")
    assert {cell.status for cell in run.cells} <= {"ok", "void"}
    assert sum(cell.failed_messages for cell in run.cells) == 0
    assert all(cell.server_cpu_s is not None for cell in run.cells)
    assert all(cell.redis_cpu_s is not None for cell in run.cells if cell.transport == "polling")
    assert run.machine["target_cores"] == {name: [0] for name in ("polling", "websocket", "chunked", "sse", "blocking")}
    assert run.warnings == []
    assert len(pd.read_csv(folder.path / "summary.csv")) == len({cell.cell for cell in run.cells})
    assert folder.report_path.stat().st_size > 100_000
    written = [folder.path, *folder.path.rglob("*")]
    assert {path.stat().st_uid for path in written} == {OWNER}
    assert (folder.path.parent / "latest").resolve() == folder.path


def test_what_dies_costs_its_cell_and_comes_back(compose: Compose) -> None:
    compose.environment["RUN_OPTIONS"] = "--blocks 1 --transports sse,chunked,polling --streams 40"
    compose("up", "--build", "--detach", "bench", "proxy-sse", "proxy-polling", timeout_s=400)
    accidents = {
        "sse": ("exec", "sse", "python3", "-c", "import os; os.kill(1, 15)"),  # it ends; Docker starts it again
        "polling": ("restart", "--timeout", "0", "redis"),
    }
    while accidents:  # the cells' order is the seed's: strike what is in the middle of its cell
        until(lambda: [transport for transport in accidents if tokens_sent(compose, transport) > WARMUP_TOKENS], 120)
        transport = next(each for each in accidents if tokens_sent(compose, each) > WARMUP_TOKENS)
        compose(*accidents.pop(transport))
    assert compose.ended("bench", timeout_s=200) == 1
    said = compose("logs", "--no-log-prefix", "bench")
    folder, run = compose.only_run()
    failed = sorted("; ".join(cell.reasons) for cell in run.cells if cell.status == "failed")
    assert len(failed) == 2, run.cells
    assert "Redis of the polling server died, or was restarted" in failed[0]
    assert "sse server at http://sse:8000 died, or was restarted" in failed[1]
    assert all(reason in said and reason in folder.report_path.read_text() for reason in failed)
    assert {cell.status for cell in run.cells} - {"failed"} <= {"ok", "void"}
    assert docker("inspect", "--format", "{{.RestartCount}}", compose.container("sse")) == "1"


def tokens_sent(compose: Compose, transport: str) -> int:
    """How many tokens a server has sent so far; 0 if it cannot be asked."""
    try:
        with urllib.request.urlopen(f"{compose.port(transport)}/stats", timeout=2) as response:
            return int(json.load(response)["tokens_sent"])
    except OSError:
        return 0


def test_a_full_disk_is_told_in_one_line(compose: Compose, tmp_path: Path) -> None:
    compose.environment["RUN_OPTIONS"] = "--blocks 3 --transports sse,chunked --streams 40"
    small = tmp_path / "small.yml"
    small.write_text(
        """
services:
  bench:
    volumes: ["small:/tokenderby/results"]
volumes:
  small:
    driver_opts: {type: tmpfs, device: tmpfs, o: "size=160k,uid=1234"}
"""
    )
    files = ("--file", "docker-compose.yml", "--file", str(small))
    compose(*files, "up", "--build", "--detach", "bench", timeout_s=400)
    assert compose.ended("bench", timeout_s=200) == 1
    said = compose("logs", "--no-log-prefix", "bench")
    assert "No space left on device" in said
    assert "Traceback" not in said

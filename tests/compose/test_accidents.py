"""What ends in mid-run, and a disk that fills up: a clear message, and every finished cell is kept."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.composing import ROOT, Compose, docker, until

from bench.run_record import Run
from bench.store import RunFolder

pytestmark = [pytest.mark.compose, pytest.mark.slow]

WARMUP_TOKENS = 500  # of one cell of the quick plan, and some


def test_what_dies_costs_its_cell_and_comes_back(compose: Compose) -> None:
    compose.environment["RUN_OPTIONS"] = "--blocks 1 --transports sse,chunked,polling --streams 40"
    compose("up", "--detach", "bench", "proxy-sse", "proxy-polling")
    accidents = {
        "sse": ("exec", "sse", "python3", "-c", "import os; os.kill(1, 15)"),  # it ends; Docker starts it again
        "polling": ("restart", "--timeout", "0", "redis"),
    }
    while accidents:  # the cells' order is the seed's: strike what is in the middle of its cell
        until(lambda: [transport for transport in accidents if tokens_sent(compose, transport) > WARMUP_TOKENS], 120)
        transport = next(each for each in accidents if tokens_sent(compose, each) > WARMUP_TOKENS)
        compose(*accidents.pop(transport))
    assert compose.ended("bench", timeout_s=200) == 1
    folder, run = compose.only_run()
    failed = sorted("; ".join(cell.reasons) for cell in run.cells if cell.status == "failed")
    assert len(failed) == 2, run.cells
    assert "Redis of the polling server died, or was restarted" in failed[0]
    # Nobody is there while it starts again, and later another process is.
    there = ("sse server at http://sse:8000 died, or was restarted", "no server answers at http://sse:8000")
    assert any(reason in failed[1] for reason in there), failed[1]
    said, report = compose.said("bench"), html.unescape(folder.report_path.read_text())
    assert [reason for reason in failed if reason not in said or reason not in report] == []
    check_finished(folder, run, compose.finished())
    assert docker("inspect", "--format", "{{.RestartCount}}", compose.container("sse")) == "1"


def tokens_sent(compose: Compose, transport: str) -> int:
    """How many tokens a server has sent so far; 0 if it cannot be asked."""
    try:
        with urllib.request.urlopen(f"{compose.port(transport)}/stats", timeout=2) as response:
            return int(json.load(response)["tokens_sent"])
    except OSError:
        return 0


def check_finished(folder: RunFolder, run: Run, finished: set[tuple[int, str]]) -> None:
    """Exactly the cells that were called finished are so in the run's record and in its table of messages."""
    assert finished
    assert {(cell.block, cell.cell) for cell in run.cells if cell.status in ("ok", "void")} == finished
    streams = pq.read_table(folder.streams_path, columns=["block", "cell"]).to_pylist()
    assert {(row["block"], row["cell"]) for row in streams} == finished
    assert folder.report_path.exists()


def test_what_is_stopped_for_good_fails_its_own_cells_only(compose: Compose) -> None:
    compose.environment["RUN_OPTIONS"] = "--blocks 2 --transports sse,chunked,polling --streams 20"
    compose("up", "--detach", "bench")
    until(compose.finished)
    compose("stop", "--timeout", "0", "redis", "chunked")
    assert compose.ended("bench", timeout_s=200) == 1
    folder, run = compose.only_run()
    check_finished(folder, run, compose.finished())
    failed = [cell for cell in run.cells if cell.status == "failed"]
    assert {cell.transport for cell in failed if cell.block == 2} == {"chunked", "polling"}
    culprit = {"chunked": "no server answers at http://chunked:8000", "polling": "the Redis of the polling server"}
    for cell in failed:
        assert re.search(f"{culprit[cell.transport]}|{cell.transport} server at .* died", cell.reasons[0]), cell
    assert sum(cell.seconds for cell in failed) < 60  # waited for once, not for each cell


def test_the_bench_service_stopped_and_resumed(compose: Compose) -> None:
    compose.environment["RUN_OPTIONS"] = "--blocks 1 --transports sse,chunked --streams 40"
    compose("up", "--detach", "bench")
    until(compose.finished)
    compose("stop", "bench", timeout_s=90)
    assert compose.ended("bench", timeout_s=10) == 130
    folder, run = compose.only_run()
    assert run.status == "interrupted"
    check_finished(folder, run, compose.finished())
    assert f"interrupted; go on with: tokenderby run --resume results/{folder.path.name}" in compose.said("bench")
    compose.environment.update(PLAN="", RUN_OPTIONS=f"--resume results/{folder.path.name}")
    compose("up", "--detach", "bench")
    assert compose.ended("bench", timeout_s=120) == 0, compose.said("bench")
    folder, run = compose.only_run()
    assert run.status == "complete"
    check_finished(folder, run, {(cell.block, cell.cell) for cell in run.cells})


SMALL_DISK = """
services:
  bench:
    volumes: ["small:/tokenderby/results"]
  keeper: # a tmpfs lives for as long as somebody has it mounted
    image: tokenderby
    pull_policy: never
    network_mode: none
    entrypoint: [sleep, infinity]
    volumes: ["small:/tokenderby/results"]
volumes:
  small:
    driver_opts: {type: tmpfs, device: tmpfs, o: "size=160k,uid=1234"}
"""


def test_a_full_disk_keeps_what_was_finished(compose: Compose, tmp_path: Path) -> None:
    """The first cells fit on it, a later one does not."""
    small = tmp_path / "small.yml"
    small.write_text(SMALL_DISK)
    compose.environment["COMPOSE_FILE"] = f"docker-compose.yml:{small}"
    compose.environment["RUN_OPTIONS"] = "--blocks 2 --transports sse,chunked --streams 40"
    compose("up", "--detach", "bench", "keeper")
    assert compose.ended("bench", timeout_s=200) == 1
    said = compose.said("bench")
    assert "No space left on device" in said
    assert "Traceback" not in said
    docker("cp", f"{compose.container('keeper')}:/tokenderby/results/.", str(compose.results))
    folder, run = compose.only_run()
    words = [sys.executable, "-m", "bench.cli", "report", str(folder.path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    check_finished(folder, run, compose.finished())
    assert len(compose.finished()) < len(run.cells)

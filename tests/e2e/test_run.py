"""`tokenderby run` with real servers, real load and real accidents."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from servers.redis_server import find_executable
from servers.transport import TRANSPORTS

from .conftest import SSE, Bench, finished

pytestmark = pytest.mark.slow

ALL = f'[[cells]]\ntransport = {json.dumps(list(TRANSPORTS))}\n[[cells]]\ntransport = "polling"\nwait = 20\n'
NEVER_IN_TIME = ("generator_lag_ms_p99 = 5000", "generator_lag_ms_p99 = 0.00001\nattempts = 2")
LONG = "tokens = 200"  # about 1.5 s an answer: time to do something to the cell
POLLING = '[[cells]]\ntransport = "polling"\nwait = [0, 20]\n'


def test_every_transport_to_the_report(bench: Bench) -> None:
    done = bench.run("run", bench.plan(ALL))
    assert done.returncode == 0, done.stderr
    folder, run = bench.only_run()
    assert run.status == "complete"
    cells = len(TRANSPORTS) + 1
    assert Counter(cell.status for cell in run.cells) == {"ok": cells}
    streams = pq.read_table(folder.streams_path).to_pandas()
    assert Counter(streams["cell"]) == {cell.cell: 10 for cell in run.cells}
    assert set(streams["outcome"]) == {"ok"}
    assert pq.read_metadata(folder.tokens_path).num_rows == cells * 10 * 8
    assert len(run.schedule_sha256) == 64
    assert all(0 < (cell.requests_worst_second or 0) <= streams["requests"].sum() for cell in run.cells)
    assert all(cell.server_cpu_s is not None and cell.client_cpu_s for cell in run.cells)
    assert all(cell.redis_commands for cell in run.cells if TRANSPORTS[cell.transport].needs_redis)
    for name in ("summary.csv", "report.html", "charts"):
        assert (folder.path / name).exists()
    assert (bench.folder / "results" / "latest" / "run.json").exists()
    assert done.stdout.count(" left\n") == cells  # a plain line per cell
    assert f"results/{folder.path.name}/report.html" in done.stdout
    bench.wait_until_nothing_runs()
    again = bench.run("report")
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("cells", "victim", "words"),
    [
        (SSE, ("-m servers sse",), "the sse server died (killed by SIGKILL)"),
        (POLLING, (Path(find_executable() or "redis").name,), "the Redis of the polling server died"),
        pytest.param(SSE, ("-m clients.load",), "the load process died (killed by SIGKILL)", marks=pytest.mark.extra),
    ],
    ids=["server", "redis", "load"],
)
def test_a_part_that_dies_costs_one_cell(bench: Bench, cells: str, victim: tuple[str, ...], words: str) -> None:
    running = bench.start("run", bench.plan(cells, stream=LONG))
    bench.wait_for("-m clients.load", connected=True)
    bench.wait_for(*victim).kill()
    done = finished(running)
    assert done.returncode == 1, done.stderr
    folder, run = bench.only_run()
    first, second = run.cells
    assert (first.status, second.status) == ("failed", "ok"), (first.reasons, second.reasons)
    assert words in first.reasons[0]
    assert words in done.stderr
    assert run.status == "failed"
    assert set(pq.read_table(folder.streams_path)["cell"].to_pylist()) == {second.cell}
    assert folder.report_path.exists()
    bench.wait_until_nothing_runs()


def test_interrupted_then_resumed(bench: Bench) -> None:
    running = bench.start("run", bench.plan(stream=LONG))
    assert running.stdout is not None
    while "[1/2]" not in running.stdout.readline():
        pass
    bench.wait_for("-m clients.load", connected=True)
    running.send_signal(signal.SIGINT)
    done = finished(running)
    assert done.returncode == 130
    folder, run = bench.only_run()
    assert run.status == "interrupted"
    assert [cell.status for cell in run.cells] == ["ok", "pending"]
    assert folder.report_path.exists()
    assert f"--resume results/{folder.path.name}" in done.stderr
    bench.wait_until_nothing_runs()

    done = bench.run("run", "--resume", str(folder.path))
    assert done.returncode == 0, done.stderr
    _, run = bench.only_run()
    assert [cell.status for cell in run.cells] == ["ok", "ok"]
    assert any("resumed" in warning for warning in run.warnings)
    assert pq.read_metadata(folder.streams_path).num_rows == 20
    again = bench.run("run", "--resume", str(folder.path))
    assert again.returncode == 2
    assert "every cell of this run is done" in again.stderr


def test_a_killed_runner_leaves_nothing_but_its_folder(bench: Bench) -> None:
    running = bench.start("run", bench.plan(POLLING, stream=LONG))
    bench.wait_for("-m clients.load", connected=True)
    running.kill()
    finished(running)
    bench.wait_until_nothing_runs()
    _, run = bench.only_run()
    assert run.status == "running"
    assert {cell.status for cell in run.cells} == {"pending"}


@pytest.mark.extra
def test_a_server_that_runs_already(bench: Bench) -> None:
    serving = bench.start("serve", "sse")
    assert serving.stdout is not None
    url = json.loads(serving.stdout.readline())["url"]
    plan = bench.plan()
    wrong = bench.run("run", plan, "--transports", "chunked", "--target", f"chunked={url}")
    assert wrong.returncode == 2
    assert "says that it is sse" in wrong.stderr
    done = bench.run("run", plan, "--target", f"sse={url}")
    assert done.returncode == 0, done.stderr
    _, run = bench.only_run()
    assert {cell.status for cell in run.cells} == {"ok"}
    assert not (bench.only_run()[0].path / "logs" / "sse.log").exists()  # no server of our own was started
    serving.terminate()
    assert finished(serving).returncode == 0


def test_stopped_while_it_waits_for_a_server(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"sse=http://127.0.0.1:{silent.getsockname()[1]}"
        waiting = bench.start("run", bench.plan(), "--target", url, "--target-wait", "60")
        silent.accept()[0].close()
        waiting.send_signal(signal.SIGTERM)
        done = finished(waiting)
    assert (done.returncode, done.stderr.strip()) == (130, "tokenderby: interrupted")


@pytest.mark.extra
def test_void_cells_say_why_and_are_no_error(bench: Bench) -> None:
    plan = Path(bench.plan())
    plan.write_text(plan.read_text().replace(*NEVER_IN_TIME))
    done = bench.run("run", str(plan))
    assert done.returncode == 0, done.stderr
    assert "Nothing was measured: no cell is valid (2 void); block 1, sse" in done.stdout
    folder, run = bench.only_run()
    assert {cell.status for cell in run.cells} == {"void"}
    assert "load came late" in run.cells[0].reasons[0]
    assert [len(cell.earlier) for cell in run.cells] == [1, 1]
    assert done.stdout.count("again at the end of its block: void because load came late: p99 ") == 2
    assert done.stdout.count(": void (load came late: p99 ") == 2
    assert pq.read_metadata(folder.streams_path).num_rows == 20, "only the last attempt's messages"


@pytest.mark.extra
def test_a_void_cell_that_was_to_run_again_does_so_when_the_run_is_resumed(bench: Bench) -> None:
    plan = Path(bench.plan(cells='[[cells]]\ntransport = "sse"\n', stream=LONG))
    plan.write_text(plan.read_text().replace(*NEVER_IN_TIME))
    running = bench.start("run", str(plan))
    assert running.stdout is not None
    while "again at the end of its block" not in running.stdout.readline():
        pass
    bench.wait_for("-m clients.load", connected=True)
    running.send_signal(signal.SIGINT)
    assert finished(running).returncode == 130
    folder, run = bench.only_run()
    (cell,) = run.cells
    assert (run.status, cell.status, [each.status for each in cell.earlier]) == ("interrupted", "pending", ["void"])

    done = bench.run("run", "--resume", str(folder.path))
    assert done.returncode == 0, done.stderr
    (cell,) = bench.only_run()[1].cells
    assert (cell.status, [each.status for each in cell.earlier]) == ("void", ["void"]), "two attempts in all"
    assert pq.read_metadata(folder.streams_path).num_rows == 10


@pytest.mark.extra
def test_a_full_disk_costs_the_cell_in_flight(bench: Bench) -> None:
    """A limit on file sizes stands in for the disk: `run.json` fits, a cell's tokens do not."""
    limit = 40_000
    plan = bench.plan(stream="tokens = 200", streams=60)
    program = "import sys; from bench.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", program, "run", plan],
        cwd=bench.folder,
        env={name: value for name, value in os.environ.items() if name != "COVERAGE_PROCESS_CONFIG"},  # it writes too
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1
    _, run = bench.only_run()
    assert {cell.status for cell in run.cells} == {"failed"}
    assert "File too large" in done.stderr


@pytest.mark.extra
def test_recorded_answers_and_a_trace(bench: Bench) -> None:
    (bench.folder / "answers.jsonl").write_text(
        json.dumps({"deltas": ["Hel", "lo", "\n\n", "😀"]}) + "\n" + json.dumps({"deltas": [" a", "", " b"]}) + "\n"
    )
    rows = [f"2023-11-16 18:15:{46 + k // 4:02d}.{k % 4 * 25:02d}0000,100,{3 + k % 5}" for k in range(20)]
    (bench.folder / "trace.csv").write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]) + "\n")
    done = bench.run(
        "run",
        bench.plan(
            '[[cells]]\ntransport = ["sse", "polling"]\n',
            load='arrivals = "trace"\ntrace = "trace.csv"\nspeed_up = 5.0',
            stream='recording = "answers.jsonl"',
        ),
    )
    assert done.returncode == 0, done.stderr
    folder, run = bench.only_run()
    assert {cell.status for cell in run.cells} == {"ok"}
    streams = pq.read_table(folder.streams_path).to_pandas()
    assert set(streams["outcome"]) == {"ok"}
    assert streams["tokens_lost"].sum() == 0


@pytest.mark.extra
def test_what_a_proxy_never_did_is_in_the_report(bench: Bench) -> None:
    profile = bench.folder / "slow.toml"
    profile.write_text(
        '[[behaviour]]\ntype = "max_age"\nmax_age_s = 60\n[[behaviour]]\ntype = "latency"\nlatency_ms = 5\n'
    )
    plan = bench.plan(cells=f'[[cells]]\ntransport = ["sse", "chunked"]\nprofile = "{profile}"\n')
    assert bench.run("run", plan).returncode == 0
    folder, run = bench.only_run()
    assert run.behaviours_struck["slow"]["max_age"] == 0
    assert run.behaviours_struck["slow"]["latency"] >= 2, "each transport has a proxy of its own"
    assert "which says nothing of them: slow: max_age." in folder.report_path.read_text()

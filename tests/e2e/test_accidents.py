"""`tokenderby run` where something is in its way: tokens, a server that hangs, a reader that leaves, another's text."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.processes import has_ipv6

from bench.store import RunFolder

from .conftest import Bench, finished

pytestmark = pytest.mark.slow

TOKEN = "s3cret-t0ken"
LONG = "tokens = 200"


def everything_said(folder: RunFolder) -> str:
    files = [folder.path / "run.json", folder.report_path, *(folder.path / "logs").iterdir()]
    return "".join(path.read_text() for path in files)


@pytest.mark.extra
def test_servers_of_our_own_that_ask_for_a_token(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENDERBY_AUTH_TOKEN", TOKEN)
    cells = '[[cells]]\ntransport = "polling"\n[[cells]]\ntransport = "sse"\nprofile = "none"\n'
    running = bench.start("run", bench.plan(cells))
    bench.wait_for("-m clients.load")
    assert not any(TOKEN in " ".join(process.cmdline()) for process in bench.processes())
    done = finished(running)
    assert done.returncode == 0, done.stderr
    folder, run = bench.only_run()
    assert {cell.status for cell in run.cells} == {"ok"}
    assert Counter(pq.read_table(folder.streams_path)["outcome"].to_pylist()) == {"ok": 20}
    assert all(cell.server_cpu_s for cell in run.cells)  # /stats asks for the token too
    assert TOKEN not in everything_said(folder)


def test_a_target_that_asks_for_a_token(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENDERBY_AUTH_TOKEN", TOKEN)
    serving = bench.start("serve", "sse")
    assert serving.stdout is not None
    target = f"sse={json.loads(serving.stdout.readline())['url']}"
    monkeypatch.delenv("TOKENDERBY_AUTH_TOKEN")
    plan = bench.plan('[[cells]]\ntransport = "sse"\n')
    without = bench.run("run", plan, "--target", target)
    assert without.returncode == 2
    assert "TOKENDERBY_TARGET_TOKEN" in without.stderr
    monkeypatch.setenv("TOKENDERBY_TARGET_TOKEN", TOKEN)
    done = bench.run("run", plan, "--target", target)
    assert done.returncode == 0, done.stderr
    folder, run = bench.only_run()
    assert [cell.status for cell in run.cells] == ["ok"]
    assert run.cells[0].server_cpu_s
    assert TOKEN not in everything_said(folder)
    serving.terminate()
    finished(serving)


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_a_target_with_an_ipv6_address(bench: Bench) -> None:
    serving = bench.start("serve", "sse", "--host", "::1")
    assert serving.stdout is not None
    url = json.loads(serving.stdout.readline())["url"]
    assert url.startswith("http://[::1]:")
    cells = '[[cells]]\ntransport = "sse"\nprofile = ["direct", "none"]\n'
    done = bench.run("run", bench.plan(cells), "--target", f"sse={url}")
    assert done.returncode == 0, done.stderr
    folder, _ = bench.only_run()
    assert Counter(pq.read_table(folder.streams_path)["outcome"].to_pylist()) == {"ok": 20}
    serving.terminate()
    finished(serving)


def test_a_server_that_hangs_costs_its_cell_and_no_transport_is_blamed(bench: Bench) -> None:
    plan = Path(bench.plan(stream=LONG))
    plan.write_text(plan.read_text().replace("timeout_s = 20", "timeout_s = 4"))
    running = bench.start("run", str(plan))
    bench.wait_for("-m clients.load", connected=True)
    server = bench.wait_for("-m servers sse")
    time.sleep(0.4)  # the load knows the server's clock by now, and has begun to ask
    server.send_signal(signal.SIGSTOP)
    done = finished(running)
    assert done.returncode == 1, done.stderr
    folder, run = bench.only_run()
    assert [cell.status for cell in run.cells] == ["failed", "ok"]
    assert "the sse server hangs" in run.cells[0].reasons[0]
    assert "the sse server hangs" in done.stderr
    assert set(pq.read_table(folder.streams_path)["outcome"].to_pylist()) == {"ok"}
    for fault in ("Traceback", "Event loop is closed", "Exception ignored"):
        assert fault not in done.stderr
    bench.wait_until_nothing_runs()


def test_an_impatient_ctrl_c_leaves_nothing(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each further one would cut short what ends the processes, and Redis would not tidy up behind itself."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    running = bench.start("run", bench.plan('[[cells]]\ntransport = "polling"\n', stream=LONG))
    bench.wait_for("-m clients.load", connected=True)
    assert list(temporary.glob("tokenderby-redis-*"))
    running.send_signal(signal.SIGINT)
    time.sleep(0.01)  # soon enough for the run to be still at it
    running.send_signal(signal.SIGINT)
    done = finished(running)
    assert done.returncode == 130, done.stderr
    assert "interrupted; go on with: tokenderby run --resume" in done.stderr
    assert bench.only_run()[1].status == "interrupted"
    bench.wait_until_nothing_runs()
    assert not list(temporary.glob("tokenderby-redis-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_report_that_is_interrupted_says_how_to_have_it(bench: Bench, number: signal.Signals) -> None:
    running = bench.start("run", bench.plan('[[cells]]\ntransport = "sse"\n'))
    while not list(bench.folder.glob("results/*/streams.parquet")):  # merged: the report comes next
        time.sleep(0.002)
        assert running.poll() is None
    running.send_signal(number)
    done = finished(running)
    assert done.returncode == 130, done.stderr
    folder, run = bench.only_run()
    assert run.status == "complete"
    assert done.stderr.endswith(f"go on with: tokenderby report {folder.path.relative_to(bench.folder)}\n")
    assert bench.run("report", str(folder.path)).returncode == 0
    assert not list(folder.path.glob(".*"))


def test_a_run_whose_folder_goes_says_so(bench: Bench) -> None:
    running = bench.start("run", bench.plan('[[cells]]\ntransport = "sse"\n'))
    bench.wait_for("-m clients.load", connected=True)
    shutil.rmtree(bench.only_run()[0].path)
    done = finished(running)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "the run's folder has gone" in done.stderr
    bench.wait_until_nothing_runs()


def test_a_reader_that_leaves_keeps_the_cells_and_brackets_are_no_markup(bench: Bench) -> None:
    out = "[bold]runs"
    tokenderby = f"{sys.executable} -m bench.cli"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {tokenderby} run {bench.plan()} --out '{out}' | head -1"],
        cwd=bench.folder,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert done.returncode == 1, done.stderr
    assert f"into {out}/" in done.stdout
    assert "about" in done.stdout  # how long it will take
    (path,) = (bench.folder / out).iterdir()
    assert done.stderr.count("\n") == 1
    assert f"go on with: tokenderby run --resume {out}/{path.name}" in done.stderr
    assert RunFolder(path).load().status == "interrupted"
    done = bench.run("run", "--resume", f"{out}/latest")
    assert done.returncode == 0, done.stderr
    assert f"Report: {path}/report.html" in done.stdout.replace(f"{bench.folder}/", "") or str(path) in done.stdout
    assert RunFolder(path).load().status == "complete"


def test_a_target_that_sends_another_text_is_told_what_is_asked_of_it(bench: Bench) -> None:
    """A server after docs/wire-format.md, but with a text of its own: every message is "altered"."""
    program = (
        "import asyncio, hashlib, json\n"
        "from aiohttp import web\n"
        "async def chat(request):\n"
        "    n = (await request.json())['stream'].get('tokens', 8)\n"
        "    lines = [json.dumps({'i': i, 't': 'x', 'due': 1, 'sent': 1}) for i in range(n)]\n"
        "    end = {'done': True, 'n': n, 'sha256': hashlib.sha256(b'x' * n).hexdigest()}\n"
        "    body = '\\n'.join([*lines, json.dumps(end), ''])\n"
        "    return web.Response(text=body, content_type='application/x-ndjson')\n"
        "async def healthz(request):\n"
        "    return web.json_response({'transport': 'chunked'})\n"
        "async def main():\n"
        "    app = web.Application()\n"
        "    app.router.add_post('/chat', chat)\n"
        "    app.router.add_get('/healthz', healthz)\n"
        "    runner = web.AppRunner(app)\n"
        "    await runner.setup()\n"
        "    await web.TCPSite(runner, '127.0.0.1', 0).start()\n"
        "    print(runner.addresses[0][1], flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as theirs:
        try:
            assert theirs.stdout is not None
            target = f"chunked=http://127.0.0.1:{theirs.stdout.readline().strip()}"
            done = bench.run("run", bench.plan('[[cells]]\ntransport = "chunked"\n'), "--target", target)
        finally:
            theirs.kill()
    assert done.returncode == 1
    assert "every message has another text than the schedule's" in done.stderr
    assert "docs/wire-format.md" in done.stderr

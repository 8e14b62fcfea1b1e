"""The memory that streams take of a server: of real processes that grow, of a stack in a cell, and on paper."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import time
from array import array
from io import StringIO
from pathlib import Path

import aiohttp
import pytest
from rich.console import Console
from support.runs import Message, RunBuilder

from bench.analysis.measures.groups import measure
from bench.analysis.measures.metrics import estimate
from bench.analysis.report.report import print_summary, write_report
from bench.plan import Cell, Plan
from bench.running.blocks import schedule
from bench.running.cell_runner import CellRunner
from bench.running.endpoints import Fleet
from bench.running.memory import LOOK_S, watched
from bench.store import RunFolder
from clients.core.tls import Trust
from clients.job import Load

MB = 10**6
GROWS = """
import sys
held = []
for line in sys.stdin:
    held = [b"x" * int(line)]
    print("grown", flush=True)
"""
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {GROWS!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
held = []
for line in sys.stdin:
    held = [b"x" * int(line)]
    print(line, end="", file=child.stdin, flush=True)
    print(child.stdout.readline(), end="", flush=True)
"""


def python(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def test_the_memory_is_that_of_all_processes_of_a_server() -> None:
    """20 MB in it and 20 MB in its worker, and given back again: the most is what counts."""
    with python(PARENT) as server:

        async def grow(size: int) -> int:
            print(size, file=server.stdin, flush=True)
            await asyncio.to_thread(server.stdout.readline)  # type: ignore[union-attr]
            await asyncio.sleep(3 * LOOK_S)
            return time.monotonic_ns()

        await grow(0)
        async with watched(server.pid) as memory:
            begin_ns = time.monotonic_ns()
            await grow(0)
            await grow(20 * MB)
            grown_ns = await grow(0)
            await grow(0)
        server.stdin.close()  # type: ignore[union-attr]
    first, most, later = memory.first_since(begin_ns), memory.most_since(begin_ns), memory.most_since(grown_ns)
    assert first is not None
    assert most is not None
    assert later is not None
    assert 38 * MB < most - first < 60 * MB
    assert later - first < 20 * MB
    assert memory.first_since(time.monotonic_ns()) is None


async def test_what_is_not_ours_or_has_ended_is_not_known() -> None:
    with python("") as ended:
        pass
    for pid in (None, ended.pid):
        async with watched(pid) as memory:
            await asyncio.sleep(2 * LOOK_S)
        assert memory.most_since(0) is None


async def test_a_cell_of_a_stack_tells_its_memory(tmp_path: Path) -> None:
    """Both cells of the one process are set against what it had before the first."""
    for name in ("cells", "logs"):
        (tmp_path / name).mkdir()
    cells = [Cell(transport="sse", stack="flask-gevent", reuse=reuse) for reuse in (True, False)]
    load = Load(streams=30, rate_per_s=100, warmup_streams=2, timeout_s=20)
    stream = {"profile": "fast", "tokens": 40, "ttft_ms": 20, "gap_ms": 5}
    plan = Plan(name="test", blocks=1, load=load, stream=stream, cells=tuple(cells))
    async with aiohttp.ClientSession() as http:
        fleet = Fleet(plan, http, tmp_path, [])
        runner = CellRunner(plan, RunFolder(tmp_path), http, {"load": [], "servers": []}, print, trust=Trust())
        try:
            grown = []
            for record in schedule(plan):
                await runner.run({cell.key: cell for cell in cells}[record.cell], record, fleet, lambda _, __: None)
                grown.append(record.server_memory_bytes)
        finally:
            await fleet.stop()
    first, second = grown
    assert first is not None
    assert second is not None
    assert 50_000 < first < 30 * MB
    assert second > first / 2, "what the first has left is no saving of the second's"


def open_for(start_ms: float, end_ms: float, waits_ms: float = 0) -> Message:
    """A message that its server took after `waits_ms`."""
    start_ns, end_ns, taken_ns = (10**12 + int(at_ms * 1e6) for at_ms in (start_ms, end_ms, start_ms + waits_ms))
    due = {"ttft_scheduled_ns": 10**6, "due_ns": array("q", [taken_ns + 10**6])}
    return Message([(1, 2)], facts={"start_ns": start_ns, "end_ns": end_ns, **due})


def test_memory_is_divided_by_the_most_streams_open_at_once(tmp_path: Path) -> None:
    """Two, then three (one begins as another ends); the sum of both blocks is divided by the sum of both."""
    run = RunBuilder(tmp_path)
    two = [open_for(0, 10), open_for(5, 15), open_for(15, 20)]
    run.cell("sse", 1, two, server_memory_bytes=100_000, variant={"stack": "fastapi"})
    run.cell("sse", 2, [*two, open_for(6, 9)], server_memory_bytes=250_000, variant={"stack": "fastapi"})
    for block in (1, 2):
        run.cell("sse", block, two)
    folder = run.write()
    summary = write_report(folder)
    measured = measure(folder)
    column = "server_memory_kb_per_open_stream"
    assert estimate(measured.cell("sse", "stack=fastapi"), column).value == pytest.approx(350 / 5)
    assert math.isnan(estimate(measured.cell("sse"), column).value)
    assert summary.table[column].tolist()[1:] == [pytest.approx(70)]
    console = Console(width=80, record=True, file=StringIO())
    print_summary(summary, console)
    shown = console.export_text()
    assert "kB/open" in shown
    assert next(line for line in shown.splitlines() if "7/7" in line).split()[-1] == "70"
    assert "server memory per open stream" in folder.report_path.read_text()


def test_a_question_that_waits_for_a_worker_is_no_open_stream(tmp_path: Path) -> None:
    """Four are asked at once of a server that serves one at a time: a stream costs it what one does, not a quarter."""
    run = RunBuilder(tmp_path)
    waiting = [open_for(0, wait_ms + 100, wait_ms) for wait_ms in (0, 100, 200, 300)]
    run.cell("sse", 1, waiting, server_memory_bytes=100_000)
    found = estimate(measure(run.write()).cell("sse"), "server_memory_kb_per_open_stream")
    assert found.value == pytest.approx(100)

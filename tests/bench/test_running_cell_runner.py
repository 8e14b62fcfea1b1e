"""Readings of the machine's meters: what other programs took, from made readings and from real processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil
import pytest
from support.processes import running_server

from bench import tables
from bench.plan import Cell, Plan
from bench.running.blocks import schedule
from bench.running.cell_runner import CellRunner, Reading, _talk
from bench.running.endpoints import Counters, Fleet, Route, Server
from bench.running.machine import busy_seconds, own_seconds
from bench.running.processes import Child
from bench.running.targets import RedisReading
from bench.store import RunFolder
from clients.core.tls import Trust
from clients.job import Job, JobResult, Load
from servers.process import usable_cores

SPIN = "import time\nwhile time.process_time() < 0.3: pass"


def reading(at_s: float, *, own_s: float, busy_s: float) -> Reading:
    counters, redis = Counters(), RedisReading()
    at_ns = round(at_s * 1e9)
    return Reading(at_ns, counters, redis, None, own_s=own_s, busy_s=busy_s, stolen_s=0.0, cpu_time_s=2 * at_s)


@pytest.mark.parametrize(
    ("own_s", "busy_s", "ratio"),
    [
        (0.9, 1.1, 0.05),  # a quiet machine
        (0.5, 4.4, 0.975),  # somebody computes on one core of the two all the time
        (0.9, 0.85, 0.0),  # the kernel counts in steps
    ],
)
def test_what_is_busy_and_not_ours_is_other_programs(own_s: float, busy_s: float, ratio: float) -> None:
    before, after = reading(10, own_s=3, busy_s=70), reading(14, own_s=3 + own_s, busy_s=70 + busy_s)
    assert before.foreign_ratio(after) == pytest.approx(ratio)


def test_too_short_a_time_says_nothing() -> None:
    assert reading(10, own_s=0, busy_s=0).foreign_ratio(reading(10.9, own_s=0, busy_s=0.9)) is None


def children_s() -> float:
    return own_seconds() - time.process_time()


def test_our_time_is_that_of_our_children_too_also_when_they_have_ended() -> None:
    before_s, busy_s = children_s(), busy_seconds(usable_cores())
    child = subprocess.Popen([sys.executable, "-c", f"{SPIN}\ninput()"], stdin=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while (alive_s := children_s()) < before_s + 0.28:  # the kernel counts in steps of 10 ms
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.communicate(b"\n")
    assert children_s() >= alive_s - 0.05
    assert busy_seconds(usable_cores()) - busy_s >= 0.2
    assert busy_seconds([]) >= busy_seconds(usable_cores()[:1])


async def test_a_server_s_lags_are_those_of_the_cell_alone() -> None:
    with running_server("sse") as own:
        route = Route(Server("sse", own.url), own.url)
        process = psutil.Process(own.process.pid)
        process.suspend()
        await asyncio.sleep(1.2)
        process.resume()
        async with aiohttp.ClientSession() as http:
            before = await Reading.take(route, http, usable_cores())
            after = await Reading.take(route, http, usable_cores(), before)
    assert (before.counters.loop_lag_us_max or 0) > 900_000, "of all that was"
    assert (after.counters.loop_lag_us_max or 0) < 900_000, "since then"


async def test_a_profiles_events_count_from_a_cells_measured_part(tmp_path: Path) -> None:
    """The second cell that a proxy sees meets them as the first does."""
    for name in ("cells", "logs"):
        (tmp_path / name).mkdir()
    profile = tmp_path / "deploy.toml"
    profile.write_text("[[behaviour]]\ntype = 'cut_all'\nat_s = 0.3\n")
    cells = [Cell(transport="sse", profile=str(profile), reuse=reuse) for reuse in (True, False)]
    load = Load(streams=2, rate_per_s=50, warmup_streams=0, timeout_s=20)
    stream = {"profile": "fast", "tokens": 40, "ttft_ms": 20, "gap_ms": 20}
    plan = Plan(name="test", blocks=1, load=load, stream=stream, cells=tuple(cells))
    folder = RunFolder(tmp_path)
    async with aiohttp.ClientSession() as http:
        fleet = Fleet(plan, http, tmp_path, [])
        runner = CellRunner(plan, folder, http, {"load": [], "servers": []}, print, trust=Trust())
        try:
            by_key = {cell.key: cell for cell in cells}
            for record in schedule(plan):
                await runner.run(by_key[record.cell], record, fleet, lambda _done, _of: None)
                messages = tables.read_rows(Path(f"{folder.cell_prefix(record.id)}.streams.parquet"))
                assert messages["drops"].to_pylist() == [1, 1]
        finally:
            await fleet.stop()


async def test_a_cell_whose_messages_are_all_refused_for_their_token_has_failed(tmp_path: Path) -> None:
    """Else the transport would be to blame. A run asks before it begins; a server may be started anew under way."""
    for name in ("cells", "logs"):
        (tmp_path / name).mkdir()
    load = Load(streams=2, rate_per_s=50, warmup_streams=0, timeout_s=20)
    plan = Plan(name="test", blocks=1, load=load, stream={"profile": "fast"}, cells=(Cell(transport="sse"),))
    with running_server("sse", "--auth-token", "s3cret") as locked:
        async with aiohttp.ClientSession() as http:
            fleet = Fleet(plan, http, tmp_path, [], {"sse": locked.url})
            runner = CellRunner(plan, RunFolder(tmp_path), http, {"load": [], "servers": []}, print, trust=Trust())
            (record,) = schedule(plan)
            await runner.run(plan.cells[0], record, fleet, lambda _done, _of: None)
    told = "the sse server refused every message for its token (status 401)"
    assert (record.status, record.reasons) == ("failed", [told])


async def test_the_meters_of_a_browser_are_read_while_it_is_still_there(tmp_path: Path) -> None:
    """Chromium waits for none of its processes, so that what they have used is nobody's once it has closed."""
    lags: dict[str, Any] = {name: None for name in JobResult.__struct_fields__ if "_ms_" in name}
    result = JobResult(messages=2, failed=0, cpu_s=1.0, measured_s=1.0, **lags | {"generator_lag_ms_p99": 0.0})
    lines = [{"done": 0, "of": 2}, {"done": 1, "of": 2}, {"done": 2, "of": 2}, {"done": 2, "of": 2}]
    told = b"\n".join(map(msgspec.json.encode, [*lines, result])).decode()
    child = await Child.start("load process", [sys.executable, "-c", f"print({told!r})"], tmp_path / "log", [])
    read: list[object] = []
    given: dict[str, Any] = {
        "transport": "sse",
        "url": "",
        "out": "",
        "block": 1,
        "cell": "sse",
        "seed": 1,
        "stream": {},
    }
    given["load"] = Load()

    async def first() -> Any:
        return "before"

    async def last(before: Any) -> Any:
        read.append(before)
        return f"after {before}"

    found: Any = await _talk(child, Job(**given), first, last, lambda _done, _of: None)
    assert found == (result, "before", "after before")
    assert read == ["before"], "once, and not again when it has closed"

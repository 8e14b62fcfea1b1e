"""Readings of the machine's meters: what other programs took, from made readings and from real processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import aiohttp
import psutil
import pytest
from support.processes import running_server

from bench.running.endpoints import Counters, Route, Server
from bench.running.machine import busy_seconds, own_seconds
from bench.running.measure import Reading
from bench.running.targets import RedisReading
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

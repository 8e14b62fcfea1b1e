"""A server knows how fast its core is, by a fixed piece of work."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from support.processes import RunningServer

from servers.pace import Pace
from servers.transport import TRANSPORTS


def test_the_mean_of_what_the_work_cost_since_a_moment() -> None:
    pace = Pace()
    assert pace.us_since() is None
    for now_ns in (1, 2, 3):
        pace.measure(now_ns)
    everything_us, last_us = pace.us_since(), pace.us_since(3)
    pace.close()
    assert everything_us is not None
    assert last_us is not None
    assert 0 < last_us < 3 * everything_us
    assert pace.us_since(4) is None


def test_what_the_kernel_did_once_is_no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    costs_ns = [20_000] * 30 + [5_000_000]
    moments = iter([moment for cost_ns in costs_ns for moment in (0, cost_ns)])
    monkeypatch.setattr("servers.pace.thread_time_ns", lambda: next(moments))
    pace = Pace()
    for now_ns in range(len(costs_ns)):
        pace.measure(now_ns)
    pace.close()
    assert pace.us_since() == 20


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_tells_its_pace_since_a_moment(server: Callable[[str], RunningServer], transport: str) -> None:
    running = server(transport)
    time.sleep(0.3)
    told = running.get("/stats")
    assert told["pace_us"] > 0
    assert running.get(f"/stats?since={told['now_ns'] + 3600 * 10**9}")["pace_us"] is None

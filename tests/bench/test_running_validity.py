"""The rules that void a cell, one by one; and when a void cell is run again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bench.plan import Plan, Validity
from bench.run_record import CellAttempt, CellRecord, CellStatus
from bench.running.validity import SPARE_LEAST_S, void_reasons, worth_another

LIMITS = Validity(
    generator_lag_ms_p99=2.0,
    request_lag_ms_p99=20.0,
    emit_lag_ms_p99=2.0,
    loop_lag_ms_p99=5.0,
    loop_lag_ms_max=30.0,
    foreign_cpu_ratio=0.25,
    steal_ratio=0.02,
    client_cpu_ratio=0.8,
)
CLEAN: dict[str, Any] = {
    "messages": 80,
    "delay_ms_p50": 0.6,
    "generator_lag_ms_p99": 0.4,
    "request_lag_ms_p99": 3.0,
    "emit_lag_ms_p99": 0.3,
    "loop_lag_ms_p99": 0.6,
    "loop_lag_ms_max": 4.0,
    "server_loop_lag_ms_p99": 0.5,
    "server_loop_lag_ms_max": 4.0,
    "proxy_loop_lag_ms_p99": 0.0,
    "proxy_loop_lag_ms_max": 6.0,
    "redis_lag_ms_p99": 0.8,
    "redis_lag_ms_max": 5.0,
    "client_cpu_ratio": 0.25,
    "foreign_cpu_ratio": 0.06,
    "steal_ratio": 0.002,
}
POLLING = {"delay_ms_p50": 800.0}  # 2 % of it are 16 ms


def reasons(changes: dict[str, Any]) -> list[str]:
    record = CellRecord(id="b01-sse", block=1, cell="sse", transport="sse", **CLEAN | changes)
    return void_reasons(record, LIMITS)


def test_a_server_that_is_early_makes_its_transport_look_better_than_it_is() -> None:
    """Less than its 0.5 ms on the way: then no token is there before it is due, and only the stamps tell."""
    assert reasons({"emit_early_ms_max": 1.4}) == ["server emitted early: up to 1.4 ms before its tokens were due"]
    assert reasons({"emit_early_ms_max": 1.0}) == reasons({"emit_early_ms_max": None}) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),  # what a quiet machine shows
        ({"failed_messages": 80}, None),  # failures are a finding about the transport, not about the run
        ({"generator_lag_ms_p99": 2.0, "steal_ratio": 0.02, "foreign_cpu_ratio": 0.25}, None),  # at the limit
        ({"generator_lag_ms_p99": 2.1}, "load came late: p99 2.1 ms > 2 ms"),
        ({"request_lag_ms_p99": 4897.0}, "server had its requests late: p99 4897.0 ms > 20 ms"),
        ({"emit_lag_ms_p99": 31.0}, "server emitted late: p99 31.0 ms > 2 ms"),
        ({"emit_lag_ms_p99": 31.0, "variant": "stack=fastapi"}, "server emitted late: p99 31.0 ms > 2 ms"),
        # Its own processes keep the model's time, and take a request when they have room: that is what is measured.
        ({"emit_lag_ms_p99": 31.0, "request_lag_ms_p99": 4897.0, "variant": "stack=flask-sync"}, None),
        ({"loop_lag_ms_p99": 9.0}, "client's event loop late: p99 9.0 ms > 5 ms"),
        ({"loop_lag_ms_max": 44.0}, "client's event loop stood still: 44.0 ms > 30 ms"),
        ({"server_loop_lag_ms_p99": 9.0}, "server's event loop late: p99 9.0 ms > 5 ms"),
        ({"server_loop_lag_ms_max": 44.0}, "server's event loop stood still: 44.0 ms > 30 ms"),
        ({"proxy_loop_lag_ms_max": 1000.0}, "proxy's event loop stood still: 1000.0 ms > 30 ms"),
        # Stalls that are each below the limit of a single one, again and again.
        ({"proxy_loop_lag_ms_p99": 22.0, "proxy_loop_lag_ms_max": 22.0}, "proxy's event loop late: p99 22.0 ms > 5 ms"),
        ({"redis_lag_ms_p99": 22.0, "redis_lag_ms_max": 22.0}, "Redis answered late: p99 22.0 ms > 5 ms"),
        ({"redis_lag_ms_max": 1000.0}, "Redis answered late: 1000.0 ms > 30 ms"),
        ({"steal_ratio": 0.035}, "CPU time stolen by the host: 3.5 % > 2 %"),
        ({"foreign_cpu_ratio": 0.74}, "CPU time of other programs, of a core: 74.0 % > 25 %"),
        ({"client_cpu_ratio": 0.95}, "load process's CPU: 95.0 % > 80 %"),
        ({"messages": 0}, "no message was measured"),
        (POLLING | {"generator_lag_ms_p99": 11.5, "loop_lag_ms_p99": 15.9}, None),  # nobody would read that off 800 ms
        (
            POLLING | {"generator_lag_ms_p99": 17.0},
            "load came late: p99 17.0 ms > 16.0 ms (2 % of the median delay)",
        ),
        (POLLING | {"loop_lag_ms_max": 44.0}, "client's event loop stood still: 44.0 ms > 30 ms"),
        (POLLING | {"foreign_cpu_ratio": 0.74}, "CPU time of other programs, of a core: 74.0 % > 25 %"),
    ],
)
def test_rules(changes: dict[str, Any], words: str | None) -> None:
    assert reasons(changes) == ([words] if words else [])


def test_every_reason_is_given() -> None:
    assert len(reasons({"generator_lag_ms_p99": 5.0, "emit_lag_ms_p99": 5.0, "steal_ratio": 0.5})) == 3


def test_a_lag_cannot_hide_behind_the_delay_that_it_makes() -> None:
    """A server that stood still for seconds has made the median delay large as well."""
    frozen = {"delay_ms_p50": 3000.0, "emit_lag_ms_p99": 5900.0}
    assert reasons(frozen) == ["server emitted late: p99 5900.0 ms > 60.0 ms (2 % of the median delay)"]


def test_what_is_not_known_voids_nothing() -> None:
    record = CellRecord(id="b01-sse", block=1, cell="sse", transport="sse", messages=80)
    assert void_reasons(record, Validity()) == []


PLAN = Plan(name="p", validity=LIMITS)
SECONDS = 4.0


def void_cell(**changes: Any) -> CellRecord:
    given = CLEAN | {"id": "b01-sse", "block": 1, "cell": "sse", "transport": "sse", "seconds": SECONDS} | changes
    return CellRecord(**{"status": "void"} | given)


def attempts(count: int) -> list[CellAttempt]:
    return [CellAttempt(status="void", seconds=SECONDS)] * count


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({}, True),
        ({"earlier": attempts(1)}, True),
        ({"earlier": attempts(2)}, False),  # three attempts in all
        ({"client_cpu_ratio": 0.95}, False),  # the next would be as busy
        ({"messages": 0}, False),
    ],
)
def test_what_is_run_again(changes: dict[str, Any], again: bool) -> None:
    record = void_cell(**changes)
    assert worth_another(record, [record], PLAN, expected_s=600) == again


@pytest.mark.parametrize("status", ["ok", "failed"])
def test_only_what_is_void_is_run_again(status: CellStatus) -> None:
    record = void_cell(status=status)
    assert not worth_another(record, [record], PLAN, expected_s=600)


@pytest.mark.parametrize(("expected_s", "parallel", "cells"), [(200, 1, 25), (200, 4, 100), (10, 1, 7)])
def test_running_again_takes_no_more_than_half_the_run_s_time(expected_s: float, parallel: int, cells: int) -> None:
    """Or half a minute, where that is more."""
    spare_s = max(expected_s / 2, SPARE_LEAST_S) * parallel
    assert cells == spare_s // SECONDS
    plan = msgspec.structs.replace(PLAN, parallel=parallel)
    records = [void_cell() for _ in range(cells + 3)]
    taken = 0
    for record in records:
        if worth_another(record, records, plan, expected_s):
            record.begin_again()
            taken += 1
    assert taken == cells

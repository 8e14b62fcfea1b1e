"""The rules that void a cell, one by one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bench.plan import Validity
from bench.running.validity import void_reasons
from bench.store import CellRecord
from clients.job import JobResult

LIMITS = Validity(
    generator_lag_ms_p99=2.0, emit_lag_ms_p99=2.0, loop_lag_ms_p99=5.0, steal_ratio=0.02, client_cpu_ratio=0.8
)
GOOD = JobResult(
    messages=80,
    failed=0,
    cpu_s=0.5,
    measured_s=2.0,
    generator_lag_ms_p99=0.4,
    emit_lag_ms_p99=0.3,
    loop_lag_ms_p99=0.6,
)


def reasons(result: JobResult, steal_ratio: float | None) -> list[str]:
    record = CellRecord(
        id="b01-sse",
        block=1,
        cell="sse",
        transport="sse",
        generator_lag_ms_p99=result.generator_lag_ms_p99,
        emit_lag_ms_p99=result.emit_lag_ms_p99,
        loop_lag_ms_p99=result.loop_lag_ms_p99,
        steal_ratio=steal_ratio,
        messages=result.messages,
    )
    return void_reasons(record, result.cpu_ratio, LIMITS)


@pytest.mark.parametrize(
    ("changes", "steal_ratio", "words"),
    [
        ({}, 0.0, None),
        ({}, None, None),
        ({"failed": 80}, 0.0, None),  # failures are a finding about the transport, not about the run
        ({"generator_lag_ms_p99": 2.0}, 0.02, None),  # at the limit
        ({"generator_lag_ms_p99": 2.1}, 0.0, "load came late: p99 2.1 ms > 2 ms"),
        ({"emit_lag_ms_p99": 31.0}, 0.0, "server emitted late: p99 31.0 ms > 2 ms"),
        ({"loop_lag_ms_p99": 9.0}, 0.0, "client's event loop late: p99 9.0 ms > 5 ms"),
        ({}, 0.035, "CPU time stolen by the host: 3.5 % > 2 %"),
        ({"cpu_s": 1.9}, 0.0, "load process's CPU: 95.0 % > 80 %"),
        ({"cpu_s": 0.2, "measured_s": 0.01}, 0.0, None),  # every message was refused at once
        ({"messages": 0, "measured_s": 0.0}, 0.0, "no message was measured"),
    ],
)
def test_rules(changes: dict[str, Any], steal_ratio: float | None, words: str | None) -> None:
    assert reasons(msgspec.structs.replace(GOOD, **changes), steal_ratio) == ([words] if words else [])


def test_every_reason_is_given() -> None:
    late = msgspec.structs.replace(GOOD, generator_lag_ms_p99=5.0, emit_lag_ms_p99=5.0)
    assert len(reasons(late, 0.5)) == 3


def test_what_is_not_known_voids_nothing() -> None:
    record = CellRecord(id="b01-sse", block=1, cell="sse", transport="sse", messages=80)
    assert void_reasons(record, None, Validity()) == []

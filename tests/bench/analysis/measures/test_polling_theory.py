"""Polling's numbers from the plan alone: the rule of thumb, the schedules, and a real run beside them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from support.runs import Message, RunBuilder

from bench.analysis.measures.groups import measure
from bench.analysis.measures.polling_theory import COLUMNS, polled, predicted, requests_explained, rule, theory
from bench.console import Console
from bench.plan import parse
from bench.running.progress import display
from bench.running.runner import RunOptions, carry_out, new_run
from bench.store import open_run
from servers.stream import StreamSpec, build

ROOT = Path(__file__).resolve().parents[4]

LAGS_MS = ("generator_lag_ms_p99", "request_lag_ms_p99", "emit_lag_ms_p99", "loop_lag_ms_p99", "loop_lag_ms_max")


def test_a_token_waits_for_the_next_poll() -> None:
    found = polled(np.array([10.0, 90.0, 100.0, 101.0]), interval_ms=100, round_trip_ms=0)
    assert found.received_ms.tolist() == [100, 100, 100, 200]
    assert found.polls == 3  # at 0, 100 and 200 ms
    late = polled(np.array([101.0]), interval_ms=100, round_trip_ms=2)
    assert (late.due_ms.tolist(), late.received_ms.tolist()) == ([102.0], [104.0])  # the poll begins 1 ms later, too


@pytest.mark.parametrize("interval_ms", [50, 250, 1000])
def test_for_long_answers_the_rule_is_what_the_schedules_say(interval_ms: float) -> None:
    spec = StreamSpec(ttft_ms=430, ttft_sigma=0, gap_ms=13.0, gap_sigma=0.3, tokens=2000)
    schedules = [build(spec, seed) for seed in range(12)]
    exact, thumb = predicted(schedules, interval_ms, 1.0, 1.0), rule(430, 13.0 * 1.046, interval_ms, 1.0)
    for column in ("ttft_ms_p50", "delay_ms_p50", "burst_tokens_mean"):
        assert exact[column] == pytest.approx(thumb[column], rel=0.05), column
    assert predicted(schedules, interval_ms / 10, 1.0, 10.0)["burst_tokens_mean"] == pytest.approx(
        exact["burst_tokens_mean"], rel=0.05
    )


def test_a_real_run_is_what_the_plan_predicts(tmp_path: Path) -> None:
    """The bounds are wide: even a busy machine makes half of the polls no later than a tenth of a second."""
    plan = parse(
        {
            "name": "theory",
            "blocks": 1,
            "control": "none",
            "time_scale": 2.0,
            "stream": {"profile": "hosted", "ttft_ms": 200, "gap_ms": 20, "tokens": 120},
            "load": {"streams": 20, "rate_per_s": 20, "warmup_streams": 4},
            "cells": [{"transport": "polling", "interval": 0.8}],
            "validity": dict.fromkeys(LAGS_MS, 10_000.0)
            | {"steal_ratio": 1.0, "client_cpu_ratio": 1.0, "foreign_cpu_ratio": 100.0},
        }
    )
    folder = new_run(plan, tmp_path)
    asyncio.run(carry_out(plan, folder, RunOptions(), display(Console(), folder.load().cells)))
    folder.merge()
    rows = theory(measure(folder))
    assert [row.column for row in rows] == list(COLUMNS)
    found = {row.column: row.measured for row in rows}
    assert found == {row.column: pytest.approx(row.predicted, rel=0.25) for row in rows}
    assert "from the plan alone" in rows[0].sentence


def test_upgrades_explain_more_than_one_request(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    for transport in ("websocket", "sse"):
        facts = [{"requests": 2 if transport == "websocket" else 1, "connections": 1}, {"connections": 0}]
        run.cell(transport, 1, [Message([(1, 2)], facts=each) for each in facts])
    measured = measure(run.write())
    assert requests_explained(measured.cell("websocket")).startswith("WebSocket: 1.50 requests per message are 1 quest")
    assert requests_explained(measured.cell("sse")) == ""
    assert theory(measured) == [], "a run of another tool has no plan that predicts anything"


def test_the_reference_run_is_what_its_plan_predicts() -> None:
    """Five percent, on a quiet machine; 800 ms late with the first token is the plan's doing."""
    rows = theory(measure(open_run(ROOT / "results" / "reference")))
    assert {row.column: abs(row.error) <= 0.05 for row in rows} == dict.fromkeys(COLUMNS, True)

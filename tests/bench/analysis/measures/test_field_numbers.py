"""The numbers that the field names, and those of traffic and cost: hand-written records, worked out on paper."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from support.runs import Message, RunBuilder

from bench.analysis.measures.demands import message_limits_of
from bench.analysis.measures.groups import MeasuredCell, measure
from bench.analysis.measures.metrics import estimate

DUE_MS = [200 + 10 * k for k in range(100)]  # the last at 1190 ms


def values(cell: MeasuredCell, *names: str) -> dict[str, float]:
    return {name: estimate(cell, name).value for name in names}


def streamed(late_ms: float, **facts: object) -> Message:
    return Message([(due, due + late_ms) for due in DUE_MS], facts=facts)


def polled(interval_ms: float) -> Message:
    return Message([(due, math.ceil((due + 1) / interval_ms) * interval_ms) for due in DUE_MS])


def test_latencies_by_the_names_of_the_field(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    steady = Message([(100, 102), (110, 112), (130, 142)], facts={"head_ms": 1.5})
    single = Message([(50, 51)])  # no gap, so no time per output token
    run.cell("sse", 1, [steady, single, Message([(10, 12)], expected=2, outcome="truncated")])
    cell = measure(run.write()).cell("sse")
    expected = {
        "itl_ms_p50": 30.0,  # of 10, 30 and never
        "e2e_ms_p50": 142.0,  # of 51, 142 and never
        "tpot_ms_p50": (142 - 102) / 2,  # of that and never
        "tokens_per_s_per_user_p50": 1000 / 51,  # of 0, 19.6 and 21.1
        "wait_s_per_answer": math.inf,  # one of them waits for ever
        "head_ms_p50": 1.5,
    }
    assert values(cell, *expected) == pytest.approx(expected, rel=0.0006)
    assert math.isnan(estimate(cell, "stop_s_p50").value)
    assert math.isnan(estimate(cell, "goodput_ratio").value), "the plan has no limits"


def test_what_comes_back_at_once_and_what_goes_on_for_nobody(tmp_path: Path) -> None:
    """The stops of messages that dropped, for ever among them; the worst second is a mean over blocks."""
    stops_s = [0.25, 4.0, math.inf]
    dropped = [Message([(10, 12)], facts={"drops": 1, "stop_s": stop_s}) for stop_s in stops_s]
    run = RunBuilder(tmp_path)
    for block, worst in ((1, 30), (2, 50)):
        run.cell("sse", block, [*dropped, Message([(10, 12)])], requests_worst_second=worst)
        run.cell("chunked", block, [Message([(10, 12)], facts={"drops": 1})])
    measured = measure(run.write())
    assert values(measured.cell("sse"), "stop_s_p50", "requests_worst_second") == {
        "stop_s_p50": 4.0,
        "requests_worst_second": 40.0,
    }
    unknown = values(measured.cell("chunked"), "stop_s_p50", "requests_worst_second")
    assert all(math.isnan(value) for value in unknown.values())


def test_waiting_grows_with_coarseness(tmp_path: Path) -> None:
    """A reader at the model's pace is through so much later than the model as the latest token was late."""
    run = RunBuilder(tmp_path)
    run.cell("sse", 1, [streamed(2), streamed(4)])
    for interval_ms in (250, 1000):
        run.cell("polling", 1, [polled(interval_ms)], variant={"interval": interval_ms / 1000})
    run.cell("blocking", 1, [Message([(due, 1191) for due in DUE_MS])])
    measured = measure(run.write())
    waits = [estimate(cell, "wait_s_per_answer").value for cell in measured.cells]
    keys = [cell.key.title for cell in measured.cells]
    assert dict(zip(keys, waits, strict=True)) == pytest.approx(
        {"SSE": 0.003, "Polling interval=0.25": 0.25, "Polling interval=1.0": 1.0, "Blocking": 0.991}, abs=1e-9
    )


def test_an_outage_is_waited_through(tmp_path: Path) -> None:
    """Tokens that come 0.5 s late after a drop, at once, and nothing later: the reader never catches up."""
    run = RunBuilder(tmp_path)
    tokens = [(due, 750.0 if 250 <= due < 750 else due + 1.0) for due in DUE_MS]
    run.cell("sse", 1, [Message(tokens, facts={"drops": 1})], recovery="resume")
    (cell,) = measure(run.write()).cells
    assert estimate(cell, "wait_s_per_answer").value == pytest.approx(0.5)


def test_the_way_of_the_question_is_waited_for_too(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    run.cell("sse", 1, [streamed(2, ttft_scheduled_ns=170_000_000)])  # due at 200 ms: the server began 30 ms late
    assert values(measure(run.write()).cells[0], "wait_s_per_answer") == pytest.approx({"wait_s_per_answer": 0.032})


def test_traffic_with_its_packets_and_without_our_stamps(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    sizes = {"bytes_in": 9000, "bytes_out": 1000, "packets_in": 100, "packets_out": 50, "wire_bytes": 17_800}
    run.cell("sse", 1, [streamed(1, **sizes), streamed(1)])  # of the second nothing is known
    cell = measure(run.write()).cells[0]
    stamps = len(',"due":') + len(',"sent":') + 2 * len("1000200000000")
    expected = {
        "bytes_per_token": 100.0,
        "stamp_bytes_per_token": stamps,
        "bytes_per_token_without_stamps": 100.0 - stamps,
        "wire_bytes_per_token": 178.0,
        "wire_bytes_per_token_without_stamps": 178.0 - stamps,
        "packets_per_token": 1.5,
    }
    assert values(cell, *expected) == pytest.approx(expected)


def test_cost_above_the_baseline_of_the_same_block_and_load(tmp_path: Path) -> None:
    """SSE takes 6 µs more in block 1 and 18 in block 2, where it has three times the messages; load b takes twice."""
    run = RunBuilder(tmp_path)
    for block, mood, messages in ((1, 1.0, 1), (2, 3.0, 3)):
        for transport, us in (("blocking", 10), ("sse", 16)):
            for load in ("a", "b"):
                cpu_s = us * mood * (2 if load == "b" else 1) * 100 * messages / 1e6
                cpu = {"client_cpu_s": cpu_s / 3, "server_cpu_s": 2 * cpu_s / 3}
                run.cell(transport, block, [streamed(1)] * messages, variant={"load": load}, **cpu)
    run.cell("blocking", 1, [streamed(1)], profile="nginx")
    run.cell("sse", 1, [streamed(1)], profile="aws-alb", client_cpu_s=1.0, server_cpu_s=1.0)
    measured = measure(run.write())
    above = {c.key.title: estimate(c, "cpu_us_per_token_over_baseline").value for c in measured.cells}
    assert above["SSE load=a"] == pytest.approx((6 + 3 * 18) / 4)
    assert above["SSE load=b"] == pytest.approx((12 + 3 * 36) / 4)
    assert above["Blocking load=a"] == pytest.approx(0)
    assert math.isnan(above["SSE · aws-alb"]), "no baseline behind the same profile"
    rate = estimate(measured.cell("sse", "load=a"), "tokens_per_s").value
    assert rate == pytest.approx(400 / (1.191 + 3.191))  # the builder's messages begin a second apart


def test_goodput_counts_the_messages_that_kept_every_limit(tmp_path: Path) -> None:
    """Limits are real times; the run's are half of them."""
    slo = {"ttft_ms_p95": 1, "message": {"ttft_ms": 500, "wait_s": 0.2, "e2e_ms": None}}
    run = RunBuilder(tmp_path, {"plan": {"slo": slo, "cells": [{"transport": "sse"}]}, "time_scale": 2.0})
    failed = Message([(200, 201)], expected=2, outcome="truncated")
    run.cell("sse", 1, [streamed(1), streamed(60), streamed(101), failed])  # the second misses TTFT, the third both
    folder = run.write()
    assert message_limits_of(folder.load()) == {"sse": {"ttft_ms": 250, "wait_s": 0.1}}
    assert values(measure(folder).cells[0], "goodput_ratio") == {"goodput_ratio": 1 / 4}


@pytest.mark.parametrize("plan", [{}, {"slo": {"message": None}}, {"slo": {"ttft_ms_p95": 5}}])
def test_without_limits_for_messages_there_is_no_goodput(plan: dict[str, object], tmp_path: Path) -> None:
    run = RunBuilder(tmp_path, {"plan": plan})
    run.cell("sse", 1, [streamed(1)])
    assert math.isnan(values(measure(run.write()).cells[0], "goodput_ratio")["goodput_ratio"])

"""Limits of a plan against numbers that can be worked out on paper: only what is shown to be kept passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.runs import Message, RunBuilder

from bench.analysis.findings.gates import Gate, gates, not_met, passed
from bench.analysis.measures.demands import message_limits_of
from bench.analysis.measures.groups import Measurements, measure
from bench.analysis.report.report import write_report
from bench.store import RunFolder, StoreError

SSE = {"transport": "sse"}


def message(ttft_ms: float, tokens: int = 2, gap_ms: float = 10, **facts: Any) -> Message:
    """Made without delay from `ttft_ms` on; the client has each token at once."""
    moments = [ttft_ms + gap_ms * i for i in range(tokens)]
    return Message([(moment, moment) for moment in moments], **facts)


FAILED: dict[str, Any] = {"outcome": "truncated", "expected": 3}


def measured_run(
    folder: Path, plan: dict[str, Any], per_block: list[list[Message]], statuses: str = "", **changes: Any
) -> Measurements:
    """A run of one SSE cell; a character of `statuses` per block, `v` for a void one."""
    builder = RunBuilder(folder, {"plan": {"cells": [SSE], **plan}, **changes})
    for block, messages in enumerate(per_block, 1):
        void = statuses[block - 1 : block] == "v"
        facts: dict[str, Any] = {"status": "void", "reasons": ["the load came late"]} if void else {}
        builder.cell("sse", block, messages, **facts)
    return measure(builder.write())


def only(measured: Measurements) -> Gate:
    (gate,) = gates(measured)
    return gate


FIVE = [[message(ttft) for ttft in range(base, base + 16)] for base in (100, 102, 104, 106, 108)]  # 80 messages


@pytest.mark.parametrize(
    ("limits", "outcome", "words"),
    [
        ({"ttft_ms_p50": 200}, "met", ["met: SSE, ttft_ms_p50 at most 200 ms: it is 111 ms"]),
        ({"ttft_ms_p50": 50}, "unmet", ["it is 111 ms (95 % interval", "61 ms (122 %) above the limit"]),
        ({"ttft_ms_p50": 1}, "unmet", ["it is 111 ms (95 % interval", "), 111 times the limit"]),
        ({"ttft_ms_p50": 111}, "not shown", ["it is 111 ms", "both sides of the limit; more blocks"]),
        ({"ttft_ms_p95": 200}, "met", []),
        ({"ttft_ms_p99": 200}, "unknown", ["a p99 takes 368 messages, this cell has 80"]),
        ({"recovery_ms_p50": 200}, "unknown", ["no message of this cell has it"]),
        ({"client_cpu_us_per_token": 200}, "unknown", ["not measured in this run"]),
        ({"completed_ratio": 0.9}, "met", ["completed_ratio at least 90 %: it is 100 % (95 % interval 95.4–100)"]),
        ({"completed_ratio": 0.999}, "not shown", []),  # 80 of 80 show no more than 95.4 %
        ({"completed_ratio": 1}, "met", []),  # a count: all of this run's
        ({"drops": 0}, "met", ["drops at most 0: it is 0"]),
    ],
)
def test_one_limit(tmp_path: Path, limits: dict[str, float], outcome: str, words: list[str]) -> None:
    gate = only(measured_run(tmp_path, {"slo": limits}, FIVE))
    assert gate.outcome == outcome, gate
    assert passed([gate]) is (outcome == "met")
    for word in words:
        assert word in gate.sentence


def test_what_was_lost_beside_a_void_rival_was_lost(tmp_path: Path) -> None:
    """No number rests on that block, but "every message" and "no token" mean those of this run."""
    slo = {"completed_ratio": 1, "tokens_lost": 0, "goodput_ratio": 1, "message": {"ttft_ms": 500}}
    plan = {"cells": [SSE, {"transport": "chunked"}], "slo": slo}
    builder = RunBuilder(tmp_path, {"plan": plan})
    for block in range(1, 8):
        lost = [message(100, **FAILED)] if block == 2 else []
        builder.cell("sse", block, [message(100)] * 4 + lost)
        builder.cell("chunked", block, [message(100)] * 4, status="void" if block == 2 else "ok")
    found = {gate.column: gate for gate in gates(measure(builder.write())) if gate.key.transport == "sse"}
    assert {column: gate.outcome for column, gate in found.items()} == dict.fromkeys(found, "unmet")
    assert len(found) == 3
    assert "it is 96.6 %" in found["completed_ratio"].sentence  # 28 of 29


def test_the_page_shows_the_limits(tmp_path: Path) -> None:
    """The ones that are not met first; a plan without limits has no such part."""
    measured_run(tmp_path, {"slo": {"ttft_ms_p50": 200, "ttft_ms_p95": 50}}, FIVE)
    (run,) = tmp_path.iterdir()
    html = write_report(RunFolder(run)).report.read_text()
    part = html[html.index('id="limits"') :]
    assert part.index("1 of 2 limits met.") < part.index(">unmet<") < part.index(">met<")
    assert "ttft_ms_p95 at most 50 ms" in part
    (tmp_path / "without").mkdir()
    measured_run(tmp_path / "without", {}, FIVE)
    (run,) = (tmp_path / "without").iterdir()
    assert 'id="limits"' not in write_report(RunFolder(run)).report.read_text()


def test_few_messages_show_no_goodput(tmp_path: Path) -> None:
    """8 of 8 good ones may be chance: resampling sees no spread, Wilson's interval does."""
    few = [[message(100), message(110)]] * 4
    slo = {"goodput_ratio": 0.95, "message": {"ttft_ms": 500}}
    assert only(measured_run(tmp_path, {"slo": slo}, few)).outcome == "not shown"


def test_shares_and_counts_that_are_not_kept(tmp_path: Path) -> None:
    blocks = [[*block, message(100, facts={"drops": 2}, **FAILED), *[message(100, **FAILED)] * 7] for block in FIVE]
    slo = {"completed_ratio": 0.95, "drops": 3, "ttft_ms_p50": 50, "ttft_ms_p95": 1000}
    found = {gate.column: gate for gate in gates(measured_run(tmp_path, {"slo": slo}, blocks))}
    assert [gate.outcome for gate in found.values()] == ["unmet"] * 4
    assert "it is 10, 7 (233 %) above the limit" in found["drops"].sentence
    assert (
        "it is 66.7 % (95 % interval 57.8–74.5), 28.3 percentage points below the limit"
        in found["completed_ratio"].sentence
    )
    assert "it is ∞ ms (95 % interval ∞–∞), ∞ ms above the limit" in found["ttft_ms_p95"].sentence


@pytest.mark.parametrize(
    ("blocks", "statuses", "reason"),
    [
        (FIVE[:1], "", "1 valid block and so no interval; it takes 2"),
        (FIVE, "vvvvv", "no valid block: the load came late"),
        (FIVE, "vvv", "only 2 of its 5 blocks are valid"),
    ],
)
def test_what_nobody_can_know_does_not_pass(
    tmp_path: Path, blocks: list[list[Message]], statuses: str, reason: str
) -> None:
    gate = only(measured_run(tmp_path, {"slo": {"ttft_ms_p50": 1000}}, blocks, statuses))
    assert (gate.outcome, gate.reason) == ("unknown", reason)
    assert not passed([gate])


def test_each_cell_has_its_own_limits_and_a_control_none(tmp_path: Path) -> None:
    cells = [SSE, {"transport": "polling", "slo": "patient"}, {"transport": "blocking", "slo": "free"}]
    cells.append(SSE | {"copy": "aa"})
    slos = {"patient": {"ttft_ms_p50": 3000}, "free": {}}
    builder = RunBuilder(tmp_path, {"plan": {"cells": cells, "slo": {"ttft_ms_p50": 50}, "slos": slos}})
    for block, messages in enumerate(FIVE, 1):
        for transport in ("sse", "polling", "blocking"):
            builder.cell(transport, block, messages)
        builder.cell("sse", block, messages, variant={"copy": "aa"})
    found = gates(measure(builder.write()))
    assert {(gate.key.transport, gate.limit, gate.outcome) for gate in found} == {
        ("sse", 50, "unmet"),
        ("polling", 3000, "met"),
    }
    assert [gate.key.transport for gate in not_met(found)] == ["sse"]
    assert not any(gate.key.is_control for gate in found)


def test_a_limit_that_is_a_time_is_divided_by_the_time_scale(tmp_path: Path) -> None:
    slo = {"ttft_ms_p50": 1000, "requests_per_message": 5}
    found = gates(measured_run(tmp_path, {"slo": slo}, FIVE, time_scale=20.0))
    assert [(gate.limit, gate.outcome) for gate in found] == [(50, "unmet"), (5, "met")]


def test_a_run_without_limits_passes_and_a_damaged_plan_says_so(tmp_path: Path) -> None:
    assert gates(measured_run(tmp_path, {"cells": "unreadable"}, FIVE)) == []
    with pytest.raises(StoreError, match=r"plan: \[slo\]: no key 'x'"):
        gates(measured_run(tmp_path, {"slo": {"x": 1}}, FIVE))


def test_limits_on_single_messages_are_the_cells_own(tmp_path: Path) -> None:
    cells = [SSE, {"transport": "polling", "slo": "patient"}, {"transport": "chunked", "slo": "free"}]
    slos = {"patient": {"message": {"ttft_ms": 3000}}, "free": {}}
    plan = {"cells": cells, "slo": {"message": {"ttft_ms": 200, "wait_s": 1}}, "slos": slos}
    measured = measured_run(tmp_path, plan, FIVE, time_scale=20.0)
    assert message_limits_of(measured.run) == {"sse": {"ttft_ms": 10, "wait_s": 0.05}, "polling": {"ttft_ms": 150}}


def test_without_a_baseline_nothing_is_above_it_and_that_is_the_reason(tmp_path: Path) -> None:
    plan = {"cells": [{"transport": "sse"}], "slo": {"cpu_us_per_token_over_baseline": 50}}
    run = RunBuilder(tmp_path, {"plan": plan})
    for block in (1, 2):
        run.cell("sse", block, [message(100)], client_cpu_s=0.1, server_cpu_s=0.1)
    assert only(measure(run.write())).sentence.endswith("no baseline (blocking) to take off in its group")

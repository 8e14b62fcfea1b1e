"""Hand-written records whose numbers were worked out on paper, from the parquet files to the report's text."""

from __future__ import annotations

import csv
import math
from array import array
from pathlib import Path

import pytest
from support.runs import Message, RunBuilder

from bench.analysis.measures.groups import measure
from bench.analysis.measures.metrics import COUNTS, METRICS, estimate, summary_table
from bench.analysis.report.report import write_report
from clients import columns


def three_tokens(first_ms: float, *delays_ms: float) -> Message:
    """Due 10 ms apart from `first_ms` on, each so much later at the client."""
    due = [first_ms + 10 * k for k in range(len(delays_ms))]
    return Message([(d, d + late) for d, late in zip(due, delays_ms, strict=True)])


def value(folder: object, transport: str, column: str, **key: str) -> float:
    return estimate(measure(folder).cell(transport, **key), column).value  # type: ignore[arg-type]


@pytest.fixture
def paper(tmp_path: Path) -> RunBuilder:
    """Two blocks of SSE; block 1: TTFT 102 and 205 ms, block 2: 303 ms and a truncated message.

    Delays: 2 3 4 | 5 6 120 | 3 1 2 | 4 and two tokens that never came. One stall: the gap before the token that is
    120 ms late is 114 ms longer than the model's; another where the truncated message stops.
    """
    run = RunBuilder(tmp_path)
    first = Message(three_tokens(100, 2, 3, 4).tokens, facts={"bytes_in": 500, "bytes_out": 100, "requests": 3})
    second = Message(three_tokens(200, 5, 6, 120).tokens, facts={"bytes_in": 250, "bytes_out": 50})
    run.cell("sse", 1, [first, second], client_cpu_s=60e-6, server_cpu_s=120e-6, seconds=1)
    cut = Message([(400, 404)], expected=3, outcome="truncated", facts={"drops": 1})
    run.cell("sse", 2, [three_tokens(300, 3, 1, 2), cut], client_cpu_s=40e-6, server_cpu_s=80e-6, seconds=1)
    return run


def test_numbers_worked_out_on_paper(paper: RunBuilder) -> None:
    cell = measure(paper.write()).cell("sse")
    expected = {
        "completed_ratio": 3 / 4,
        "ttft_ms_p50": 205.0,  # of 102, 205, 303 and never: the second of four
        "ttft_overhead_ms_p50": 3.0,  # of 2, 5, 3 and never
        "delay_ms_p50": 4.0,  # the sixth of 1 2 2 3 3 4 4 5 6 120 never never
        "burst_tokens_mean": 1.0,
        "stalls_per_1k_tokens": 2000 / 12,
        "requests_per_message": 6 / 4,
        "connections_per_message": 1.0,
        "bytes_per_token": 900 / 6,  # the two messages whose bytes are known
        "bytes_per_message": 900 / 2,
        "client_cpu_us_per_token": 100 / 10,
        "server_cpu_us_per_token": 200 / 10,
        "cpu_us_per_token": 300 / 10,
        "burst_emitted_mean": 1.0,
        "recovery_ms_p50": math.inf,  # it dropped, and no further token came
    }
    assert {c: estimate(cell, c).value for c in expected} == pytest.approx(expected, rel=0.0006)
    for empty in ("ttft_ms_p95", "ttft_ms_p99", "ttft_overhead_ms_p99", "delay_ms_p95", "delay_ms_p99"):
        assert math.isnan(estimate(cell, empty).value), f"four messages carry no {empty}"


def test_from_records_to_the_files(paper: RunBuilder) -> None:
    folder = paper.write()
    write_report(folder)
    with (folder.path / "summary.csv").open() as file:
        header, *rows = csv.reader(file)
    names = [name for name in header if not name.endswith(("_lo", "_hi"))]
    assert names == list(columns.SUMMARY)
    for name in set(names) & set(METRICS):
        assert header[header.index(name) + 1 : header.index(name) + 3] == [f"{name}_lo", f"{name}_hi"]
    assert not any(f"{name}_lo" in header for name in (*COUNTS, "valid", "transport"))
    (row,) = (dict(zip(header, r, strict=True)) for r in rows)
    assert (row["transport"], row["variant"], row["profile"], row["streams"]) == ("sse", "", "direct", "4")
    # Block 1 twice gives 102, block 2 twice 303; two blocks say so little that the interval reaches further still.
    assert row["ttft_ms_p50"] == "205"
    assert float(row["ttft_ms_p50_lo"]) <= 102
    assert float(row["ttft_ms_p50_hi"]) >= 303
    assert row["ttft_ms_p95"] == row["ttft_ms_p95_lo"] == ""
    assert (row["tokens_lost"], row["drops"], row["recovery_ms_p50"]) == ("2", "1", "inf")
    assert row["valid"] == "True"
    html = folder.report_path.read_text()
    assert "SSE: 1 of 4 messages failed (1 truncated), 2 tokens lost, 0 repeated" in html
    assert ">205<" in html
    assert "∞" in html
    assert {p.name for p in folder.charts_path.iterdir()} == {
        f"{name}.{kind}" for name in ("ttft", "delay", "staircase") for kind in ("png", "svg")
    }, "what is lost costs nothing, so SSE is in no chart of cost"
    assert "In no chart of cost, as too many messages did not arrive: SSE (3 of 4 messages)." in html


def test_a_burst_is_what_one_read_completed(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    polled = Message([(10, 100), (20, 100), (30, 100), (40, 100), (150, 200), (150, 200)])
    same_number = Message([(10, 11), (20, 21)], facts={"read": None})
    same_number.facts["read"] = array("q", [1, 1])  # two connections, each at its first read
    run.cell("polling", 1, [polled], server_cpu_s=2e-6, redis_cpu_s=None)
    run.cell("sse", 1, [same_number], server_cpu_s=2e-6)
    folder = run.write()
    assert value(folder, "polling", "burst_tokens_mean") == 3
    assert value(folder, "polling", "burst_emitted_mean") == 6 / 5
    assert value(folder, "sse", "burst_tokens_mean") == 1
    assert value(folder, "sse", "server_cpu_us_per_token") == 1
    assert math.isnan(value(folder, "polling", "server_cpu_us_per_token")), "Redis was not measured, and is not free"


def test_redis_counts_as_server(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    run.cell("polling", 1, [three_tokens(10, 1, 1, 1)], server_cpu_s=6e-6, redis_cpu_s=3e-6)
    assert value(run.write(), "polling", "server_cpu_us_per_token") == pytest.approx(3)


def test_redis_counts_for_who_may_go_over_to_polling(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    run.cell("sse", 1, [three_tokens(10, 1, 1, 1)], recovery="fallback", server_cpu_s=6e-6, redis_cpu_s=3e-6)
    (cell,) = measure(run.write()).cells
    assert estimate(cell, "server_cpu_us_per_token").value == pytest.approx(3)


def test_blocking_is_late_with_every_token(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    run.cell("blocking", 1, [Message([(600, 621), (610, 621), (620, 621)])])
    folder = run.write()
    found = [value(folder, "blocking", c) for c in ("ttft_ms_p50", "ttft_overhead_ms_p50", "burst_tokens_mean")]
    assert found == [621, 21, 3]
    assert value(folder, "blocking", "delay_ms_p50") == pytest.approx(11, rel=0.0006)


def test_order_and_repeats_do_not_confuse_the_counting(tmp_path: Path) -> None:
    """Token 2 comes before token 1, token 0 a second time: delays count each token once, as it first came."""
    run = RunBuilder(tmp_path)
    tokens = [(10, 11), (30, 32), (20, 33), (10, 40)]
    facts = {"tokens_received": 3, "tokens_duplicated": 1, "tokens_lost": 0}
    run.cell("sse", 1, [Message(tokens, 3, "reordered", indices=[0, 2, 1, 0], facts=facts)])
    measured = measure(run.write())
    assert measured.ledger_errors == 0
    cell = measured.cells[0]
    assert estimate(cell, "delay_ms_p50").value == pytest.approx(2, rel=0.0006)  # of 1, 2 and 13
    assert estimate(cell, "burst_tokens_mean").value == 1
    assert summary_table(measured)["tokens_duplicated"].tolist() == [1]


def test_recovery_is_the_median_over_messages_that_dropped(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    messages = [Message([(1, 2)], facts={"drops": d, "recovery_ms": r}) for d, r in ((0, None), (1, 250.0), (2, 350.0))]
    at_the_end = Message([(1, 2)], facts={"drops": 1})  # between the last token and the end: nothing to wait for
    run.cell("sse", 1, [*messages, at_the_end], recovery="resume")
    folder = run.write()
    assert value(folder, "sse", "recovery_ms_p50", recovery="resume") == 250

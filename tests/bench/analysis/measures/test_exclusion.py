"""Void and failed cells are counted and shown, and are in no number; broken tables are refused."""

from __future__ import annotations

import math
from io import StringIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from support.runs import Message, RunBuilder

from bench.analysis.findings.run_warnings import run_warnings
from bench.analysis.measures import reading
from bench.analysis.measures.groups import measure
from bench.analysis.measures.metrics import estimate, summary_table
from bench.analysis.report.report import print_summary, summarize, write_report
from bench.store import RunFolder, StoreError
from clients import columns

GOOD = Message([(100, 101), (110, 112)])
SLOW = Message([(100, 5000), (110, 5000)])


def test_void_cells_are_in_no_number(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    for block in (1, 2, 3):
        run.cell("sse", block, [GOOD])
    for block, lag in ((4, 9.0), (5, 7.0)):
        reasons = [f"load came late: p99 {lag} ms > 2 ms"]
        record = run.cell("sse", block, [SLOW] * 50, status="void", reasons=reasons, failed_messages=block - 4)
        record.messages = 50
    folder = run.write()
    summary = write_report(folder)
    row = summary.table.iloc[0]
    assert (row["streams"], row["ttft_ms_p50"], row["ttft_ms_p50_hi"]) == (3, 101, 101)
    assert row["valid"]
    assert "In the 2 void cells, whose times do not count: of 100 messages 1 did not" in summary.verdicts[-1].sentence
    console = Console(width=100, record=True, file=StringIO())
    print_summary(summary, console)
    text = console.export_text()
    for shown in (text, folder.report_path.read_text()):
        assert "In no number: 2 void of 5 cells." in shown
        assert "p99 9.0 ms" in shown
        assert "in 2 blocks" in shown
        assert "4, 5" in shown
    assert max(map(len, text.splitlines())) <= 100


def test_what_was_not_counted_makes_no_number(tmp_path: Path) -> None:
    """The tokens of void cells are in no count, so there is nothing to say of how a void row's text flowed."""
    run = RunBuilder(tmp_path)
    run.cell("sse", 1, [GOOD])
    run.cell("chunked", 1, [GOOD], status="void", reasons=["busy"])
    measured = measure(run.write())
    void, valid = measured.void_cells[0], measured.cell("sse")
    for column in ("wait_s_per_answer", "tpot_ms_p50"):
        assert math.isnan(estimate(void, column).value), column
        assert estimate(valid, column).value > 0, column
    assert estimate(void, "ttft_ms_p50").value == estimate(valid, "ttft_ms_p50").value == 101


def test_it_is_said_that_a_real_intermediary_tells_nothing_of_its_own_lateness(tmp_path: Path) -> None:
    """Neither the profile `real:nginx` nor the nginx that ends TLS for a cell; an emulated one tells."""
    run = RunBuilder(tmp_path)
    run.cell("sse", 1, [GOOD], profile="nginx", proxy_cpu_s=0.1, proxy_loop_lag_ms_max=1.0)
    run.cell("sse", 1, [GOOD], profile="real:nginx")
    run.cell("websocket", 1, [GOOD], variant={"tls": "on"}, proxy_cpu_s=0.1)
    run.cell("chunked", 1, [GOOD])
    said = {warning.code: warning.text for warning in run_warnings(measure(run.write()))}
    assert said["unwatched"].startswith(
        "How late the intermediary itself was is not known of WebSocket tls=on and SSE · real:nginx, since a real one"
    )


def test_a_row_of_mostly_void_cells_is_not_valid(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    run.cell("sse", 1, [GOOD])
    for block in (2, 3):
        run.cell("sse", block, [GOOD], status="void", reasons=["busy"])
        run.cell("chunked", block, [GOOD], status="failed", reasons=["killed"])
    run.cell("websocket", 1, [], status="pending")
    folder = run.write()
    table = summary_table(measure(folder)).set_index("transport")
    assert table["valid"].to_dict() == {"sse": False, "chunked": False, "websocket": False}
    assert table["streams"].to_dict() == {"sse": 1, "chunked": 0, "websocket": 0}
    assert math.isnan(table["ttft_ms_p50"]["chunked"])
    codes = {d.code for d in run_warnings(measure(folder))}
    assert {"excluded", "nothing valid", "one block", "no control"} <= codes


def test_a_run_in_which_nothing_finished_still_has_a_report(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path, {"status": "failed"})
    record = run.cell("sse", 1, [], status="pending")
    folder = run.write()
    record.status, record.reasons = "failed", ["the server died"]
    stored = folder.load()
    stored.cells = [record]
    folder.save(stored)
    summary = write_report(folder)
    assert [d.code for d in summary.warnings] == ["unfinished", "excluded", "nothing valid"]
    assert "the server died" in folder.report_path.read_text()
    assert summary.table["streams"].tolist() == [0]
    assert summary.verdicts[-1].sentence.startswith("No valid cell")
    assert summary.verdicts[-1].sentence.endswith("Left out: 1 failed cell.")


def test_a_run_without_a_cell_still_has_a_report(tmp_path: Path) -> None:
    """A Locust test that was over before its first answer."""
    folder = RunBuilder(tmp_path, {"plan": {"name": "locust"}}).write()
    summary = write_report(folder)
    assert summary.table.empty
    assert folder.report_path.exists()


def test_batches_cut_anywhere_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunBuilder(tmp_path)
    messages = [Message([(10 * k, 10 * k + k % 4 + 1) for k in range(1, n)]) for n in (3, 9, 2, 7, 30)]
    run.cell("sse", 1, messages)
    run.cell("chunked", 1, messages)
    folder = run.write()
    columns = ("delay_ms_p50", "burst_tokens_mean", "burst_emitted_mean", "stalls_per_1k_tokens")

    def numbers() -> list[float]:
        return [estimate(g, c).value for g in measure(folder).cells for c in columns]

    whole = numbers()
    for rows in (1, 2, 5, 16):
        monkeypatch.setattr(reading, "BATCH_ROWS", rows)
        assert numbers() == whole, f"with {rows} rows a batch"


def tampered(folder: RunFolder, table: str, change: object) -> None:
    path = folder.path / f"{table}.parquet"
    pq.write_table(change(pq.read_table(path)), path)  # type: ignore[operator]


def test_tables_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    run.cell("sse", 1, [GOOD, GOOD])
    folder = run.write()
    tokens = pq.read_table(folder.tokens_path)
    tampered(folder, "tokens", lambda t: t.take(pa.array([0, 2, 1, 3])))
    with pytest.raises(StoreError, match="stand together"):
        measure(folder)
    pq.write_table(tokens, folder.tokens_path)
    tampered(folder, "streams", lambda t: t.slice(0, 1))
    with pytest.raises(StoreError, match="does not have"):
        measure(folder)


def test_the_tables_carry_the_version_of_their_columns(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    run.cell("sse", 1, [GOOD])
    folder = run.write()
    for path in (folder.streams_path, folder.tokens_path):
        assert pq.read_schema(path).metadata[columns.METADATA_KEY] == str(columns.VERSION).encode()
    newer = {columns.METADATA_KEY: str(columns.VERSION + 1).encode()}
    tampered(folder, "tokens", lambda t: t.replace_schema_metadata(newer))
    with pytest.raises(StoreError, match=r"tokens\.parquet: its columns are of version"):
        measure(folder)


@pytest.mark.parametrize("table", ["streams", "tokens"])
def test_a_missing_column_is_said_in_one_line(tmp_path: Path, table: str) -> None:
    run = RunBuilder(tmp_path)
    run.cell("sse", 1, [GOOD])
    folder = run.write()
    tampered(folder, table, lambda t: t.drop_columns(["stream_id"]))
    with pytest.raises(StoreError, match=rf"{table}\.parquet: it lacks the columns stream_id$"):
        measure(folder)


@pytest.mark.parametrize("recovery", ["resume", "restart"])
def test_tokens_of_an_answer_that_was_thrown_away_accuse_nobody(tmp_path: Path, recovery: str) -> None:
    """Two tokens came, the server lost the stream, the client asked anew, got one, and ran out of time."""
    facts: dict[str, object] = {"tokens_discarded": 2, "tokens_received": 1, "tokens_lost": 2, "tokens_duplicated": 1}
    anew = Message([(1, 2), (2, 3)], expected=3, outcome="timeout", facts={**facts, "drops": 1})
    run = RunBuilder(tmp_path)
    run.cell("sse", 1, [anew], recovery=recovery, profile="nginx")
    assert measure(run.write()).ledger_errors == 0


def test_tokens_that_were_never_thrown_away_do_not_add_up(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    surplus = {"tokens_received": 1, "tokens_lost": 2}
    run.cell("sse", 1, [Message([(1, 2), (2, 3)], 3, "timeout", facts=surplus)], recovery="restart")
    assert measure(run.write()).ledger_errors == 1


def test_tokens_that_do_not_add_up_are_a_warning(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    run.cell("sse", 1, [GOOD, Message([(1, 2)], expected=2, facts={"tokens_lost": 0})])
    run.cell("sse", 2, [Message([(5, 3)])], clock_offset_ns=2_000_000)
    summary = summarize(run.write())
    codes = [d.code for d in summary.warnings]
    assert "books" in codes
    assert "early tokens" in codes
    assert "clocks" in codes


@pytest.mark.parametrize(("server_cpu_s", "told"), [(1.0, True), (None, False)])
def test_a_run_without_any_cpu_has_no_word_about_redis_s(
    tmp_path: Path, server_cpu_s: float | None, told: bool
) -> None:
    run = RunBuilder(tmp_path)
    run.cell("polling", 1, [Message([(1, 2), (3, 4)])], server_cpu_s=server_cpu_s)
    found = [warning.text for warning in run_warnings(measure(run.write()))]
    assert any("Redis's CPU was not measured" in text for text in found) is told

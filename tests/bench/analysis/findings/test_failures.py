"""What failed is said first, with causes, counts, an example and a hint; and who failed is cheap nowhere."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.runs import Message, RunBuilder

from bench.analysis.findings.failures import fault_lines, total_failures
from bench.analysis.measures.groups import measure
from bench.analysis.report.report import print_summary, write_report
from bench.analysis.report.shown_cells import costed

TOKENS = [(100.0 + 10 * k, 101.0 + 10 * k) for k in range(10)]
DETAIL = "status 426: upgrade_required: /chat takes a WebSocket upgrade"


def refused(detail: str = DETAIL, outcome: str = "http_error") -> Message:
    return Message([], 10, outcome, facts={"detail": detail, "requests": 1})


def with_failures(folder: Path, profile: str, failed: list[Message], **plan: Any) -> RunBuilder:
    builder = RunBuilder(folder, {"plan": plan})
    for block in (1, 2):
        builder.cell("sse", block, [Message(TOKENS, facts={"bytes_in": 900, "bytes_out": 90})] * 4, profile=profile)
        builder.cell("websocket", block, failed, profile=profile)
    return builder


def test_eighty_of_eighty_refused_is_the_first_that_is_said(tmp_path: Path) -> None:
    folder = with_failures(tmp_path, "nginx", [refused()] * 40).write()
    summary = write_report(folder)
    sentence = (
        "WebSocket · nginx: not one of 80 messages arrived whole. Cause: status 426 (80 messages), for example "
        f"“{DETAIL}”. The intermediary does not pass the WebSocket upgrade; see docs/proxy.md."
    )
    assert [found.sentence for found in summary.failed] == [sentence]
    html = folder.report_path.read_text()
    assert html.index("Failed altogether") < html.index(sentence) < html.index('class="headline"')
    console = Console(width=2000, record=True, file=io.StringIO())
    print_summary(summary, console)
    assert console.export_text().startswith(sentence)


def test_who_is_not_complete_is_in_no_chart_of_cost(tmp_path: Path) -> None:
    folder = with_failures(tmp_path, "nginx", [refused()] * 40).write()
    summary = write_report(folder)
    assert [cell.key.transport for cell in costed(summary.measured)] == ["sse"]
    assert "WebSocket" not in (folder.charts_path / "requests_bytes.svg").read_text()
    html = folder.report_path.read_text()
    assert "In no chart of cost, as too many messages did not arrive: WebSocket · nginx (0 of 80 messages)." in html


def test_nothing_else_arrived_where_there_is_nothing_else(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path)
    builder.cell("websocket", 1, [refused()] * 3)
    said = write_report(builder.write()).verdicts[-1].sentence
    assert said == "WebSocket: 3 of 3 messages failed (3 http_error), 30 tokens lost, 0 repeated."


@pytest.mark.parametrize(
    ("profile", "failed", "fault"),
    [
        ("direct", [refused()] * 3, True),
        ("nginx", [refused()] * 3, False),  # what an intermediary does is a finding
        ("direct", [refused(), Message(TOKENS)], False),  # something got through
        ("direct", [Message(TOKENS[:3], 10, "timeout", facts={"detail": "silence: no byte for 2 s"})] * 3, False),
        ("direct", [Message(TOKENS[:3], 10, "truncated", facts={"detail": "fin: too early"})] * 3, True),
    ],
)
def test_nothing_through_with_nothing_in_between_is_a_fault(
    tmp_path: Path, profile: str, failed: list[Message], fault: bool
) -> None:
    found = fault_lines(measure(with_failures(tmp_path, profile, failed).write()))
    assert [line.startswith("nothing got through: WebSocket") for line in found.values()] == [True] * fault


def test_where_cells_ran_side_by_side_a_cut_is_told_by_the_map(tmp_path: Path) -> None:
    cut = Message(TOKENS[:3], 10, "truncated", facts={"detail": "fin: too early", "drops": 1})
    measured = measure(with_failures(tmp_path, "nginx", [cut] * 3, parallel=4).write())
    assert total_failures(measured) == []


def test_cells_that_were_refused_alike_are_told_together(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path, {"plan": {"parallel": 4}})
    for profile in ("envoy", "nginx"):
        builder.cell("websocket", 1, [refused()] * 2, profile=profile)
        builder.cell("websocket", 1, [refused(), refused("status 502: x")], profile=profile, recovery="resume")
    (found,) = total_failures(measure(builder.write()))
    assert found.sentence.startswith(
        "WebSocket behind envoy and nginx: not one of 8 messages arrived whole. "
        "Cause: status 426 (6 messages) and status 502 (2 messages), for example"
    )


@pytest.mark.parametrize(
    ("detail", "outcome", "hint"),
    [
        ("refused: [Errno 111]", "refused", "Nothing listens at this address."),
        ("tls: no TLS with this server", "refused", "No secure connection came about; nothing was asked."),
        ("status 405: no", "http_error", "The server has this path, but for another HTTP method."),
        ("status 401: unauthorized", "http_error", "The server wants another token; see --target-token."),
        ("status 504: Gateway Timeout", "http_error", "The server gave the request up or was too busy."),
        ("timeout: not complete", "timeout", "The message took longer than the plan's `timeout_s`."),
        ("", "altered", "The text is not the seeded one that docs/wire-format.md describes."),
        ("", "dropped", ""),
    ],
)
def test_a_cause_has_its_hint(tmp_path: Path, detail: str, outcome: str, hint: str) -> None:
    builder = RunBuilder(tmp_path)
    builder.cell("sse", 1, [refused(detail, outcome)] * 2)
    (found,) = total_failures(measure(builder.write()))
    assert found.sentence.endswith(f"“{detail or outcome}”. {hint}".strip())


def test_void_rows_are_shown_greyed_with_their_numbers(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path)
    for block in (1, 2):
        builder.cell("sse", block, [Message(TOKENS)] * 4)
        builder.cell("chunked", block, [Message([(100.0, 177.0)])] * 4, status="void", reasons=["load came late: 9 ms"])
    folder = builder.write()
    summary = write_report(folder)
    assert summary.table.set_index("transport")["streams"].to_dict() == {"chunked": 0, "sse": 8}, "in no number"
    html = folder.report_path.read_text()
    row = html[html.index('<tr role="row" class="off">') :].partition("</tr>")[0]
    assert "Chunked" in row
    assert "void, 2 blocks" in row
    assert ">177<" in row
    console = Console(width=80, record=True, file=io.StringIO())
    print_summary(summary, console)
    assert "Chunked (void)" in console.export_text()

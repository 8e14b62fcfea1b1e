"""The story's claims over hand-written records, worked out on paper."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from support.runs import Message, RunBuilder

from bench.analysis.findings.story import SeenCell, access_claim, claims, claims_in, print_claims, seen
from bench.analysis.measures.groups import measure
from bench.plan import beside, read_plan

SMOOTH = SeenCell(
    messages=80,
    complete=80,
    ttft_s=0.6,
    answer_s=30.0,
    requests=1.0,
    tokens_per_read=1.0,
    delay_ms_p50=0.5,
    delay_ms_p95=2.0,
    stalls_per_1k=0.0,
)
CELLS = {
    "blocking": replace(SMOOTH, ttft_s=30.0),
    "polling": replace(SMOOTH, requests=31.0, tokens_per_read=16.0, delay_ms_p50=500.0, delay_ms_p95=950.0),
    "websocket": SMOOTH,
    "chunked": SMOOTH,
    "sse": SMOOTH,
    "sse method=get": SMOOTH,
    "sse stack=fastapi": SMOOTH,
    "chunked load=few stack=flask-sync stream=uneven": replace(
        SMOOTH, messages=5, complete=3, delay_ms_p95=math.nan, cut_s=30.5
    ),
}
UPGRADES = {
    "fastapi-http-middleware": {"request": 401, "upgrade": 101},
    "fastapi": {"request": 401, "upgrade": 401},
}


def verdicts(**changes: SeenCell) -> list[str]:
    renamed = {key.replace("_", " ").replace("method ", "method="): cell for key, cell in changes.items()}
    return [claim.verdict for claim in claims(CELLS | renamed)]


def test_all_hold() -> None:
    assert verdicts() == ["yes"] * 7
    assert access_claim(UPGRADES).verdict == "yes"


@pytest.mark.parametrize(
    ("claim", "cell", "changes"),
    [
        (1, "blocking", {"ttft_s": 10.0}),
        (1, "blocking", {"ttft_s": 0.7}),
        (2, "polling", {"requests": 3.0}),
        (2, "polling", {"tokens_per_read": 1.2}),
        (3, "websocket", {"stalls_per_1k": 1.1}),
        (3, "websocket", {"complete": 79}),
        (4, "chunked", {"delay_ms_p95": 101.0}),
        (5, "sse", {"requests": 1.1}),
        (5, "sse_method_get", {"delay_ms_p95": 50.0}),  # smooth by itself, but 48 ms behind the POST
        (6, "sse stack=fastapi", {"stalls_per_1k": 1.1}),
        (7, "chunked load=few stack=flask-sync stream=uneven", {"complete": 5}),
    ],
)
def test_each_can_fail(claim: int, cell: str, changes: dict[str, float]) -> None:
    original = CELLS[cell.replace("_method_", " method=")]
    found = verdicts(**{cell: replace(original, **changes)})  # type: ignore[arg-type]
    assert [number for number, verdict in enumerate(found, 1) if verdict == "no"] == [claim]


def test_an_upgrade_that_is_refused_denies_the_story() -> None:
    refused = UPGRADES | {"fastapi-http-middleware": {"request": 401, "upgrade": 401}}
    assert access_claim(refused).verdict == "no"


def test_a_stack_that_is_not_installed_is_said_to_be_left_out(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    run.cell("sse", 1, [Message([(100, 101)])], variant={"stack": "fastapi"})
    few, left_out, access = claims_in(measure(run.write()))[5:]
    assert {few.verdict, left_out.verdict, access.verdict} == {"not judged"}
    assert "sse stack=fastapi has 1 message" in few.measured
    assert left_out.measured == access.measured
    assert (
        "not in this run: --transports or --target leaves it out, or its packages are not installed" in access.measured
    )


def test_a_story_asks_no_stack_where_another_server_takes_its_place() -> None:
    """Every other cell stays, and so does a stack whose transport has no target; another plan says that it fails."""
    whole = read_plan("article")
    plan = beside(whole, {"sse": "http://127.0.0.1:1"})
    assert {cell.key for cell in whole.cells} - {cell.key for cell in plan.cells} == {"sse stack=fastapi"}
    stacks = read_plan("stacks")
    assert beside(stacks, {"sse": "http://127.0.0.1:1"}) == stacks


def test_not_judged_without_cells_or_with_few_messages() -> None:
    assert [claim.verdict for claim in claims({})] == ["not judged"] * 7
    flask = "chunked load=few stack=flask-sync stream=uneven"
    assert [claim.verdict for claim in claims(CELLS | {flask: replace(CELLS[flask], messages=4)})][6] == "not judged"
    assert verdicts(chunked=replace(SMOOTH, messages=71, complete=71))[3] == "not judged"


def test_seen_from_two_messages(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path)
    whole = Message([(100, 101), (200, 401), (300, 401)], facts={"requests": 2})
    cut = Message([(100, 102)], expected=2, outcome="lost", facts={"requests": 4})
    run.cell("polling", 1, [whole, cut])
    run.cell("sse", 1, [whole] * 72, variant={"method": "get"})
    run.cell("sse", 1, [whole], profile="nginx")
    folder = run.write()
    found = seen(measure(folder).cell("polling"))
    assert (found.messages, found.complete, found.requests) == (2, 1, 3.0)
    assert found.answer_s == pytest.approx((0.3 + 0.1) / 2)
    assert found.tokens_per_read == pytest.approx(4 / 3)
    # Two of five tokens: token 1 came 201 ms late, 200 ms more than the one before it; and the cut.
    assert found.stalls_per_1k == pytest.approx(400)
    assert found.cut_s == pytest.approx(0.102)
    assert found.ttft_s == pytest.approx(0.101)  # of 0.101 s and never
    assert math.isnan(found.delay_ms_p95)
    assert [claim.verdict for claim in claims_in(measure(folder))] == ["not judged"] * 8


def test_what_is_not_known_or_infinite_is_no_word_of_a_programmer() -> None:
    """Too few messages for a p95, and so many lost that a percentile is one of them."""
    for value in (math.nan, math.inf):
        lost = replace(SMOOTH, delay_ms_p50=value, delay_ms_p95=value, ttft_s=value, answer_s=value, cut_s=value)
        told = " ".join(claim.measured for claim in claims(dict.fromkeys(CELLS, lost)))
        assert "p95 – ms" in told or "p95 ∞ ms" in told
        assert not re.search(r"\b(nan|inf)\b", told)


def test_table_prints() -> None:
    console = Console(record=True, width=160, markup=False)
    print_claims(claims(CELLS), console)
    text = console.export_text()
    assert "The story, claim by claim" in text
    assert "31 requests a message" in text
    assert "[green]" not in text

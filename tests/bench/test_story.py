"""The story's claims over hand-written records, worked out on paper."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from rich.console import Console

from bench.analysis.story import Seen, claims, print_claims, seen

MS = 1_000_000
SMOOTH = Seen(
    messages=40,
    complete=40,
    ttft_s=0.6,
    answer_s=30.0,
    requests=1.0,
    tokens_per_read=1.0,
    delay_ms_p50=0.5,
    delay_ms_p99=2.0,
    stalls=0,
)
CELLS = {
    "blocking": replace(SMOOTH, ttft_s=30.0),
    "polling": replace(SMOOTH, requests=31.0, tokens_per_read=16.0, delay_ms_p50=500.0, delay_ms_p99=990.0),
    "websocket": SMOOTH,
    "chunked": SMOOTH,
    "sse": SMOOTH,
    "sse method=get": SMOOTH,
}


def verdicts(**changes: Seen) -> list[str]:
    renamed = {key.replace("_", " ").replace("method ", "method="): cell for key, cell in changes.items()}
    return [claim.verdict for claim in claims(CELLS | renamed)]


def test_all_hold() -> None:
    assert verdicts() == ["holds"] * 5


@pytest.mark.parametrize(
    ("claim", "cell", "changes"),
    [
        (1, "blocking", {"ttft_s": 10.0}),
        (1, "blocking", {"ttft_s": 0.7}),
        (2, "polling", {"requests": 3.0}),
        (2, "polling", {"tokens_per_read": 1.2}),
        (3, "websocket", {"stalls": 1}),
        (3, "websocket", {"complete": 39}),
        (4, "chunked", {"delay_ms_p99": 101.0}),
        (5, "sse", {"requests": 1.1}),
        (5, "sse_method_get", {"delay_ms_p99": 50.0}),  # smooth by itself, but 48 ms behind the POST
    ],
)
def test_each_can_fail(claim: int, cell: str, changes: dict[str, float]) -> None:
    original = CELLS[cell.replace("_method_", " method=")]
    found = verdicts(**{cell: replace(original, **changes)})  # type: ignore[arg-type]
    assert [number for number, verdict in enumerate(found, 1) if verdict == "does not hold"] == [claim]


def test_not_resolved_without_cells_or_with_few_messages() -> None:
    assert [claim.verdict for claim in claims({})] == ["not resolved"] * 5
    assert verdicts(chunked=replace(SMOOTH, messages=19, complete=19))[3] == "not resolved"


def test_seen_from_two_messages() -> None:
    messages = pd.DataFrame(
        {
            "stream_id": ["a", "b"],
            "intended_start_ns": [0, 1000 * MS],
            "first_token_ns": [101 * MS, 1100 * MS],
            "outcome": ["ok", "lost"],
            "tokens_lost": [0, 1],
            "requests": [2, 4],
        }
    )
    tokens = pd.DataFrame(
        {
            "stream_id": ["a", "a", "a", "b"],
            "i": [0, 1, 2, 0],
            "due_ns": [t * MS for t in (105, 205, 305, 1105)],  # on a server whose clock is 5 ms ahead
            "received_ns": [t * MS for t in (101, 401, 401, 1100)],
            "read": [1, 2, 2, 1],
        }
    )
    found = seen(messages, tokens, clock_offset_ns=5 * MS)
    assert (found.messages, found.complete, found.requests) == (2, 1, 3.0)
    assert found.answer_s == pytest.approx((0.3 + 0.1) / 2)
    assert found.tokens_per_read == pytest.approx(4 / 3)
    assert found.stalls == 1  # token 1 came 201 ms late, 200 ms more than the token before it
    assert found.delay_ms_p99 == float("inf")
    assert found.ttft_s == float("inf")  # the median of 0.101 s and never


def test_table_prints() -> None:
    console = Console(record=True, width=160)
    print_claims(claims(CELLS), console)
    text = console.export_text()
    assert "The story, claim by claim" in text
    assert "31.0 requests a message" in text

"""How late the harness was itself, from records whose times are known."""

from __future__ import annotations

from array import array

import pytest

from clients.core.record import StreamRecord
from clients.lateness import delay_ms_p50, early_ms_max, emit_lags_ns, request_lags_ns, start_lags_ns

MS = 1_000_000


def record(*delays_ms: float, drops: int = 0, first: int = 0, attempts: int = 1) -> StreamRecord:
    """Meant to start at 100 ms, started 2 ms late, at the server 3 ms later; a token each 10 ms from 50 ms on."""
    due = array("q", [(155 + 10 * k) * MS for k in range(len(delays_ms))])
    made = StreamRecord("s", 100 * MS, 8, start_ns=102 * MS, ttft_scheduled_ns=50 * MS, drops=drops, attempts=attempts)
    made.i, made.due_ns = array("q", range(first, first + len(due))), due
    made.sent_ns = array("q", [due_ns + MS for due_ns in due])
    made.received_ns = array("q", [d + round(delay * MS) for d, delay in zip(due, delays_ms, strict=True)])
    return made


def test_stage_by_stage() -> None:
    records = [record(1, 2, 3)]
    assert start_lags_ns(records) == [2 * MS]
    assert request_lags_ns(records) == [3 * MS]
    assert emit_lags_ns(records, streams=True) == [MS] * 3


@pytest.mark.parametrize(("lags_ms", "early_ms"), [([], None), ([1, 0, 2], 0.0), ([1, -3, -2], 3.0)])
def test_what_was_sent_before_its_time(lags_ms: list[int], early_ms: float | None) -> None:
    assert early_ms_max([lag_ms * MS for lag_ms in lags_ms]) == early_ms


def test_what_says_nothing_of_the_request() -> None:
    assert request_lags_ns([record(), record(1, drops=1), record(1, first=2)]) == []


def test_what_another_transport_has_brought_says_nothing_of_the_first() -> None:
    """A refused upgrade is no drop, and yet the request came later, and polling's tokens were written later."""
    refused = record(1, attempts=2)
    assert (request_lags_ns([refused]), emit_lags_ns([refused], streams=True)) == ([], [])


def test_the_median_delay_is_over_all_tokens() -> None:
    assert delay_ms_p50([record(1, 2, 30), record(), record(4, 5)]) == pytest.approx(4)
    assert delay_ms_p50([record()]) is None
    assert delay_ms_p50([]) is None

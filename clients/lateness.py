"""How late the harness itself was in a cell: the server with its tokens, the load with its starts (pure).

One judgement for every load: the load process's, that in Chromium and Locust's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from clients.core.clock import Account
from clients.core.record import UNKNOWN_NS, Outcome, StreamRecord
from clients.job import JobResult
from servers.transport import CONTESTANTS


def to_our_clock(records: Iterable[StreamRecord], offset_ns: int) -> None:
    """Put the server's stamps on this machine's clock, which is `offset_ns` behind; all below takes them so."""
    if offset_ns:
        for record in records:
            for column in (record.due_ns, record.sent_ns):
                for k, server_ns in enumerate(column):
                    column[k] = server_ns - offset_ns


def emit_lags_ns(records: Iterable[StreamRecord], *, streams: bool) -> list[int]:
    """How late the server was with each token; where answers are sent whole (not `streams`), with each one's last.

    A token that is sent again is late for another reason, so messages of several attempts say nothing here.
    """
    first = 0 if streams else -1
    return [
        sent_ns - due_ns
        for record in records
        if _is_undisturbed(record)
        for sent_ns, due_ns in zip(record.sent_ns[first:], record.due_ns[first:], strict=True)
        if due_ns != UNKNOWN_NS
    ]


def early_ms_max(lags_ns: Sequence[int]) -> float | None:
    """By how much the earliest token was sent before it was due, in ms; 0 if none was, None of none."""
    return max(0.0, -min(lags_ns) / 1e6) if lags_ns else None


def _is_undisturbed(record: StreamRecord) -> bool:
    return not record.drops and record.attempts <= 1


def start_lags_ns(records: Iterable[StreamRecord]) -> list[int]:
    """How late each message was started."""
    return [record.start_ns - record.intended_start_ns for record in records]


def request_lags_ns(records: Iterable[StreamRecord]) -> list[int]:
    """How long each message's request took to its server: the model begins there, so the first token's due time tells.

    Connecting is part of it. Messages of several attempts, and those without their first token, say nothing here.
    """
    return [
        record.due_ns[0] - record.ttft_scheduled_ns - record.start_ns
        for record in records
        if _is_undisturbed(record) and len(record.i) and record.i[0] == 0 and record.due_ns[0] != UNKNOWN_NS
    ]


def delay_ms_p50(records: Sequence[StreamRecord]) -> float | None:
    """The median over all tokens of the time from due to received, in ms; None of none, or where nobody knows."""
    known = [record for record in records if len(record.i) and record.due_ns[0] != UNKNOWN_NS]
    delays_ns = [np.subtract(record.received_ns, record.due_ns) for record in known]
    return float(np.median(np.concatenate(delays_ns))) / 1e6 if delays_ns else None


def p99_ms(values_ns: Sequence[int]) -> float | None:
    """The 99th percentile of times in ns, in ms; None of none."""
    return float(np.percentile(values_ns, 99, method="higher")) / 1e6 if values_ns else None


def result_of(
    transport: str,
    records: Sequence[StreamRecord],
    account: Account,
    *,
    started_late_ns: Sequence[int],
    cpu_s: float,
    measured_s: float,
) -> JobResult:
    """What any load process says of its messages and of itself."""
    emit_lags = emit_lags_ns(records, streams=CONTESTANTS[transport].streams)
    return JobResult(
        messages=len(records),
        failed=sum(record.outcome is not Outcome.OK for record in records),
        cpu_s=cpu_s,
        measured_s=measured_s,
        generator_lag_ms_p99=p99_ms(started_late_ns) or 0.0,
        emit_lag_ms_p99=p99_ms(emit_lags),
        emit_early_ms_max=early_ms_max(emit_lags),
        delay_ms_p50=delay_ms_p50(records),
        clock_offset_ns=account.offset_ns,
        notes=account.notes,
    )

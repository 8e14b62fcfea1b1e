"""What makes a cell void: signs that its number is not the transport's; and whether it may be run again (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bench.plan import Plan, Validity
from bench.run_record import CellRecord
from servers.stacks import STACKS

SHARE_OF_DELAY = 0.02  # a lag that is less of the cell's median delay changes nothing that anybody would read off it
MOST_EARLY_MS = 1.0  # before its time no token can be sent: beyond a timer's grain (Node's is 1 ms) it flatters
SPARE_RATIO, SPARE_LEAST_S = 0.5, 30.0  # void cells are run again for so much of the run's expected time, or so long


def void_reasons(record: CellRecord, limits: Validity) -> list[str]:
    """Why the cell is void, in words for the report's table; empty when it is valid. Unknown values void nothing."""
    if not record.messages:
        return ["no message was measured", *_reasons(record, limits)]
    return list(_reasons(record, limits))


def _reasons(record: CellRecord, limits: Validity) -> Iterator[str]:
    least_ms = SHARE_OF_DELAY * (record.delay_ms_p50 or 0.0)
    for what, lag_ms, limit_ms in _lags(record, limits):
        if lag_ms is not None and lag_ms > max(limit_ms, least_ms):
            text = f"{limit_ms:g} ms" if limit_ms >= least_ms else f"{least_ms:.1f} ms (2 % of the median delay)"
            yield f"{what} {lag_ms:.1f} ms > {text}"
    if (record.emit_early_ms_max or 0.0) > MOST_EARLY_MS:
        yield f"server emitted early: up to {record.emit_early_ms_max:.1f} ms before its tokens were due"
    for what, ratio, limit in (
        ("CPU time stolen by the host:", record.steal_ratio, limits.steal_ratio),
        ("CPU time of other programs, of a core:", record.foreign_cpu_ratio, limits.foreign_cpu_ratio),
        ("load process's CPU:", record.client_cpu_ratio, limits.client_cpu_ratio),
    ):
        if ratio is not None and ratio > limit:
            yield f"{what} {100 * ratio:.1f} % > {100 * limit:g} %"


def _lags(record: CellRecord, limits: Validity) -> Iterator[tuple[str, float | None, float]]:
    p99_ms, max_ms = limits.loop_lag_ms_p99, limits.loop_lag_ms_max
    if not _keeps_time(record):
        yield "server had its requests late: p99", record.request_lag_ms_p99, limits.request_lag_ms_p99
        yield "server emitted late: p99", record.emit_lag_ms_p99, limits.emit_lag_ms_p99
    yield from (
        ("load came late: p99", record.generator_lag_ms_p99, limits.generator_lag_ms_p99),
        ("client's event loop late: p99", record.loop_lag_ms_p99, p99_ms),
        ("client's event loop stood still:", record.loop_lag_ms_max, max_ms),
        ("server's event loop late: p99", record.server_loop_lag_ms_p99, p99_ms),
        ("server's event loop stood still:", record.server_loop_lag_ms_max, max_ms),
        ("proxy's event loop late: p99", record.proxy_loop_lag_ms_p99, p99_ms),
        ("proxy's event loop stood still:", record.proxy_loop_lag_ms_max, max_ms),
        ("Redis answered late: p99", record.redis_lag_ms_p99, p99_ms),
        ("Redis answered late:", record.redis_lag_ms_max, max_ms),
    )


def _keeps_time(record: CellRecord) -> bool:
    """Whether the stack's own processes take requests and keep the model's time, late or not: that is what it shows."""
    words = record.variant.split()
    return any(f"stack={name}" in words for name, stack in STACKS.items() if stack.has_workers)


def worth_another(record: CellRecord, cells: Iterable[CellRecord], plan: Plan, expected_s: float) -> bool:
    """Whether a void `record` is to be run again: not too often, and not for too long over all `cells` of the run.

    `expected_s` is how long the run takes without. What comes again by nature is not worth it: a load that one process
    cannot make, a cell without a message.
    """
    limits = plan.validity
    if record.status != "void" or not record.messages or len(record.earlier) + 1 >= limits.attempts:
        return False
    if (record.client_cpu_ratio or 0.0) > limits.client_cpu_ratio:
        return False
    again_s = sum(attempt.seconds for cell in cells for attempt in cell.earlier)
    return (again_s + record.seconds) / plan.parallel <= max(SPARE_RATIO * expected_s, SPARE_LEAST_S)

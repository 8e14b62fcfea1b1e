"""What makes a cell void: signs that its number is not the transport's (pure)."""

from __future__ import annotations

from bench.plan import Validity
from bench.store import CellRecord


def void_reasons(record: CellRecord, client_cpu_ratio: float | None, limits: Validity) -> list[str]:
    """Why the cell is void, in words for the report's table; empty when it is valid. Unknown values void nothing.

    `client_cpu_ratio` is the share of a core that the busiest load process took.
    """
    measured = (
        ("load came late: p99", record.generator_lag_ms_p99, limits.generator_lag_ms_p99, "ms"),
        ("server emitted late: p99", record.emit_lag_ms_p99, limits.emit_lag_ms_p99, "ms"),
        ("client's event loop late: p99", record.loop_lag_ms_p99, limits.loop_lag_ms_p99, "ms"),
        ("CPU time stolen by the host:", 100 * (record.steal_ratio or 0.0), 100 * limits.steal_ratio, "%"),
        ("load process's CPU:", 100 * (client_cpu_ratio or 0.0), 100 * limits.client_cpu_ratio, "%"),
    )
    reasons = [
        f"{what} {value:.1f} {unit} > {limit:g} {unit}"
        for what, value, limit, unit in measured
        if value is not None and value > limit
    ]
    return reasons if record.messages else ["no message was measured", *reasons]

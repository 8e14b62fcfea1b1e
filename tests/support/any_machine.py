"""Limits of a plan that a cell keeps on any machine, however busy: for tests in which no cell may be void."""

from __future__ import annotations

VALIDITY = """[validity]
generator_lag_ms_p99 = 5000
emit_lag_ms_p99 = 5000
loop_lag_ms_p99 = 5000
loop_lag_ms_max = 5000
request_lag_ms_p99 = 5000
foreign_cpu_ratio = 100
steal_ratio = 1
client_cpu_ratio = 1
"""

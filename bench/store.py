"""The run folder: what each file holds, written cell by cell, never overwritten.

Schema history of `run.json`:
1   first version
"""

from __future__ import annotations

from typing import Literal

import msgspec

SCHEMA_VERSION = 1

CellStatus = Literal["pending", "ok", "void", "failed"]
RunStatus = Literal["running", "complete", "interrupted", "failed"]


class CellRecord(msgspec.Struct, kw_only=True):
    """One cell in one block: what it was, how it went, and what it cost.

    `void` means that it ran, but its number is not the transport's; `failed` that it did not finish. `reasons` says
    why in words. CPU seconds are of the measured part of the cell; None where the process is not ours.
    """

    id: str  # unique in the run and safe as a file name, e.g. "b03-sse-copy_aa"
    block: int
    cell: str  # the same in every block, e.g. "sse copy=aa"
    transport: str
    variant: str = ""
    profile: str = "direct"
    recovery: str = "none"
    order: int = 0  # position in its block
    status: CellStatus = "pending"
    reasons: list[str] = []
    started: str = ""
    seconds: float = 0.0
    messages: int = 0
    failed_messages: int = 0
    client_cpu_s: float | None = None
    server_cpu_s: float | None = None
    redis_cpu_s: float | None = None
    proxy_cpu_s: float | None = None
    redis_commands: int | None = None
    generator_lag_ms_p99: float | None = None
    emit_lag_ms_p99: float | None = None
    loop_lag_ms_p99: float | None = None
    steal_ratio: float | None = None
    clock_offset_ns: int = 0
    notes: list[str] = []


class Run(msgspec.Struct, kw_only=True):
    """`run.json`: everything needed to know what was run, on what, and how far it came."""

    schema: int = SCHEMA_VERSION
    name: str
    plan: dict[str, object]
    seed: int
    schedule_sha256: str
    time_scale: float = 1.0
    machine: dict[str, object] = {}
    versions: dict[str, str] = {}
    git_commit: str | None = None
    started: str = ""
    ended: str | None = None
    status: RunStatus = "running"
    cells: list[CellRecord] = []
    warnings: list[str] = []

"""What `run.json` says: the run, its cells, and how each went.

Schema history of `run.json`:
1   first version; `time_scale` divided the proxies' times, heartbeats and think times, and the plan stated the others
    as they were to be
2   `time_scale` divides every time of the plan, which states those of the real world
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

SCHEMA_VERSION = 2

CellStatus = Literal["pending", "ok", "void", "failed"]
RunStatus = Literal["running", "complete", "interrupted", "failed"]
CellId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}\Z")]  # a file's name, never a path


class CellAttempt(msgspec.Struct, kw_only=True):
    """How a cell went, what it cost, and how late and how busy everything around it was; None is what nobody knows.

    `void` means that it ran, but its number is not the transport's; `failed` that it did not finish. `reasons` says
    why in words. All is of the measured part of the cell. CPU seconds are None where the process is not ours.
    """

    status: CellStatus = "pending"
    reasons: list[str] = []
    started: str = ""
    seconds: float = 0.0
    messages: int = 0
    failed_messages: int = 0
    client_cpu_s: float | None = None
    server_cpu_s: float | None = None
    server_pace_us: float | None = None  # what a fixed piece of work cost its core meanwhile (servers.pace)
    redis_cpu_s: float | None = None
    proxy_cpu_s: float | None = None
    redis_commands: int | None = None
    server_memory_bytes: int | None = None  # its greatest memory, with Redis, above that before it had any work
    delay_ms_p50: float | None = None  # over its tokens, due to received: what lags are set against
    requests_worst_second: int | None = None  # the most that all users together sent within any second
    generator_lag_ms_p99: float | None = None  # intended to actual start
    request_lag_ms_p99: float | None = None  # start until the server had the request
    emit_lag_ms_p99: float | None = None  # due to sent
    emit_early_ms_max: float | None = None  # sent to due, where it was sent before that
    loop_lag_ms_p99: float | None = None  # of the load process's event loop
    loop_lag_ms_max: float | None = None
    server_loop_lag_ms_p99: float | None = None
    server_loop_lag_ms_max: float | None = None
    proxy_loop_lag_ms_p99: float | None = None
    proxy_loop_lag_ms_max: float | None = None
    redis_lag_ms_p99: float | None = None  # how long Redis took to answer; None of one that may be far away
    redis_lag_ms_max: float | None = None
    client_cpu_ratio: float | None = None  # of a core, by the load process
    foreign_cpu_ratio: float | None = None  # of a core, by other programs, on the cores that the run uses
    steal_ratio: float | None = None  # of the machine's processor time, by its host
    clock_offset_ns: int = 0
    notes: list[str] = []


class CellRecord(CellAttempt, kw_only=True):
    """One cell in one block: what it is, and its last attempt; `earlier` are those that were void and run again.

    Only the last one's messages are in the tables.
    """

    id: CellId  # unique in the run, e.g. "b03-sse-copy_aa"
    block: int
    cell: str  # the same in every block, e.g. "sse copy=aa"
    transport: str
    variant: str = ""
    profile: str = "direct"
    recovery: str = "none"
    order: int = 0  # position in its block
    earlier: list[CellAttempt] = []

    def begin_again(self) -> None:
        """Put the attempt that was made with those before it, and be pending."""
        fresh = CellAttempt()
        self.earlier.append(CellAttempt(**{name: getattr(self, name) for name in CellAttempt.__struct_fields__}))
        for name in CellAttempt.__struct_fields__:
            setattr(self, name, getattr(fresh, name))


class Run(msgspec.Struct, kw_only=True):
    """`run.json`: everything needed to know what was run, on what, and how far it came."""

    schema: int = SCHEMA_VERSION
    name: str
    plan: dict[str, object]
    seed: int
    schedule_sha256: str
    time_scale: Annotated[float, Meta(gt=0)] = 1.0
    machine: dict[str, object] = {}
    versions: dict[str, str] = {}
    git_commit: str | None = None
    started: str = ""
    ended: str | None = None
    status: RunStatus = "running"
    cells: list[CellRecord] = []
    behaviours_struck: dict[str, dict[str, int]] = {}  # profile -> behaviour -> connections on which it had an effect
    warnings: list[str] = []
    upgrades: dict[
        str, dict[str, int]
    ] = {}  # of a story, stack -> the status of a request and an upgrade without a token

    @property
    def stated_scale(self) -> float:
        """What the times of answers and of the clients' limits in `plan` are to be multiplied by to be real ones."""
        return self.time_scale if self.schema < 2 else 1.0

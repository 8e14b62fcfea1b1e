"""Made-up runs: for measuring the analysis itself, and for tests of charts and verdicts.

Nothing here was measured. Transports are caricatures: `push` delivers each token after a small random delay, `pull`
at the next tick of a poll, `whole` when the answer is complete.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bench.run_record import CellRecord, Run
from bench.store import RunFolder, create_run

NS = 1_000_000  # per millisecond
FROZEN_MS = 5000.0


@dataclass(frozen=True)
class Caricature:
    """How one cell delivers: the median delay in ms (`push`), or the interval between polls (`pull`)."""

    transport: str
    variant: str = ""
    kind: Literal["push", "pull", "whole"] = "push"
    delay_ms: float = 0.5
    failing: float = 0.0  # the share of messages that lose their second half
    cpu_us: float = 10.0  # of the server and of the client, per token


FIELD = (
    Caricature("polling", "", "pull", 1000, cpu_us=25),
    Caricature("polling", "interval=0.1", "pull", 100, cpu_us=40),
    Caricature("websocket", "", "push", 0.45, cpu_us=14),
    Caricature("chunked", "", "push", 0.5, cpu_us=10),
    Caricature("sse", "", "push", 0.5, cpu_us=11),
    Caricature("sse", "copy=aa", "push", 0.5, cpu_us=11),
    Caricature("blocking", "", "whole", cpu_us=2),
)


def synthetic_run(
    out_dir: Path,
    *,
    blocks: int = 10,
    messages: int = 40,
    tokens: int = 120,
    field: Sequence[Caricature] = FIELD,
    seed: int = 1,
    name: str = "synthetic",
    void: Collection[tuple[int, int]] = (),
) -> RunFolder:
    """Write a merged, complete run of about `blocks × len(field) × messages × tokens` token rows.

    `void` names cells by their place in `field` and their block; all of their times are those of a frozen machine.
    """
    run = Run(name=name, plan={"blocks": blocks}, seed=seed, schedule_sha256="0" * 64, status="complete")
    run.machine = {"cpu": "none: made-up numbers", "cores": 2}
    folder = create_run(out_dir, run)
    for block in range(1, blocks + 1):
        shared = np.random.default_rng([seed, block])
        schedule = _ModelTimes.make(shared, messages, tokens, begin_ns=block * 10**12)
        for order, what in enumerate(field):
            record = _record(what, block, order)
            if (order, block) in void:
                record.status, record.reasons = "void", ["made up: the machine was frozen"]
            delivered = replace(what, kind="push", delay_ms=FROZEN_MS) if record.status == "void" else what
            _write_cell(folder, delivered, record, schedule, np.random.default_rng([seed, block, order]))
            run.cells.append(record)
    folder.save(run)
    folder.merge()
    return folder


def _record(what: Caricature, block: int, order: int) -> CellRecord:
    cell = f"{what.transport} {what.variant}".strip()
    return CellRecord(
        id=f"b{block:02}-{cell.replace(' ', '-').replace('=', '_')}",
        block=block,
        cell=cell,
        transport=what.transport,
        variant=what.variant,
        order=order,
        status="ok",
    )


@dataclass(frozen=True)
class _ModelTimes:
    """What the model does in one block, the same for every cell; token arrays are parallel, `message` their row."""

    start_ns: NDArray[np.int64]
    ttft_ns: NDArray[np.int64]
    lengths: NDArray[np.int64]
    first: NDArray[np.int64]  # where each message's tokens begin
    message: NDArray[np.int64]
    i: NDArray[np.int64]
    due_ns: NDArray[np.int64]

    @classmethod
    def make(cls, rng: np.random.Generator, messages: int, tokens: int, begin_ns: int) -> _ModelTimes:
        lengths = np.maximum(rng.lognormal(np.log(tokens), 0.4, messages).astype(np.int64), 2)
        start_ns = begin_ns + np.cumsum(rng.exponential(50 * NS, messages)).astype(np.int64)
        ttft_ns = (rng.lognormal(np.log(600), 0.3, messages) * NS).astype(np.int64)
        message = np.repeat(np.arange(messages), lengths)
        first = np.cumsum(lengths) - lengths
        i = np.arange(len(message)) - first[message]
        gap_ns = np.where(i == 0, 0, rng.lognormal(np.log(12), 0.3, len(message)) * NS).astype(np.int64)
        elapsed_ns = np.cumsum(gap_ns)
        due_ns = (start_ns + ttft_ns - elapsed_ns[first])[message] + elapsed_ns
        return cls(start_ns, ttft_ns, lengths, first, message, i, due_ns)

    @property
    def last(self) -> NDArray[np.int64]:
        """Where each message's last token is."""
        return self.first + self.lengths - 1


def _write_cell(
    folder: RunFolder, what: Caricature, record: CellRecord, schedule: _ModelTimes, rng: np.random.Generator
) -> None:
    """Write one cell's two tables and fill in its costs."""
    received_ns = _received(what, schedule, rng)
    failed = rng.random(len(schedule.lengths)) < what.failing
    lost = np.where(failed, schedule.lengths - schedule.lengths // 2, 0)
    kept = schedule.i < (schedule.lengths - lost)[schedule.message]
    record.messages = len(failed)
    record.failed_messages = int(failed.sum())
    ids = [f"{record.id}-{k:05}" for k in range(len(failed))]
    message = pa.array(schedule.message[kept], pa.int32())
    tokens = {
        "stream_id": pa.DictionaryArray.from_arrays(message, pa.array(ids)).cast(pa.string()),
        "i": schedule.i[kept],
        "due_ns": schedule.due_ns[kept],
        "sent_ns": schedule.due_ns[kept],
        "received_ns": received_ns[kept],
        "read": np.cumsum(np.diff(received_ns[kept], prepend=0) != 0),
    }
    pq.write_table(pa.table(tokens), f"{folder.cell_prefix(record.id)}.tokens.parquet")
    streams = _stream_columns(record, ids, schedule, lost)
    streams["first_token_ns"] = received_ns[schedule.first]
    streams["end_ns"] = received_ns[schedule.last]
    if what.kind == "pull":
        waited_ns = received_ns[schedule.last] - schedule.start_ns
        streams["requests"] = 1 + waited_ns // int(what.delay_ms * NS)
    pq.write_table(pa.table(streams), f"{folder.cell_prefix(record.id)}.streams.parquet")
    record.client_cpu_s = record.server_cpu_s = float(len(message) * what.cpu_us / 1e6 * rng.normal(1, 0.02))
    record.redis_cpu_s = record.server_cpu_s / 3 if what.kind == "pull" else None


def _received(what: Caricature, schedule: _ModelTimes, rng: np.random.Generator) -> NDArray[np.int64]:
    """When each token arrives; within a message never before its predecessor."""
    due_ns, message = schedule.due_ns, schedule.message
    if what.kind == "whole":
        return due_ns[schedule.last][message] + NS
    if what.kind == "pull":
        interval_ns, start_ns = int(what.delay_ms * NS), schedule.start_ns[message]
        return start_ns + ((due_ns - start_ns) // interval_ns + 1) * interval_ns
    mood = rng.lognormal(0, 0.05)  # what all messages of a block share
    delay_ns = (rng.lognormal(np.log(what.delay_ms * mood), 0.5, len(due_ns)) * NS).astype(np.int64)
    apart = message * 10**13  # keeps one message's arrivals from holding up the next one's
    return np.asarray(np.maximum.accumulate(due_ns + delay_ns + apart) - apart)


def _stream_columns(
    record: CellRecord, ids: list[str], schedule: _ModelTimes, lost: NDArray[np.int64]
) -> dict[str, object]:
    """The columns of a run's tables; what a made-up message cannot know is nothing, or zero."""
    count = len(ids)
    words = ("cell", "transport", "variant", "profile", "recovery")
    zero = np.zeros(count, np.int64)
    return {
        "block": zero + record.block,
        **{name: [getattr(record, name)] * count for name in words},
        "stream_id": ids,
        "intended_start_ns": schedule.start_ns,
        "start_ns": schedule.start_ns,
        "first_token_ns": zero,
        "end_ns": zero,
        "outcome": np.where(lost > 0, "truncated", "ok").tolist(),
        "tokens_expected": schedule.lengths,
        "tokens_received": schedule.lengths - lost,
        "tokens_lost": lost,
        "tokens_duplicated": zero,
        "tokens_reordered": zero,
        "text_ok": (lost == 0).tolist(),
        "requests": zero + 1,
        "connections": zero + 1,
        "drops": zero,
        "bytes_in": schedule.lengths * 90,
        "bytes_out": zero + 300,
        "recovery_ms": pa.nulls(count, pa.float64()),
        "ttft_scheduled_ns": schedule.ttft_ns,
    }

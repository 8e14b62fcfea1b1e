"""Run folders written by hand: records whose numbers can be worked out on paper, through the real writers."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.run_record import CellRecord, Run
from bench.store import RunFolder, create_run
from clients import results
from clients.chromium.answers import Painted
from clients.core.record import Outcome, StreamRecord

MS = 1_000_000


@dataclass
class Message:
    """One message: (due, received) of its tokens in ms after its intended start, in the order in which they came.

    Tokens of one moment were completed by one read. `expected` counts the scheduled tokens, those that came by default.
    """

    tokens: Sequence[tuple[float, float]]
    expected: int | None = None
    outcome: str = "ok"
    indices: Sequence[int] | None = None
    painted: dict[str, Any] = field(default_factory=dict)  # what a browser showed of it, as Painted has it
    facts: dict[str, Any] = field(default_factory=dict)  # further columns, e.g. requests=30


@dataclass
class RunBuilder:
    """Collects cells and writes them as a merged run."""

    out_dir: Path
    changes: dict[str, Any] = field(default_factory=dict)
    cells: list[tuple[CellRecord, Sequence[Message]]] = field(default_factory=list)

    def cell(
        self,
        transport: str,
        block: int,
        messages: Sequence[Message],
        *,
        variant: dict[str, object] | None = None,
        **facts: Any,
    ) -> CellRecord:
        """Add one cell in one block; `facts` go into its record."""
        words = results.variant_words(variant or {})
        key = " ".join(filter(None, (transport, words, facts.get("profile", ""), facts.get("recovery", ""))))
        given: dict[str, Any] = {
            "id": f"b{block:02}-{len(self.cells)}",
            "block": block,
            "cell": key,
            "transport": transport,
            "variant": words,
            "status": "ok",
            **facts,
        }
        record = CellRecord(**given)
        self.cells.append((record, messages))
        return record

    def write(self) -> RunFolder:
        """Write all cells through the load process's own writer, and merge."""
        given: dict[str, Any] = {"name": "hand", "plan": {}, "seed": 1, "schedule_sha256": "00", "status": "complete"}
        run = Run(**given | self.changes)
        run.cells = [record for record, _ in self.cells]
        folder = create_run(self.out_dir, run)
        for record, messages in self.cells:
            if record.status != "pending":
                records = [_record(record, k, m) for k, m in enumerate(messages)]
                results.write(folder.cell_prefix(record.id), _columns(record), records)
                self._write_painted(folder, record, messages)
        folder.merge()
        return folder

    def _write_painted(self, folder: RunFolder, record: CellRecord, messages: Sequence[Message]) -> None:
        rows = [Painted(f"{record.id}-{k}", **PAINTED | m.painted) for k, m in enumerate(messages) if m.painted]
        if rows:
            results.write_painted(folder.cell_prefix(record.id), _columns(record), rows)


PAINTED: dict[str, Any] = {
    **dict.fromkeys(("first_painted_ns", "last_painted_ns", "first_shown_ns", "frames", "tokens_painted"), 0),
    **{"painted_gap_ms_max": None, "frames_dropped": 0, "long_tasks": 0, "long_tasks_ms": 0.0},
    **{"waited_ms": None, "protocol": "", "clock_error_ns": 0},
}


def _columns(record: CellRecord) -> results.CellColumns:
    names = (record.block, record.cell, record.transport, record.variant, record.profile, record.recovery)
    return results.CellColumns(*names)


def _record(cell: CellRecord, k: int, message: Message) -> StreamRecord:
    start_ns = (cell.block * 1000 + k) * 1000 * MS
    due_ns = array("q", [start_ns + round(due * MS) for due, _ in message.tokens])
    received_ns = array("q", [start_ns + round(received * MS) for _, received in message.tokens])
    expected = message.expected or len(message.tokens)
    moments = sorted(set(received_ns))
    return StreamRecord(
        **{
            "stream_id": f"{cell.id}-{k}",
            "intended_start_ns": start_ns,
            "start_ns": start_ns,
            "tokens_expected": expected,
            "first_token_ns": received_ns[0] if received_ns else 0,
            "end_ns": received_ns[-1] if received_ns else start_ns,
            "outcome": Outcome(message.outcome),
            "tokens_received": len(received_ns),
            "tokens_lost": expected - len(received_ns),
            "text_ok": message.outcome == "ok",
            "requests": 1,
            "connections": 1,
            "ttft_scheduled_ns": min(due_ns, default=start_ns) - start_ns,
            "i": array("q", message.indices or range(len(due_ns))),
            "due_ns": due_ns,
            "sent_ns": due_ns,
            "received_ns": received_ns,
            "read": array("q", [moments.index(moment) for moment in received_ns]),
            **message.facts,
        }
    )

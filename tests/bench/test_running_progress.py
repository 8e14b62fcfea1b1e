"""What the user reads while a run goes on."""

from __future__ import annotations

import io

import pytest

from bench.console import Console
from bench.run_record import CellRecord
from bench.running.progress import BarDisplay, PlainDisplay


def cell(name: str) -> CellRecord:
    return CellRecord(id=name, block=1, cell=name, transport=name)


def ended(record: CellRecord, status: str, *reasons: str) -> CellRecord:
    record.status, record.reasons, record.messages, record.seconds = status, list(reasons), 80, 4.0  # type: ignore[assignment]
    return record


@pytest.mark.parametrize("kind", [PlainDisplay, BarDisplay])
def test_a_void_cell_that_runs_again_is_said_to_and_is_still_to_be_done(kind: type[PlainDisplay | BarDisplay]) -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=kind is BarDisplay)
    todo = [cell("sse"), cell("chunked")]
    display = kind(console, todo)
    for record in todo:
        display.begin(record)
        display.end(ended(record, "void", "load came late: p99 9.0 ms > 5 ms"), again=record is todo[0])
    display.begin(todo[0])
    display.advance(1, 80)
    display.end(ended(todo[0], "ok"))
    display.close()
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert "block 1  sse: again at the end of its block: void because load came late: p99 9.0 ms > 5 ms" in said
    assert "block 1  chunked: void (load came late: p99 9.0 ms > 5 ms)" in said
    if kind is PlainDisplay:
        assert [line.partition(" block")[0] for line in said.splitlines()] == ["[0/2]", "[1/2]", "[2/2]"]
        assert [line.rpartition(", ")[2] for line in said.splitlines()] == ["0:08 left", "0:04 left", "0:00 left"]

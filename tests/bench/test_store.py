"""The run folder: atomic, append-only by cells, found again."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.analysis.measures.groups import measure
from bench.analysis.synthetic import Caricature, synthetic_run
from bench.run_record import CellAttempt, CellRecord, CellStatus, Run
from bench.store import RunFolder, StoreError, create_run, link_latest, open_run


def a_run(**changes: object) -> Run:
    run = Run(name="quick", plan={"blocks": 2}, seed=7, schedule_sha256="ab")
    return msgspec.structs.replace(run, **changes)


def write_parts(folder: RunFolder, cell_id: str, rows: int) -> None:
    prefix = folder.cell_prefix(cell_id)
    streams = pa.table(
        {"stream_id": [f"{cell_id}-{k}" for k in range(rows)], "bytes_in": pa.array([None] * rows, "i8")}
    )
    tokens = pa.table({"stream_id": [f"{cell_id}-0"] * rows, "received_ns": pa.array(range(rows), pa.int64())})
    pq.write_table(streams, f"{prefix}.streams.parquet")
    pq.write_table(tokens, f"{prefix}.tokens.parquet")


def test_a_new_folder_never_touches_an_old_one(tmp_path: Path) -> None:
    folders = [create_run(tmp_path / "results", a_run(name="my plan/../x")) for _ in range(3)]
    assert len({f.path for f in folders}) == 3
    assert all(f.path.parent == tmp_path / "results" for f in folders)
    assert folders[0].path.name.endswith("Z-my-plan-..-x")


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    run = a_run(cells=[CellRecord(id="b00-sse", block=0, cell="sse", transport="sse", reasons=["late"])])
    folder = create_run(tmp_path, run)
    assert folder.load() == run
    run.status = "interrupted"
    folder.save(run)
    assert open_run(folder.path).load() == run
    assert {p.name for p in folder.path.iterdir()} == {"run.json", "cells"}


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = create_run(tmp_path, a_run())

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        folder.save(a_run(status="complete"))
    assert folder.load().status == "running"
    assert not list(folder.path.glob(".run*"))


def test_merge_takes_finished_cells_in_order_and_one_row_group_each(tmp_path: Path) -> None:
    statuses: tuple[CellStatus, ...] = ("ok", "void", "failed", "pending", "ok")
    cells = [CellRecord(id=f"c{k}", block=0, cell=str(k), transport="sse", status=s) for k, s in enumerate(statuses)]
    folder = create_run(tmp_path, a_run(cells=cells))
    for k in range(4):  # c4 wrote nothing
        write_parts(folder, f"c{k}", 2 + k)
    folder.merge()
    file = pq.ParquetFile(folder.tokens_path)
    assert [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)] == [2, 3, 4]
    assert pq.read_table(folder.streams_path)["stream_id"].to_pylist()[:3] == ["c0-0", "c0-1", "c1-0"]
    assert folder.cell_prefix("c0").with_name("c0.tokens.parquet").exists(), "an unfinished run keeps its parts"


def test_merge_after_resume_adds_and_a_complete_run_drops_its_parts(tmp_path: Path) -> None:
    cells = [CellRecord(id=f"c{k}", block=0, cell=str(k), transport="sse", status="pending") for k in range(2)]
    run = a_run(cells=cells)
    folder = create_run(tmp_path, run)
    folder.merge()
    assert not folder.streams_path.exists(), "nothing finished, nothing merged"
    for k in range(2):
        run.cells[k].status = "ok"
        write_parts(folder, f"c{k}", 3)
        folder.save(run)
        folder.merge()
    assert pq.read_metadata(folder.tokens_path).num_row_groups == 2
    run.status = "complete"
    folder.save(run)
    folder.merge()
    assert not (folder.path / "cells").exists()
    before = folder.tokens_path.read_bytes()
    folder.merge()
    assert folder.tokens_path.read_bytes() == before


def test_merge_refuses_parts_of_another_shape(tmp_path: Path) -> None:
    cells = [CellRecord(id=f"c{k}", block=0, cell=str(k), transport="sse", status="ok") for k in range(2)]
    folder = create_run(tmp_path, a_run(cells=cells))
    write_parts(folder, "c0", 1)
    write_parts(folder, "c1", 1)
    pq.write_table(pa.table({"other": [1]}), f"{folder.cell_prefix('c1')}.tokens.parquet")
    with pytest.raises(StoreError, match=r"c1 has other columns than c0"):
        folder.merge()
    assert not folder.tokens_path.exists()
    assert not list(folder.path.glob(".tokens*"))


@pytest.mark.parametrize("links", [True, False])
def test_latest_points_at_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:

        def refuse(*_args: object, **_options: object) -> None:
            raise OSError("no symbolic links here")

        monkeypatch.setattr(Path, "symlink_to", refuse)
    with pytest.raises(StoreError, match="no run"):
        open_run("latest", tmp_path)
    for _ in range(2):
        folder = create_run(tmp_path, a_run())
        link_latest(folder)
        assert open_run("latest", tmp_path).path == folder.path
    assert open_run("latest", tmp_path).path == folder.path
    assert open_run(folder.path.name, tmp_path).path == folder.path


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"schema": 99}', "schema 99"), ('{"schema": 1, "name": 3}', "damaged"), ("{", "damaged"), (None, "not a run")],
)
def test_what_is_no_run_says_why(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(StoreError, match=message):
        open_run(tmp_path)


def test_a_run_of_before_there_were_attempts_is_read(tmp_path: Path) -> None:
    folder = create_run(tmp_path, a_run())
    file = folder.path / "run.json"
    old = json.loads(file.read_text())
    old["cells"] = [{"id": "b01-sse", "block": 1, "cell": "sse", "transport": "sse", "loop_lag_ms_p99": 1.5}]
    file.write_text(json.dumps(old))
    (cell,) = folder.load().cells
    assert (cell.loop_lag_ms_p99, cell.loop_lag_ms_max, cell.foreign_cpu_ratio, cell.earlier) == (1.5, None, None, [])


def test_a_cell_begins_again_and_keeps_what_was(tmp_path: Path) -> None:
    cell = CellRecord(id="b01-sse", block=1, cell="sse", transport="sse", variant="copy=aa", order=3)
    fresh = msgspec.structs.replace(cell)
    for number in (1, 2):
        cell.status, cell.reasons, cell.messages, cell.loop_lag_ms_max = "void", [f"late {number}"], 80, 50.0
        cell.begin_again()
    earlier = [CellAttempt(status="void", reasons=[f"late {n}"], messages=80, loop_lag_ms_max=50.0) for n in (1, 2)]
    assert cell == msgspec.structs.replace(fresh, earlier=earlier)
    folder = create_run(tmp_path, a_run(cells=[cell]))
    assert folder.load().cells == [cell]


def test_tables_that_other_programs_wrote_again_are_read(tmp_path: Path) -> None:
    """pandas and Polars write text as large_string."""
    folder = synthetic_run(tmp_path, blocks=1, messages=2, tokens=3, field=(Caricature("sse"),))
    for path in (folder.streams_path, folder.tokens_path):
        table = pq.read_table(path)
        wide = [f.with_type(pa.large_string()) if pa.types.is_string(f.type) else f for f in table.schema]
        pq.write_table(table.cast(pa.schema(wide)), path)
    folder.check()
    assert len(measure(folder).cell("sse").messages) == 2

"""Run folders that something has happened to: each file times each injury, and what each command makes of it."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.runs import Message, RunBuilder

from bench.analysis.measures.groups import measure
from bench.cli import main
from bench.plan import parse
from bench.running.fingerprint import schedule_sha256
from bench.running.runner import reopen_run
from bench.store import LATEST, RunFolder, StoreError, open_run, open_unfinished
from bench.tables import PAINTED_TABLE, TABLES, TableClosed, fault
from servers.user_errors import UserError

PLAN = parse({"name": "hand", "blocks": 2, "cells": [{"transport": "sse"}, {"transport": "chunked"}]})
MESSAGES = [Message([(100, 101 + k), (200, 201 + k)]) for k in range(4)]


def build(out: Path, status: str, missing: int = 0) -> RunFolder:
    """A run of four cells, the last `missing` of which have yet to be measured."""
    known = {"plan": msgspec.to_builtins(PLAN), "schedule_sha256": schedule_sha256(PLAN), "status": status}
    run = RunBuilder(out, known)
    for n, (block, transport) in enumerate((b, t) for b in (1, 2) for t in ("sse", "chunked")):
        record = run.cell(transport, block, MESSAGES, status="pending" if n >= 4 - missing else "ok")
        record.messages = len(MESSAGES) if record.status == "ok" else 0
    return run.write()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("pristine"), "complete").path


@pytest.fixture
def whole(pristine: Path, tmp_path: Path) -> RunFolder:
    """A complete run, its parts gone."""
    return RunFolder(Path(shutil.copytree(pristine, tmp_path / "20260101T000000Z-hand")))


def cut(path: Path, at: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * at)])


def scratch(path: Path) -> None:
    """Other bytes in its middle, with a good beginning and end."""
    data = bytearray(path.read_bytes())
    data[4 : len(data) // 3] = os.urandom(len(data) // 3 - 4)
    path.write_bytes(data)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe_instead(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def without(column: str) -> Callable[[Path], None]:
    return lambda path: pq.write_table(pq.read_table(path).drop_columns([column]), path)


def with_other(column: str, values: Callable[[int], Any]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        table = pq.read_table(path)
        at = table.schema.get_field_index(column)
        pq.write_table(table.set_column(at, column, values(len(table))), path)

    return change


def noise(path: Path) -> None:
    path.write_bytes(os.urandom(500))


ANY_FILE: dict[str, Callable[[Path], None]] = {
    "gone": Path.unlink,
    "empty": lambda path: cut(path, 0),
    "half": lambda path: cut(path, 0.5),
    "noise": noise,
    "folder": folder_instead,
    "pipe": pipe_instead,
}
TABLE = ANY_FILE | {
    "scratched": scratch,
    "no id": without("stream_id"),
    "text for numbers": lambda path: with_other(
        "block" if "streams" in path.name else "i", lambda n: pa.array(["x"] * n)
    )(path),
    "no values": lambda path: with_other(
        "end_ns" if "streams" in path.name else "read", lambda n: pa.array([None] * n, pa.int64())
    )(path),
    "numbers for text": with_other("stream_id", lambda n: pa.array(range(n))),
    "ids of another": with_other("stream_id", lambda n: pa.array([f"x{k}" for k in range(n)])),
}
CASES = [
    *(("run.json", injury) for injury in ANY_FILE),
    *(("streams.parquet", injury) for injury in TABLE),
    *(("tokens.parquet", injury) for injury in TABLE),
]


def one_line(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that fails says, having checked that it is one line and no traceback."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    errors = capsys.readouterr().err
    assert ended.value.code in (1, 2)
    assert errors.startswith("tokenderby: ")
    assert errors.count("\n") == 1
    return errors


@pytest.mark.parametrize(("name", "injury"), CASES)
def test_each_injury_of_each_file_is_one_clear_line(
    whole: RunFolder,
    pristine: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    injury: str,
) -> None:
    TABLE[injury](whole.path / name)
    words = "run.json" if name == "run.json" else ".parquet"
    assert words in one_line(capsys, "report", str(whole.path))
    assert words in one_line(capsys, "compare", str(pristine), str(whole.path))
    with pytest.raises(StoreError, match=words):  # the notebook's way
        measure(open_run(whole.path))
    again = one_line(capsys, "run", "--resume", str(whole.path))
    assert words in again or (injury in ("scratched", "ids of another") and "every cell of this run is done" in again)


def test_what_a_report_has_written_is_written_again(whole: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    written = (whole.path / "summary.csv", whole.path / "report.html")
    for path in written:
        path.write_bytes(b"\xff" * 100)
    with pytest.raises(SystemExit) as ended:
        main(["report", str(whole.path)])
    assert ended.value.code == 0
    assert not any(b"\xff" in path.read_bytes() for path in written)
    folder_instead(whole.path / "summary.csv")
    capsys.readouterr()
    assert "cannot write the report" in one_line(capsys, "report", str(whole.path))


@pytest.mark.parametrize("injure", TABLE.values(), ids=TABLE)
@pytest.mark.parametrize("table", ["streams", "tokens"])
def test_a_cell_whose_part_is_lost_is_measured_again(
    tmp_path: Path, table: str, injure: Callable[[Path], None]
) -> None:
    folder = build(tmp_path, "interrupted", missing=1)
    for path in (folder.streams_path, folder.tokens_path):
        path.unlink()
    victim = folder.load().cells[0]
    injured = folder.cell_prefix(victim.id).with_name(f"{victim.id}.{table}.parquet")
    injure(injured)
    reopen_run(folder)
    statuses = [cell.status for cell in folder.load().cells]
    if injured.exists():  # "ids of another" and some scratches do not show in one part alone
        assert statuses == ["ok", "ok", "ok", "pending"]
        return
    assert statuses == ["pending", "ok", "ok", "pending"]
    folder.merge()
    assert pq.read_metadata(folder.streams_path).num_rows == 2 * len(MESSAGES)


@pytest.mark.parametrize("table", ["streams", "tokens"])
def test_damaged_whole_tables_are_made_anew_from_the_parts(tmp_path: Path, table: str) -> None:
    folder = build(tmp_path, "interrupted", missing=1)
    cut(folder.path / f"{table}.parquet", 0.5)
    assert not folder.mend()
    folder.merge()
    folder.check()
    assert pq.read_metadata(folder.streams_path).num_rows == 3 * len(MESSAGES)


def test_rows_are_never_lost_by_merging_again(tmp_path: Path) -> None:
    """Parts of which some are gone: what the whole tables have of these cells stays."""
    folder = build(tmp_path, "interrupted", missing=1)
    before = pq.read_table(folder.tokens_path)
    for part in (folder.path / "cells").glob("b01*"):
        part.unlink()
    assert not folder.mend()
    folder.merge()
    assert pq.read_table(folder.tokens_path).equals(before)
    assert pq.read_metadata(folder.streams_path).num_rows == 3 * len(MESSAGES)


def test_killed_while_the_parts_of_a_complete_run_are_removed(tmp_path: Path) -> None:
    folder = build(tmp_path, "interrupted")
    parts = sorted((folder.path / "cells").iterdir())
    for part in parts[:3]:
        part.unlink()
    run = folder.load()
    run.status = "complete"
    folder.save(run)
    folder.merge()
    assert pq.read_metadata(folder.streams_path).num_rows == 4 * len(MESSAGES)
    assert not (folder.path / "cells").exists()


def test_killed_behind_the_last_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status "running", nothing merged: `report` and `--resume` put it right, and `latest` points at it."""
    for n, command in enumerate((["report"], ["run", "--resume"])):
        folder = build(tmp_path / str(n), "running")
        for path in (folder.streams_path, folder.tokens_path):
            path.unlink()
        for name in (
            "run.json",
            "summary.csv",
            "report.html",
            *(f"{table}.parquet" for table in (*TABLES, PAINTED_TABLE)),
        ):
            (folder.path / f".{name}.{os.getpid()}").write_text("half")
        with pytest.raises(SystemExit) as ended:
            main([*command, str(folder.path)])
        assert ended.value.code == 0, capsys.readouterr().err
        run = folder.load()
        assert run.status == "complete"
        assert run.ended
        assert folder.report_path.exists()
        assert pq.read_metadata(folder.streams_path).num_rows == 4 * len(MESSAGES)
        assert (folder.path.parent / LATEST).resolve() == folder.path
        assert not list(folder.path.glob(".*"))


def test_latest_is_linked_even_if_the_report_fails(tmp_path: Path) -> None:
    from bench.console import Console
    from bench.export.exports import Exports
    from bench.run_to_report import FAILED, conclude

    folder = build(tmp_path, "complete")
    (folder.path / "summary.csv").mkdir()
    assert conclude(folder, folder.load(), Console(quiet=True), Exports()) == FAILED
    assert open_run(LATEST, tmp_path).path == folder.path


def test_only_one_process_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = build(tmp_path, "interrupted", missing=1)
    before = folder.load()
    with folder.lock():
        for command in (["report"], ["run", "--resume"]):
            assert "another process is writing" in one_line(capsys, *command, str(folder.path))
    assert folder.load() == before
    with folder.lock(), pytest.raises(StoreError), folder.lock():
        pass
    with folder.lock():  # it was given back each time
        pass


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with build(tmp_path, "complete").lock():
        pass


def changed_run(folder: RunFolder, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder.path / "run.json"
    run = json.loads(path.read_text())
    change(run)
    path.write_text(json.dumps(run))


@pytest.mark.parametrize(
    "cell_id", ["../../evil", "/evil", "..", ".", "", "a/b", "a\\b", "a\0b", "a\n", "x" * 201, ".hidden"]
)
def test_an_id_is_never_a_path(tmp_path: Path, cell_id: str) -> None:
    folder = build(tmp_path / "results", "interrupted", missing=1)
    changed_run(folder, lambda run: run["cells"][3].update(id=cell_id))
    with pytest.raises(StoreError, match="damaged"):
        folder.load()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda run: run["cells"].append(run["cells"][0]), "the same id"),
        (lambda run: run["cells"].append(run["cells"][0] | {"id": "twice"}), "the same name"),
        (lambda run: run["cells"][3].update(cell="websocket"), "cells that its plan does not: websocket"),
        (lambda run: run.update(time_scale=0), "time_scale"),
        (lambda run: run.update(plan={}), "cells"),
        (lambda run: run["plan"].update(seed=99), "other answers"),
        (lambda run: run["machine"].update(target_cores={"sse": [0]}), "takes --target sse=URL again"),
        (lambda run: run["plan"].update(loads={"x": {"streams": "many"}}), "streams"),
    ],
)
def test_a_run_that_somebody_has_edited(tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str) -> None:
    folder = build(tmp_path, "interrupted", missing=1)
    changed_run(folder, change)
    with pytest.raises(UserError, match=words):
        reopen_run(folder)


def test_a_run_of_endless_brackets(tmp_path: Path) -> None:
    folder = build(tmp_path, "complete")
    (folder.path / "run.json").write_text('{"schema": 1, "plan": {"a": ' + "[" * 100_000)
    with pytest.raises(StoreError, match="damaged"):
        folder.load()


def test_latest_that_names_itself(tmp_path: Path) -> None:
    for content in ("latest", "../latest", "", "x" * 10_000):
        (tmp_path / LATEST).write_text(content)
        with pytest.raises(StoreError, match=r"no run|not a run folder"):
            open_run(LATEST, tmp_path)


def test_latest_is_the_newest_unfinished_run_to_go_on_with(tmp_path: Path) -> None:
    old = build(tmp_path, "interrupted", missing=1)
    build(tmp_path, "complete")
    assert open_unfinished(f"{tmp_path}/latest").path == old.path
    assert open_unfinished("latest", tmp_path).path == old.path
    shutil.rmtree(old.path)
    with pytest.raises(StoreError, match="no run"):
        open_unfinished("latest", tmp_path)


@pytest.mark.parametrize("status", ["complete", "running"])
def test_a_test_of_locusts_cannot_go_on(status: str, tmp_path: Path) -> None:
    """It has no plan's cells. `latest` is the unfinished run of a plan, if there is one."""
    unfinished = build(tmp_path, "interrupted", missing=1).path
    locust = RunBuilder(tmp_path, {"plan": {"name": "locust"}, "status": status}).write().path
    (tmp_path / LATEST).symlink_to(locust.name)
    assert open_unfinished(f"{tmp_path}/latest").path == unfinished
    shutil.rmtree(unfinished)
    for name in (str(locust), f"{tmp_path}/latest"):
        with pytest.raises(StoreError, match="Locust"):
            open_unfinished(name)


def test_what_cannot_be_read_now_is_not_taken_for_damaged(tmp_path: Path) -> None:
    """Of what is damaged, `mend` removes the rest: a want of descriptors or memory must not cost measured cells."""
    folder = build(tmp_path, "interrupted", missing=1)
    part = next((folder.path / "cells").glob("*.streams.parquet"))
    assert fault(part, "streams") == ""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(TableClosed, match="Too many open files"):
            fault(part, "streams")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert fault(part, "streams") == ""


def test_without_memory_a_command_ends_in_a_line(whole: RunFolder) -> None:
    program = """if True:
        import resource, sys, psutil
        from bench.cli import main
        import bench.running.runner
        room_bytes = psutil.Process().memory_info().vms + (6 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (room_bytes, room_bytes))
        main(["report", sys.argv[1]])
    """
    argv = [sys.executable, "-c", program, str(whole.path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("tokenderby: ")
    assert done.stderr.count("\n") == 1
    assert "damaged" not in done.stderr

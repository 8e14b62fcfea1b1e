"""Files written whole or not at all, and by nobody in another way."""

from __future__ import annotations

import ast
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from bench import tables
from bench.probe import probe_command
from clients.whole_file import remove_unfinished, replace_file, replacing

ROOT = Path(__file__).parents[2]
OLD, NEW = b"old", b"new" * 10_000
ROOM_BYTES = 1_000


@contextmanager
def full_disk() -> Iterator[None]:
    """A limit on file sizes stands in for it: what is larger fails half-written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def rows() -> pa.Table:
    return pa.table({"stream_id": [f"{k * 7919 % 5003}" for k in range(5_000)]})


WRITERS: dict[str, Callable[[Path], object]] = {
    "a file": lambda path: replace_file(path, NEW),
    "a table": lambda path: tables.concatenate({"cell": rows}, path),
    "a probe's findings": lambda path: probe_command.write(str(path), NEW),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, write: Callable[[Path], object]) -> None:
    file = tmp_path / "file"
    file.write_bytes(OLD)
    with full_disk(), pytest.raises(OSError, match="File too large"):
        write(file)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == {file: OLD}
    write(file)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert file.read_bytes() != OLD


def test_what_a_process_of_the_same_number_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / f".link.{os.getpid()}").symlink_to("left")
    with replacing(tmp_path / "link") as fresh:
        fresh.symlink_to("right")
    assert {path.name: path.readlink() for path in tmp_path.iterdir()} == {"link": Path("right")}


def test_only_what_was_left_of_the_named_files_is_removed(tmp_path: Path) -> None:
    others = ["run.json", ".run.json", ".run.json.", ".run.json.1.2", "run.json.1", ".other.1", ".run_json.1"]
    for name in (*others, ".run.json.1", ".run.json.4711"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path, r"run\.json")
    remove_unfinished(tmp_path / "not there", ".*")
    assert {path.name for path in tmp_path.iterdir()} == set(others)


def moves(source: Path) -> Iterator[str]:
    """The calls that put one file in another's place: `os.replace`, `os.rename`, and the same of a path."""
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        match node:
            case ast.Call(ast.Attribute(ast.Name("os" | "shutil"), "rename" | "renames" | "replace" | "move")):
                yield f"{source.relative_to(ROOT)}:{node.lineno}"
            case ast.Call(ast.Attribute(attr="rename" | "replace"), [_], []):  # a text's takes two, a table's has names
                yield f"{source.relative_to(ROOT)}:{node.lineno}"


def test_nobody_else_puts_one_file_in_anothers_place() -> None:
    sources = (
        path for package in ("servers", "clients", "bench", "scripts") for path in (ROOT / package).rglob("*.py")
    )
    found = [place for path in sources for place in moves(path)]
    assert [place.partition(":")[0] for place in found] == ["clients/whole_file.py"], found

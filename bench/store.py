"""The run folder: what each file holds, written cell by cell, never overwritten.

    results/<UTC time>-<plan>/
        run.json                    the Run below: plan, machine, cells and how each went
        cells/<cell id>.*.parquet   what a load process wrote, until the run is complete
        streams.parquet             those files put together: a row per message
        tokens.parquet              the same for tokens; the rows of a message stand together
    results/latest                  points at the newest complete run

Schema history of `run.json`:
1   first version
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA_VERSION = 1
LATEST = "latest"
TABLES = ("streams", "tokens")
ROW_GROUP_ROWS = 1 << 20  # a cell is one row group, unless it has more rows than this

CellStatus = Literal["pending", "ok", "void", "failed"]
RunStatus = Literal["running", "complete", "interrupted", "failed"]


class StoreError(ValueError):
    """A run folder that is not there, not readable or of another version. The text is for the user, one line."""


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
    behaviours_struck: dict[str, dict[str, int]] = {}  # profile -> behaviour -> connections on which it had an effect
    warnings: list[str] = []


class _Version(msgspec.Struct):
    schema: int


@dataclass(frozen=True)
class RunFolder:
    """One run on disk. All writes are atomic: a reader sees the old file or the new one, never half of it."""

    path: Path

    @property
    def streams_path(self) -> Path:
        """The table of messages."""
        return self.path / "streams.parquet"

    @property
    def tokens_path(self) -> Path:
        """The table of received tokens; the rows of a message stand together."""
        return self.path / "tokens.parquet"

    @property
    def charts_path(self) -> Path:
        """The folder of the report's pictures."""
        return self.path / "charts"

    @property
    def report_path(self) -> Path:
        """The report, one self-contained page."""
        return self.path / "report.html"

    def cell_prefix(self, cell_id: str) -> Path:
        """Where a load process writes: `<prefix>.streams.parquet` and `<prefix>.tokens.parquet`."""
        return self.path / "cells" / cell_id

    def save(self, run: Run) -> None:
        """Write `run.json`. On an OSError (a full disk, say) the previous one stays as it was."""
        replace_file(self.path / "run.json", msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")

    def load(self) -> Run:
        """Read `run.json`. Raises StoreError if it is missing, damaged or of an unknown version."""
        try:
            data = (self.path / "run.json").read_bytes()
            version = msgspec.json.decode(data, type=_Version).schema
            if version != SCHEMA_VERSION:
                raise StoreError(f"{self.path}: run.json has schema {version}, this version reads {SCHEMA_VERSION}")
            return msgspec.json.decode(data, type=Run)
        except OSError as error:
            raise StoreError(f"{self.path}: not a run folder ({error.strerror}: run.json)") from error
        except msgspec.MsgspecError as error:
            raise StoreError(f"{self.path}: run.json is damaged: {error}") from error

    def merge(self) -> None:
        """Put the finished cells' tables together: a row group per cell, one cell in memory at a time.

        Cells that are pending, or that wrote no file, are left out. The parts of a complete run are removed once
        both tables are in place; then merging again changes nothing.
        """
        run = self.load()
        finished = [c.id for c in run.cells if c.status != "pending" and self._has_parts(c.id)]
        if not finished:
            return
        for table in TABLES:
            _concatenate([self._part(c, table) for c in finished], self.path / f"{table}.parquet")
        if run.status == "complete":
            self._remove_parts()

    def _part(self, cell_id: str, table: str) -> Path:
        prefix = self.cell_prefix(cell_id)
        return prefix.with_name(f"{prefix.name}.{table}.parquet")

    def _has_parts(self, cell_id: str) -> bool:
        return all(self._part(cell_id, table).exists() for table in TABLES)

    def _remove_parts(self) -> None:
        for part in (self.path / "cells").glob("*.parquet"):
            part.unlink()
        if not any((self.path / "cells").iterdir()):
            (self.path / "cells").rmdir()


def create_run(out_dir: Path, run: Run) -> RunFolder:
    """Make a new folder `<out_dir>/<UTC time>-<run.name>` with its `run.json`; an existing one is never touched."""
    stem = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{re.sub(r'[^A-Za-z0-9._-]+', '-', run.name)}"
    out_dir.mkdir(parents=True, exist_ok=True)
    for name in _candidates(stem):
        try:
            (out_dir / name).mkdir()
        except FileExistsError:
            continue
        folder = RunFolder(out_dir / name)
        (folder.path / "cells").mkdir()
        folder.save(run)
        return folder
    raise AssertionError("unreachable: the candidates do not end")


def _candidates(stem: str) -> Iterator[str]:
    yield stem
    number = 2
    while True:
        yield f"{stem}-{number}"
        number += 1


def open_run(path: str | Path, results_dir: Path = Path("results")) -> RunFolder:
    """Open a run by its path, by its name under `results_dir`, or as `latest`. Raises StoreError if it is none."""
    for candidate in (Path(path), results_dir / path):
        if candidate.is_dir():
            folder = RunFolder(candidate.resolve())
            folder.load()
            return folder
        if candidate.name == LATEST and candidate.is_file():
            return open_run(candidate.parent / candidate.read_text("utf-8").strip())
    raise StoreError(f"no run at {path}, nor in {results_dir}")


def latest(results_dir: Path = Path("results")) -> RunFolder:
    """The newest complete run. Raises StoreError if there is none."""
    return open_run(results_dir / LATEST, results_dir)


def link_latest(folder: RunFolder) -> None:
    """Point `latest` beside `folder` at it: a symbolic link, or a file with its name where links are not possible."""
    link = folder.path.parent / LATEST
    fresh = link.with_name(f".{LATEST}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    try:
        fresh.symlink_to(folder.path.name, target_is_directory=True)
        fresh.replace(link)
    except OSError:
        fresh.unlink(missing_ok=True)
        replace_file(link, f"{folder.path.name}\n".encode())


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves either the old content or the new one."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _concatenate(parts: list[Path], target: Path) -> None:
    """Write `parts`, one row group each, into `target`. Raises StoreError if their columns differ."""
    schema = pq.read_schema(parts[0])
    numbers = [f.name for f in schema if pa.types.is_integer(f.type)]
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with pq.ParquetWriter(
            fresh,
            schema,
            compression="zstd",
            use_dictionary=[f.name for f in schema if f.name not in numbers],
            column_encoding=dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),  # times ascend: a tenth of the bytes
        ) as writer:
            for part in parts:
                table = pq.read_table(part)
                if not table.schema.equals(schema):
                    raise StoreError(f"{part.name}: other columns than in {parts[0].name}")
                writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)

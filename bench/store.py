"""The run folder: what each file holds, written cell by cell, never overwritten.

    results/<UTC time>-<plan>/
        run.json                    a Run: plan, machine, cells and how each went
        cells/<cell id>.*.parquet   what a load process wrote, until the run is complete
        streams.parquet             those files put together: a row per message
        tokens.parquet              the same for tokens; the rows of a message stand together
        painted.parquet             what a browser painted, a row per message that one asked; other runs have none
    results/latest                  points at the newest complete run

What a Run says: bench.run_record.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from bench import tables
from bench.run_record import CellRecord, Run
from bench.tables import PAINTED_TABLE, TABLES
from clients.whole_file import remove_unfinished, replace_file, replacing
from servers.given_file import read_given
from servers.user_errors import reason

if sys.platform != "win32":
    import fcntl

StoreError = tables.StoreError
READABLE_VERSIONS = (1, 2)
LATEST = "latest"
MAX_RUN_BYTES = 256 << 20
MAX_NAME = 255  # characters of a file's name


class _Version(msgspec.Struct):
    schema: int


@dataclass(frozen=True)
class RunFolder:
    """One run on disk. All writes are atomic: a reader sees the old file or the new one, never half of it."""

    path: Path

    @property
    def streams_path(self) -> Path:
        """The table of messages."""
        return self._table("streams")

    @property
    def tokens_path(self) -> Path:
        """The table of received tokens; the rows of a message stand together."""
        return self._table("tokens")

    @property
    def painted_path(self) -> Path:
        """The table of what a browser painted; only runs with one have it."""
        return self._table(PAINTED_TABLE)

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
        path = self.path / "run.json"
        try:
            data = read_given(path, MAX_RUN_BYTES, StoreError)
            version = msgspec.json.decode(data, type=_Version).schema
            if version not in READABLE_VERSIONS:
                known = " and ".join(map(str, READABLE_VERSIONS))
                raise StoreError(f"{self.path}: run.json has schema {version}, this version reads {known}")
            run = msgspec.json.decode(data, type=Run)
        except OSError as error:
            raise StoreError(f"{self.path}: not a run folder ({reason(error)}: run.json)") from error
        except (msgspec.MsgspecError, RecursionError) as error:
            raise StoreError(f"{self.path}: run.json is damaged: {error}") from error
        for what, names in (("id", {cell.id for cell in run.cells}), ("name", {(c.block, c.cell) for c in run.cells})):
            if len(names) < len(run.cells):
                raise StoreError(f"{self.path}: run.json is damaged: two cells of a block have the same {what}")
        return run

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only one who writes here; the system ends it with the process. Raises StoreError if another does."""
        handle = os.open(self.path, os.O_RDONLY)
        try:
            _lock(handle, self.path)
            yield
        finally:
            os.close(handle)

    def check(self) -> None:
        """Raise StoreError if a table is damaged, lacks columns, or is there without the other. None at all is fine."""
        found = [table for table in TABLES if self._table(table).exists()]
        for table in (*found, PAINTED_TABLE) if self.painted_path.exists() else found:
            tables.check_table(self._table(table), table)
        if len(found) == 1:
            raise StoreError(f"{self.path}: {found[0]}.parquet is there, but not the other of {' and '.join(TABLES)}")

    def mend(self) -> bool:
        """Put right what a killed process or a damaged disk has left; whether there was anything.

        Cells whose tables are gone or damaged have failed, so that a resumed run measures them again; the run's status
        is what its cells say. The caller holds the lock. Raises StoreError, OSError.
        """
        run = self.load()
        before = msgspec.json.encode(run)
        self._remove_unfinished_files()
        for cell, why in self._faults(run):
            cell.status, cell.reasons = "failed", [f"its tables cannot be used: {why}"]
        _correct_status(run, self.path / "run.json")
        if msgspec.json.encode(run) == before:
            return False
        self.save(run)
        return True

    def _faults(self, run: Run) -> Iterator[tuple[CellRecord, str]]:
        """The cells that were measured, but whose tables are lost, each with what is wrong; its parts are removed."""
        measured = [cell for cell in run.cells if cell.status in ("ok", "void")]
        held = self._held()
        if measured and not held and not any(self._has_parts(cell.id) for cell in measured):
            self._read_held()  # says what is wrong with them
            text = f"streams.parquet and tokens.parquet do not have its {len(measured)} measured cells, nor has cells/"
            raise StoreError(f"{self.path}: {text}")
        for cell in measured:
            parts = {table: self._part(cell.id, table) for table in TABLES}
            if (painted := self._part(cell.id, PAINTED_TABLE)).exists():
                parts[PAINTED_TABLE] = painted
            faults = (tables.fault(path, table) for table, path in parts.items())
            if why := next(filter(None, faults), ""):
                for part in parts.values():
                    _remove(part)
                if (cell.block, cell.cell) not in held:
                    yield cell, why

    def merge(self) -> None:
        """Put the finished cells' tables together: a row group per cell, one cell in memory at a time.

        A cell whose parts are gone is taken from the tables as they are; cells that are pending, or that wrote no file,
        are left out. The parts of a complete run are removed once both tables are in place; then merging again changes
        nothing. Raises StoreError, OSError.
        """
        run = self.load()
        finished = [cell for cell in run.cells if cell.status != "pending"]
        if not any(self._has_parts(cell.id) for cell in finished):
            return
        held = self._held()
        kept = [cell for cell in finished if self._has_parts(cell.id) or (cell.block, cell.cell) in held]
        for table in TABLES:
            tables.concatenate({cell.id: partial(self._rows_of, cell, table) for cell in kept}, self._table(table))
        self._merge_painted(kept)
        if run.status == "complete":
            self._remove_parts()

    def _merge_painted(self, kept: Sequence[CellRecord]) -> None:
        """The same for what a browser painted, of the cells that one asked."""
        held = tables.cells_in(self.painted_path) if self.painted_path.exists() else set()
        rows: dict[str, Callable[[], Any]] = {}
        for cell in kept:
            part = self._part(cell.id, PAINTED_TABLE)
            if part.exists():
                rows[cell.id] = partial(tables.read_rows, part)
            elif (cell.block, cell.cell) in held:
                rows[cell.id] = partial(tables.read_rows, self.painted_path, _rows_in(cell))
        if rows:
            tables.concatenate(rows, self.painted_path)

    def _rows_of(self, cell: CellRecord, table: str) -> Any:
        if self._has_parts(cell.id):
            return tables.read_rows(self._part(cell.id, table))
        messages = tables.read_rows(self.streams_path, _rows_in(cell))
        if table == "streams":
            return messages
        return tables.read_rows(self.tokens_path, [("stream_id", "in", messages["stream_id"].to_pylist())])

    def _held(self) -> set[tuple[int, str]]:
        """Block and name of the cells that the whole tables have, if these are good."""
        try:
            return self._read_held()
        except tables.TableClosed:
            raise
        except StoreError:
            return set()

    def _read_held(self) -> set[tuple[int, str]]:
        self.check()
        return tables.cells_in(self.streams_path) if self.streams_path.exists() else set()

    def _table(self, table: str) -> Path:
        return self.path / f"{table}.parquet"

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

    def _remove_unfinished_files(self) -> None:
        remove_unfinished(self.path, r"run\.json|summary\.csv|report\.html|(streams|tokens|painted)\.parquet")
        remove_unfinished(self.path / "cells", r".*\.parquet")


def _rows_in(cell: CellRecord) -> list[tuple[str, str, object]]:
    """Which rows of a table of messages are the cell's."""
    return [("block", "==", cell.block), ("cell", "==", cell.cell)]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _lock(handle: int, path: Path) -> None:
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreError(f"{path}: another process is writing into this run; wait for its end, or stop it") from None
    except OSError:  # a file system without locks
        return


def _correct_status(run: Run, file: Path) -> None:
    """After a kill behind the last cell, or damage, say how the run ended; nobody is writing into it now."""
    unmeasured = [cell for cell in run.cells if cell.status in ("pending", "failed")]
    if run.status == "running" and run.cells:
        pending = any(cell.status == "pending" for cell in unmeasured)
        run.status = "interrupted" if pending else "failed" if unmeasured else "complete"
        run.ended = utc_text(file.stat().st_mtime)
    elif run.status == "complete" and unmeasured:
        run.status = "failed"


def utc_text(since_epoch_s: float | None = None) -> str:
    """A moment (None: now) as `run.json` writes it: 2026-11-25T12:00:00Z."""
    moment = datetime.now(UTC) if since_epoch_s is None else datetime.fromtimestamp(since_epoch_s, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


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
        with suppress(OSError):  # a name that is too long, or a folder that is closed to us
            if (found := _behind_latest(candidate)).is_dir():
                folder = RunFolder(found.resolve())
                folder.load()
                return folder
    with suppress(OSError):
        if Path(path).is_file():
            raise StoreError(f"{str(path)[:200]}: a file; takes the folder of a run")
    raise StoreError(f"no run at {str(path)[:200]}, nor in {results_dir}; `tokenderby run` makes one")


def open_unfinished(path: str, results_dir: Path = Path("results")) -> RunFolder:
    """Open a run to go on with: as `open_run`, but `latest` is the newest one that did not finish, if there is one.

    Raises StoreError.
    """
    if Path(path).name != LATEST:
        return _of_a_plan(open_run(path, results_dir))
    parent = Path(path).parent if len(Path(path).parts) > 1 else results_dir
    with suppress(OSError):
        for name in sorted((entry.name for entry in parent.iterdir() if entry.name[:1].isdigit()), reverse=True):
            with suppress(StoreError):
                folder = RunFolder((parent / name).resolve())
                if folder.load().status != "complete":
                    return _of_a_plan(folder)
    return _of_a_plan(open_run(path, results_dir))


def _of_a_plan(folder: RunFolder) -> RunFolder:
    if "cells" not in folder.load().plan:
        raise StoreError("a test of Locust's cannot go on; takes a run of a plan")
    return folder


def _behind_latest(path: Path) -> Path:
    """The folder that `latest` names where it is a file (see `link_latest`)."""
    if path.name != LATEST or not path.is_file():
        return path
    return path.parent / Path(path.read_text("utf-8", errors="replace")[:MAX_NAME].strip()).name


def link_latest(folder: RunFolder) -> None:
    """Point `latest` beside `folder` at it: a symbolic link, or a file with its name where links are not possible."""
    link = folder.path.parent / LATEST
    try:
        with replacing(link) as fresh:
            fresh.symlink_to(folder.path.name, target_is_directory=True)
    except OSError:
        replace_file(link, f"{folder.path.name}\n".encode())

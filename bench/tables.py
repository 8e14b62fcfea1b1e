"""A run's two tables as files: what they must hold, whether they can be read, and how parts become one.

`streams` has a row per message, `tokens` a row per received token. Whatever is wrong with a file is a StoreError that
names it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clients import columns
from clients.columns import Column
from clients.whole_file import replacing
from servers.user_errors import InputError, reason

TABLES = ("streams", "tokens")
PAINTED_TABLE = "painted"
"""A third one, which only cells that a browser asked have: a row per message (clients.chromium.answers.Painted)."""
ROW_GROUP_ROWS = 1 << 20  # a cell is one row group, unless it has more rows than this


class StoreError(InputError):
    """A run folder that is not there, not readable or of another version. The text is for the user, one line."""


class TableClosed(StoreError):
    """A table that cannot be read as things are: no memory, no descriptors, no permission. It may be whole."""


def _is_text(kind: pa.DataType) -> bool:
    """Whether it is text, be it in a dictionary, or as pandas and Polars write it (large_string)."""
    held = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(held) or pa.types.is_large_string(held))


_COLUMNS: dict[str, Sequence[Column]] = {
    "streams": (*columns.CELL, *columns.MESSAGE),
    "tokens": columns.TOKEN,
    PAINTED_TABLE: columns.PAINTED,
}
_IS: dict[columns.Type, Callable[[pa.DataType], bool]] = {
    "int64": pa.types.is_integer,
    "string": _is_text,
    "double": pa.types.is_floating,
    "bool": pa.types.is_boolean,
}
_MAY_BE_UNKNOWN = (
    "usage_tokens",
    "bytes_in",
    "bytes_out",
    "packets_in",
    "packets_out",
    "wire_bytes",
)  # where the system does not count them


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What goes wrong inside, while `path` is read, is a StoreError."""
    if path.exists() and not path.is_file():  # a pipe would never end
        raise StoreError(f"{path}: takes a file")
    try:
        yield
    except (pa.ArrowException, OSError, MemoryError) as error:
        why = reason(error).strip().partition("\n")[0]
        if _is_the_machines(error):
            raise TableClosed(f"{path}: cannot be read now ({why})") from error
        raise StoreError(f"{path}: damaged or not Parquet ({why})") from error


def _is_the_machines(error: Exception) -> bool:
    """Whether it says nothing about the file: it is not there to be opened, or there is no memory for it."""
    if isinstance(error, MemoryError) or "bad_alloc" in str(error):  # Arrow's parser of headers has no kind of its own
        return True
    return getattr(error, "errno", None) not in (None, errno.ENOENT, errno.EISDIR, errno.EINVAL)


def check_table(path: Path, table: str) -> None:
    """Raise StoreError if `path` cannot be opened, or lacks columns of `table` or values in them."""
    with readable(path), pq.ParquetFile(path) as file:
        metadata, schema = file.metadata, file.schema_arrow
    try:
        absent = columns.missing_columns(_COLUMNS[table], schema.names, schema.metadata)
    except columns.ColumnsError as error:
        raise StoreError(f"{path}: {error}") from error
    for column in (each for each in _COLUMNS[table] if each not in absent):
        found = schema.field(column.name).type
        if not _IS[column.type](found):
            raise StoreError(f"{path}: column {column.name} takes {column.type}, not {found}")
        if column.type == "int64" and column.name not in _MAY_BE_UNKNOWN and _has_gaps(metadata, column.name):
            raise StoreError(f"{path}: column {column.name} has rows without a value")


def _has_gaps(metadata: pq.FileMetaData, name: str) -> bool:
    column = metadata.schema.names.index(name)
    statistics = (metadata.row_group(group).column(column).statistics for group in range(metadata.num_row_groups))
    return any(each is not None and each.has_null_count and each.null_count for each in statistics)


def fault(path: Path, table: str) -> str:
    """Why the part `path` cannot be used, having read all of it; empty if it can."""
    try:
        check_table(path, table)
        read_rows(path)
    except TableClosed:
        raise
    except StoreError as error:
        return str(error).removeprefix(f"{path.parent}/")
    return ""


def cells_in(path: Path) -> set[tuple[int, str]]:
    """Block and name of every cell that the table of messages at `path` has rows of. Raises StoreError."""
    with readable(path):
        found = pq.read_table(path, columns=["block", "cell"]).to_pydict()
    return set(zip(found["block"], found["cell"], strict=True))


def read_rows(path: Path, only: list[tuple[str, str, object]] | None = None) -> pa.Table:
    """The rows of `path`, all or those for which `only` holds (column, operator, value). Raises StoreError."""
    with readable(path):
        return pq.read_table(path, filters=only)


def concatenate(pieces: Mapping[str, Callable[[], pa.Table]], target: Path) -> None:
    """Write `pieces`, by the names of their cells, one row group each, into `target`, one in memory at a time.

    Raises StoreError if one has other columns than the first; OSError.
    """
    (first_name, read_first), *others = pieces.items()
    first = read_first()
    numbers = [f.name for f in first.schema if pa.types.is_integer(f.type)]
    with (
        replacing(target) as fresh,
        pq.ParquetWriter(
            fresh,
            first.schema,
            compression="zstd",
            use_dictionary=[f.name for f in first.schema if f.name not in numbers],
            column_encoding=dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),  # times ascend: a tenth of the bytes
        ) as writer,
    ):
        writer.write_table(first, row_group_size=ROW_GROUP_ROWS)
        for name, read_piece in others:
            rows = read_piece()
            if not rows.schema.equals(first.schema):
                raise StoreError(f"{target}: {name} has other columns than {first_name}")
            writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)

"""The files that a load process leaves: a row per message, a row per received token, and what a browser painted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clients import columns
from clients.core.record import StreamRecord
from clients.whole_file import replacing


@dataclass(frozen=True)
class CellColumns:
    """What a cell's rows begin with; `variant` as `variant_words` writes it."""

    block: int
    cell: str
    transport: str
    variant: str
    profile: str
    recovery: str


def variant_words(variant: dict[str, object]) -> str:
    """A cell's settings as the column `variant` has them: `key=value` words, keys sorted."""
    return " ".join(f"{key}={variant[key]}" for key in sorted(variant))


def write(out: str | Path, cell: CellColumns, records: Sequence[StreamRecord]) -> None:
    """Write `<out>.streams.parquet` and `<out>.tokens.parquet`, each whole or not at all. Raises OSError."""
    _write(_streams(cell, records), Path(f"{out}.streams.parquet"))
    _write(_tokens(records), Path(f"{out}.tokens.parquet"))


def write_painted(out: str | Path, cell: CellColumns, painted: Sequence[Any]) -> None:
    """Write `<out>.painted.parquet`: a row per message that a browser showed. Raises OSError."""
    rows = [vars(cell) | vars(each) for each in painted]
    _write(_table(rows, columns.PAINTED), Path(f"{out}.painted.parquet"))


def _streams(cell: CellColumns, records: Sequence[StreamRecord]) -> Any:
    rows = [vars(cell) | {c.name: _written(getattr(record, c.name)) for c in columns.MESSAGE} for record in records]
    return _table(rows, (*columns.CELL, *columns.MESSAGE))


def _table(rows: Sequence[Mapping[str, Any]], made_of: Sequence[columns.Column]) -> Any:
    import pyarrow as pa  # late: it takes 0.2 s that the load process has before the first message only

    fields = [(column.name, pa.type_for_alias(column.type)) for column in made_of]
    return pa.Table.from_pylist(rows, pa.schema(fields, columns.metadata()))


def _written(value: Any) -> Any:
    return "; ".join(value) if isinstance(value, list) else value


def _tokens(records: Sequence[StreamRecord]) -> Any:
    import pyarrow as pa

    lengths = [len(r.i) for r in records]
    of_token = np.repeat(np.arange(len(records), dtype=np.int32), lengths)
    stream_ids = pa.array([r.stream_id for r in records], pa.string())
    found: dict[str, Any] = {"stream_id": pa.DictionaryArray.from_arrays(pa.array(of_token), stream_ids)}
    for name in (column.name for column in columns.TOKEN[1:]):
        parts = [np.frombuffer(getattr(r, name), dtype=np.int64) for r in records if len(r.i)]
        found[name] = pa.array(np.concatenate(parts) if parts else np.empty(0, np.int64))
    return pa.table(found, metadata=columns.metadata())


def _write(table: Any, path: Path) -> None:
    import pyarrow.parquet as pq

    with replacing(path) as fresh:
        pq.write_table(table, fresh, compression="zstd")

"""The two files that a load process leaves: a row per message, and a row per received token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clients.record import StreamRecord

# Columns of streams.parquet after those that name the cell: the contract's in its order, then ours.
_MESSAGE_COLUMNS = (
    *("stream_id", "intended_start_ns", "start_ns", "first_token_ns", "end_ns", "outcome"),
    *("tokens_expected", "tokens_received", "tokens_lost", "tokens_duplicated", "tokens_reordered", "text_ok"),
    *("requests", "connections", "drops", "bytes_in", "bytes_out", "recovery_ms"),
    *("detail", "ttft_scheduled_ns", "conversation", "turn", "dns_ms", "tcp_ms", "tls_ms"),
    *("noticed_by", "detection_ms", "catch_up_ms", "tokens_discarded", "tokens_wasted"),
)
_TYPES = {
    **dict.fromkeys(("stream_id", "outcome", "detail", "noticed_by"), "string"),
    **dict.fromkeys(("recovery_ms", "detection_ms", "catch_up_ms", "dns_ms", "tcp_ms", "tls_ms"), "double"),
    "text_ok": "bool",
}
_TOKEN_COLUMNS = ("i", "due_ns", "sent_ns", "received_ns", "read")


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
    """A cell's settings as the contract writes them: `key=value` words, keys sorted."""
    return " ".join(f"{key}={variant[key]}" for key in sorted(variant))


def write(out: str | Path, cell: CellColumns, records: Sequence[StreamRecord]) -> None:
    """Write `<out>.streams.parquet` and `<out>.tokens.parquet`, each whole or not at all. Raises OSError."""
    _write(_streams(cell, records), Path(f"{out}.streams.parquet"))
    _write(_tokens(records), Path(f"{out}.tokens.parquet"))


def _streams(cell: CellColumns, records: Sequence[StreamRecord]) -> Any:
    import pyarrow as pa  # late: it takes 0.2 s that the load process has before the first message only

    columns = {
        name: pa.array([value] * len(records), pa.int64() if name == "block" else pa.string())
        for name, value in vars(cell).items()
    }
    for name in _MESSAGE_COLUMNS:
        kind = pa.type_for_alias(_TYPES.get(name, "int64"))
        columns[name] = pa.array([_written(getattr(record, name)) for record in records], kind)
    return pa.table(columns)


def _written(value: Any) -> Any:
    return "; ".join(value) if isinstance(value, list) else value


def _tokens(records: Sequence[StreamRecord]) -> Any:
    import pyarrow as pa

    lengths = [len(r.i) for r in records]
    of_token = np.repeat(np.arange(len(records), dtype=np.int32), lengths)
    stream_ids = pa.array([r.stream_id for r in records], pa.string())
    columns: dict[str, Any] = {"stream_id": pa.DictionaryArray.from_arrays(pa.array(of_token), stream_ids)}
    for name in _TOKEN_COLUMNS:
        parts = [np.frombuffer(getattr(r, name), dtype=np.int64) for r in records if len(r.i)]
        columns[name] = pa.array(np.concatenate(parts) if parts else np.empty(0, np.int64))
    return pa.table(columns)


def _write(table: Any, path: Path) -> None:
    import pyarrow.parquet as pq

    unfinished = path.with_name(path.name + ".part")
    try:
        pq.write_table(table, unfinished, compression="zstd")
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise

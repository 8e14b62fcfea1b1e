"""The columns of a run's tables: one schema for those who write them and those who read them (pure).

VERSION is raised whenever a column comes, goes or changes; the files carry it, so that a reader knows what to expect.

History:
1   first version
2   drops: noticed_by, detection_ms, catch_up_ms, tokens_discarded, tokens_wasted
3   connections: dns_ms, tcp_ms, tls_ms
4   packets_in, packets_out, wire_bytes, head_ms; in summary.csv those from itl_ms_p50 on
5   attempts, causes, finished_by, stop_s, usage_tokens; due_ns and sent_ns may be -1: nobody tells; in summary.csv
    requests_worst_second
6   in summary.csv server_memory_kb_per_open_stream
7   in summary.csv server_cpu_us_per_token_at_equal_pace
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from servers.user_errors import InputError

VERSION = 7
METADATA_KEY = b"tokenderby_columns"
"""Where a Parquet file's metadata has the version; files without it are of version 1 or 2."""

Type = Literal["int64", "string", "double", "bool"]


class Column(NamedTuple):
    """A column, its Arrow type, the version it came with, and what stands for it in tables that were before."""

    name: str
    type: Type = "int64"
    since: int = 1
    before: object = None


class ColumnsError(InputError):
    """A table that this version cannot read; the text says why, one line."""


CELL = (
    Column("block"),
    *(Column(name, "string") for name in ("cell", "transport", "variant", "profile", "recovery")),
)
"""Of streams.parquet, those that say which cell a message belongs to."""

MESSAGE = (
    Column("stream_id", "string"),
    *(Column(name) for name in ("intended_start_ns", "start_ns", "first_token_ns", "end_ns")),
    Column("outcome", "string"),
    *(Column(f"tokens_{name}") for name in ("expected", "received", "lost", "duplicated", "reordered")),
    Column("text_ok", "bool"),
    *(Column(name) for name in ("requests", "connections", "drops", "bytes_in", "bytes_out")),
    Column("recovery_ms", "double"),
    Column("detail", "string", 1, ""),
    Column("ttft_scheduled_ns"),
    *(Column(name, "int64", 1, 0) for name in ("conversation", "turn")),
    Column("noticed_by", "string", 2, ""),
    Column("detection_ms", "double", 2, math.nan),
    Column("catch_up_ms", "double", 2, math.nan),
    Column("tokens_discarded", "int64", 2, 0),
    Column("tokens_wasted", "int64", 2, 0),
    *(Column(name, "double", 3, math.nan) for name in ("dns_ms", "tcp_ms", "tls_ms")),
    *(Column(name, "int64", 4, math.nan) for name in ("packets_in", "packets_out", "wire_bytes")),
    Column("head_ms", "double", 4, math.nan),
    Column("attempts", "int64", 5, math.nan),
    Column("causes", "string", 5, ""),
    Column("finished_by", "string", 5, ""),
    Column("stop_s", "double", 5, math.nan),
    Column("usage_tokens", "int64", 5, math.nan),
)
"""The others, each a field of clients.core.record.StreamRecord (results/README.md)."""

TOKEN = (Column("stream_id", "string"), *(Column(name) for name in ("i", "due_ns", "sent_ns", "received_ns", "read")))
"""Of tokens.parquet."""

PAINTED = (
    *CELL,
    Column("stream_id", "string"),
    *(Column(name) for name in ("first_painted_ns", "last_painted_ns", "first_shown_ns", "frames", "tokens_painted")),
    Column("painted_gap_ms_max", "double"),
    *(Column(name) for name in ("frames_dropped", "long_tasks")),
    *(Column(name, "double") for name in ("long_tasks_ms", "waited_ms")),
    Column("protocol", "string"),
    Column("clock_error_ns"),
)
"""Of painted.parquet, which only runs with a browser have: clients.chromium.answers.Painted."""

SUMMARY = (
    *("transport", "variant", "profile", "recovery", "streams", "completed_ratio"),
    *("ttft_ms_p50", "ttft_ms_p95", "ttft_ms_p99", "ttft_overhead_ms_p50", "ttft_overhead_ms_p99"),
    *("delay_ms_p50", "delay_ms_p95", "delay_ms_p99", "burst_tokens_mean", "stalls_per_1k_tokens"),
    *("requests_per_message", "connections_per_message", "bytes_per_token"),
    *("tokens_lost", "tokens_duplicated", "drops", "recovery_ms_p50"),
    *("client_cpu_us_per_token", "server_cpu_us_per_token"),
    *("itl_ms_p50", "itl_ms_p95", "itl_ms_p99", "e2e_ms_p50", "e2e_ms_p95", "wait_s_per_answer"),
    *("wire_bytes_per_token", "packets_per_token", "cpu_us_per_token_over_baseline"),
    *("goodput_ratio", "head_ms_p50", "stop_s_p50", "requests_worst_second"),
    *("server_memory_kb_per_open_stream", "server_cpu_us_per_token_at_equal_pace", "valid"),
)
"""Of summary.csv, without the `_lo` and `_hi` that follow each estimate."""


def metadata() -> dict[bytes, bytes]:
    """What a table's file carries."""
    return {METADATA_KEY: str(VERSION).encode()}


def missing_columns(
    columns: Sequence[Column], present: Sequence[str], told: Mapping[bytes, bytes] | None
) -> list[Column]:
    """The columns that a file of before has not, to be filled with `before`. Raises ColumnsError.

    `present` are the file's columns, `told` is its metadata.
    """
    given = (told or {}).get(METADATA_KEY, b"1").decode("ascii", "replace")
    version = int(given) if given.isdecimal() and len(given) < 6 else VERSION + 1
    if version > VERSION:
        raise ColumnsError(
            f"its columns are of version {given[:20]!r}, this version of Tokenderby reads up to {VERSION}"
        )
    absent = [column for column in columns if column.name not in present]
    needed = [column.name for column in absent if column.before is None or column.since <= version > 1]
    if needed:
        raise ColumnsError(f"it lacks the columns {', '.join(needed)}")
    return absent

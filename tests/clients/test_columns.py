"""The one schema of a run's tables, its version, and what readers make of another one."""

from __future__ import annotations

import csv
import hashlib
import math
from dataclasses import fields
from pathlib import Path

import pytest

from clients import columns
from clients.chromium.answers import Painted
from clients.columns import ColumnsError, missing_columns
from clients.core.record import StreamRecord

DIGESTS = {
    3: "1cae7d3389dbc8ff",
    4: "f2a2eacc4c4b81bb",
    5: "410160a80bc59662",
    6: "212b80330b19f562",
    7: "8a96f90ddb995e37",
}  # of a version's columns


def test_whoever_changes_a_column_raises_the_version() -> None:
    """And adds a line to the module's history, and the new digest here."""
    schema = repr((columns.CELL, columns.MESSAGE, columns.TOKEN, columns.SUMMARY))
    assert hashlib.sha256(schema.encode()).hexdigest()[:16] == DIGESTS[columns.VERSION]
    assert f"\n{columns.VERSION} " in (columns.__doc__ or "")
    assert max(column.since for column in columns.MESSAGE) <= columns.VERSION


def test_every_column_of_a_message_is_in_its_record() -> None:
    names = {field.name for field in fields(StreamRecord)}
    assert {column.name for column in columns.MESSAGE} <= names


def test_every_column_of_what_was_painted_is_in_its_row() -> None:
    assert [column.name for column in columns.PAINTED[len(columns.CELL) :]] == [each.name for each in fields(Painted)]


STREAMS = (*columns.CELL, *columns.MESSAGE)
NAMES = [column.name for column in STREAMS]
FIRST = [column.name for column in STREAMS if column.since == 1]


def test_a_table_of_before_has_its_new_columns_filled() -> None:
    absent = {column.name: column.before for column in missing_columns(STREAMS, FIRST, None)}
    of_drops = {"noticed_by", "detection_ms", "catch_up_ms", "tokens_discarded", "tokens_wasted"}
    of_traffic = {"packets_in", "packets_out", "wire_bytes"}
    of_attempts = {"attempts", "causes", "finished_by", "stop_s", "usage_tokens"}
    assert set(absent) == of_drops | {"dns_ms", "tcp_ms", "tls_ms"} | of_traffic | {"head_ms"} | of_attempts
    assert absent["tokens_wasted"] == 0
    assert math.isnan(float(str(absent["detection_ms"])))
    assert missing_columns(STREAMS, NAMES, columns.metadata()) == []


@pytest.mark.parametrize(
    ("present", "told", "error"),
    [
        (NAMES, b"8", "its columns are of version '8'"),
        (NAMES, b"\xff", "its columns are of version"),
        (NAMES, b"9" * 5000, "its columns are of version '99999999999999999999'"),
        (FIRST, b"3", "it lacks the columns noticed_by, detection_ms"),
        ([name for name in NAMES if name != "outcome"], b"1", "it lacks the columns outcome"),
    ],
)
def test_what_cannot_be_read_is_said(present: list[str], told: bytes, error: str) -> None:
    with pytest.raises(ColumnsError, match=error):
        missing_columns(STREAMS, present, {columns.METADATA_KEY: told})


def test_the_reference_run_has_them_all() -> None:
    """What README.md points at is what a run of today writes; `tokenderby report results/reference` renews it."""
    with (Path(__file__).parents[2] / "results" / "reference" / "summary.csv").open() as file:
        header = next(csv.reader(file))
    assert [column for column in header if not column.endswith(("_lo", "_hi"))] == list(columns.SUMMARY)

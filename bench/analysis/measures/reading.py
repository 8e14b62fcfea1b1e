"""A run's tables, read once: messages as a data frame, tokens counted while they stream by.

Ten million token rows do not fit the memory that a notebook may have, and need not: a batch of rows at a time is turned
into counts per cell (a histogram of delays, reads, stalls), and forgotten.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bench import tables
from bench.analysis.statistics import histogram
from bench.analysis.statistics.estimators import Floats, Ints
from bench.run_record import Run
from bench.store import RunFolder, StoreError
from clients import columns
from clients.columns import Column
from clients.core.ledger import STALL_NS
from servers.transport import ENDPOINTS

BATCH_ROWS = 1 << 19
_STREAMS = (*columns.CELL, *columns.MESSAGE)
# What reading adds to a message's columns.
_ADDED = ("cell_index", "completed", "ttft_ms", "ttft_overhead_ms", "delivered", "has_due")


@dataclass(frozen=True)
class MessageTokens:
    """The tokens of one message in the order they came, times in ms after its intended start; `due_ms` may be NaN."""

    due_ms: Floats
    received_ms: Floats
    read: Ints


@dataclass
class TokenCounts:
    """What was counted of the tokens; every array has a row per cell of `run.cells`.

    `delays` (due to received), `lags` (due to sent), `transits` (sent to received) and `gaps` (from one received to the
    next) are histograms (statistics.histogram) over the first receipt of each token. `rows` counts receipts,
    repeated ones included, `reads` the client reads that completed at least one token, `emissions` the moments at
    which the model produced the received tokens, `early` tokens that came before they were due (wrong clocks).

    The rest has a row per message: `received` different tokens in `message_reads` reads, made by the model at
    `message_emissions` moments; when the first and the last of its tokens were due, and received; and of all their
    delays the longest, `worst_delay_ns`.
    """

    delays: NDArray[np.int32]
    lags: NDArray[np.int32]
    transits: NDArray[np.int32]
    gaps: NDArray[np.int32]
    rows: Ints
    reads: Ints
    tokens: Ints
    emissions: Ints
    stalls: Ints
    early: Ints
    received: Ints
    first_due_ns: Ints
    last_due_ns: Ints
    first_received_ns: Ints
    last_received_ns: Ints
    worst_delay_ns: Ints
    message_reads: Ints
    message_emissions: Ints
    samples: dict[int, MessageTokens] = field(default_factory=dict)

    @classmethod
    def zeros(cls, cells: int, messages: int) -> TokenCounts:
        """Nothing counted yet. Pages of the big tables that stay untouched take no memory."""
        delays, lags, transits, gaps = (np.zeros((cells, histogram.BINS), np.int32) for _ in range(4))
        rows, reads, tokens, emissions, stalls, early = np.zeros((6, cells), np.int64)
        of_message = np.zeros((8, messages), np.int64)
        return cls(delays, lags, transits, gaps, rows, reads, tokens, emissions, stalls, early, *of_message)


@dataclass
class _TokenRows:
    """Rows of whole messages: parallel arrays, `message` being the row in the data frame of messages."""

    message: Ints
    i: Ints
    due_ns: Ints
    sent_ns: Ints
    received_ns: Ints
    read: Ints

    def take(self, index: slice | Ints | NDArray[np.bool_]) -> _TokenRows:
        return _TokenRows(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def joined(self, other: _TokenRows) -> _TokenRows:
        names = self.__dataclass_fields__
        return _TokenRows(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))

    def starts(self) -> NDArray[np.bool_]:
        """Where another message begins."""
        return _changes(self.message)


def has_due(transport: str) -> bool:
    """Whether a contestant tells when its model made a token, and so how late one came."""
    return transport not in ENDPOINTS


def read_messages(folder: RunFolder, run: Run) -> pd.DataFrame:
    """The rows of `streams.parquet`, with `cell_index` (into `run.cells`), `completed` and times in ms.

    `ttft_ms` and `ttft_overhead_ms` are infinite for messages that failed. Without the table (no cell has finished)
    there are no messages. Raises StoreError if a table is damaged, or has messages of cells that the run does not know.
    """
    folder.check()
    if not folder.streams_path.exists():
        names = (*(column.name for column in _STREAMS), *_ADDED)
        return pd.DataFrame({name: np.empty(0) for name in names}).astype(
            {"cell_index": int, "completed": bool, "has_due": bool}
        )
    table = tables.read_rows(folder.streams_path)
    absent = _absent(folder.streams_path, _STREAMS, table.schema)
    messages: pd.DataFrame = table.to_pandas().assign(**{column.name: column.before for column in absent})
    index = {(cell.block, cell.cell): position for position, cell in enumerate(run.cells)}
    try:
        pairs = zip(messages["block"], messages["cell"], strict=True)
        messages["cell_index"] = np.fromiter((index[pair] for pair in pairs), np.int64, len(messages))
    except KeyError as error:
        raise StoreError(f"{folder.path}: streams.parquet does not know {error}") from error
    messages["has_due"] = [has_due(transport) for transport in messages["transport"]]
    messages["noticed_by"] = messages["noticed_by"].fillna("")
    messages["completed"] = (messages["outcome"] == "ok") & (messages["first_token_ns"] > 0)
    ttft_ms = (messages["first_token_ns"] - messages["intended_start_ns"]) / 1e6
    messages["ttft_ms"] = ttft_ms.where(messages["completed"], np.inf)
    scheduled_ns = messages["ttft_scheduled_ns"]
    known_ns = scheduled_ns.where(scheduled_ns >= 0)  # nobody knows when a source meant to begin (clients.core.record)
    messages["ttft_overhead_ms"] = messages["ttft_ms"] - known_ns / 1e6
    messages["delivered"] = messages["tokens_expected"] - messages["tokens_lost"]
    return messages


def read_painted(folder: RunFolder) -> pd.DataFrame | None:
    """What a browser painted, by `stream_id`; None where none asked. Raises StoreError."""
    if not folder.painted_path.exists():
        return None
    rows: pd.DataFrame = tables.read_rows(folder.painted_path).to_pandas()
    return rows.drop(columns=[column.name for column in columns.CELL]).set_index("stream_id")


def _absent(path: Path, expected: Sequence[Column], schema: pa.Schema) -> list[Column]:
    """The columns that a table of an earlier version has not. Raises StoreError if it can have no meaning here."""
    try:
        return columns.missing_columns(expected, schema.names, schema.metadata)
    except columns.ColumnsError as error:
        raise StoreError(f"{path}: {error}") from error


def count_tokens(folder: RunFolder, run: Run, messages: pd.DataFrame, samples: Collection[int] = ()) -> TokenCounts:
    """Count the tokens of all valid cells; `samples` are messages (rows of `messages`) whose tokens are kept.

    Raises StoreError if a token belongs to no message, or a message's rows do not stand together.
    """
    counter = _Counter(run, messages, samples)
    rest: _TokenRows | None = None
    for fresh in _batches(folder.tokens_path, messages["stream_id"]):
        batch = fresh if rest is None else rest.joined(fresh)
        last = int(np.flatnonzero(batch.starts())[-1])
        counter.add(batch.take(slice(0, last)))
        rest = batch.take(slice(last, None))
    if rest is not None:
        counter.add(rest)
    return counter.finish()


def _batches(path: Path, stream_ids: pd.Series[str]) -> Iterator[_TokenRows]:
    """The token rows as arrays, a batch at a time; names become row numbers through each batch's dictionary."""
    rows = {name: row for row, name in enumerate(stream_ids)}
    if not path.exists():
        return
    _absent(path, columns.TOKEN, pq.read_schema(path))
    with tables.readable(path), pq.ParquetFile(path, read_dictionary=["stream_id"]) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[column.name for column in columns.TOKEN]):
            if not len(batch):
                continue
            names = batch["stream_id"]
            try:
                known = np.array([rows[name] for name in names.dictionary.to_pylist()], np.int64)
            except KeyError as error:
                raise StoreError(f"{path}: tokens of a message that streams.parquet does not have: {error}") from error
            numbers = (batch[column.name].to_numpy() for column in columns.TOKEN[1:])
            yield _TokenRows(known[names.indices.to_numpy()], *numbers)


class _Counter:
    """Adds batches of whole messages to the counts."""

    def __init__(self, run: Run, messages: pd.DataFrame, samples: Collection[int]) -> None:
        self._cell_of = messages["cell_index"].to_numpy()
        self._valid = np.array([cell.status == "ok" for cell in run.cells])
        self._start_ns = messages["intended_start_ns"].to_numpy()
        self._expected = messages["tokens_expected"].to_numpy()
        self._has_due = messages["has_due"].to_numpy(bool)
        self._seen = np.zeros(len(messages), bool)
        self._samples = set(samples)
        self._counts = TokenCounts.zeros(len(run.cells), len(messages))

    def add(self, batch: _TokenRows) -> None:
        """Count rows of whole messages; those of void and failed cells are only checked."""
        begun = batch.message[batch.starts()]
        if self._seen[begun].any() or len(np.unique(begun)) < len(begun):
            raise StoreError("tokens.parquet: the rows of a message do not stand together")
        self._seen[begun] = True
        for message in self._samples.intersection(begun.tolist()):
            self._keep(message, batch.take(batch.message == message))
        batch = batch.take(self._valid[self._cell_of[batch.message]])
        if not len(batch.message):
            return
        self._add_reads(batch)
        receipts = _first_receipts(batch)
        self._add_receipts(receipts)
        known = self._has_due[receipts.message]
        for part, add in ((known, self._add_delays), (~known, self._add_stalls_alone)):
            if part.any():
                add(receipts if part.all() else receipts.take(part))

    def _keep(self, message: int, tokens: _TokenRows) -> None:
        start_ns = self._start_ns[message]
        due_ms = (tokens.due_ns - start_ns) / 1e6 if self._has_due[message] else np.full(len(tokens.i), np.nan)
        received_ms = (tokens.received_ns - start_ns) / 1e6
        self._counts.samples[message] = MessageTokens(due_ms, received_ms, tokens.read)

    def _add_reads(self, batch: _TokenRows) -> None:
        """A read may have the number of another connection's read; then the time of the read tells them apart."""
        cell = self._cell_of[batch.message]
        read = batch.starts() | _changes(batch.read) | _changes(batch.received_ns)
        self._tally(self._counts.rows, cell)
        self._tally(self._counts.reads, cell[read])
        self._tally(self._counts.message_reads, batch.message[read])

    def _add_receipts(self, batch: _TokenRows) -> None:
        """What came, and when."""
        cell = self._cell_of[batch.message]
        starts = batch.starts()
        self._tally(self._counts.tokens, cell)
        self._tally(self._counts.received, batch.message)
        _note_ends(batch, batch.received_ns, self._counts.first_received_ns, self._counts.last_received_ns)
        _add_to_histograms(self._counts.gaps, cell[~starts], np.diff(batch.received_ns)[~starts[1:]])

    def _add_delays(self, batch: _TokenRows) -> None:
        """How late it was, by when it was due."""
        cell = self._cell_of[batch.message]
        starts = batch.starts()
        delay_ns = batch.received_ns - batch.due_ns  # the load process has put both on its own clock
        gap_excess_ns = np.diff(delay_ns, prepend=delay_ns[:1])  # of a gap: what the transport added to the model's
        emission = starts | _changes(batch.due_ns)
        self._tally(self._counts.emissions, cell[emission])
        self._tally(self._counts.message_emissions, batch.message[emission])
        self._tally(self._counts.stalls, cell[(gap_excess_ns > STALL_NS) & ~starts])
        self._tally(self._counts.early, cell[delay_ns < 0])
        _note_ends(batch, batch.due_ns, self._counts.first_due_ns, self._counts.last_due_ns)
        self._counts.worst_delay_ns[batch.message[starts]] = np.maximum.reduceat(delay_ns, np.flatnonzero(starts))
        _add_to_histograms(self._counts.delays, cell, delay_ns)
        _add_to_histograms(self._counts.lags, cell, batch.sent_ns - batch.due_ns)
        _add_to_histograms(self._counts.transits, cell, batch.received_ns - batch.sent_ns)

    def _add_stalls_alone(self, batch: _TokenRows) -> None:
        """Where nobody knows when a token was due, an answer's own median gap stands for its model's pace."""
        within = ~batch.starts()
        gaps = pd.Series(np.diff(batch.received_ns, prepend=batch.received_ns[:1])[within])
        pace = gaps.groupby(batch.message[within]).transform("median")
        self._tally(self._counts.stalls, self._cell_of[batch.message[within]][(gaps - pace > STALL_NS).to_numpy()])

    def _tally(self, counts: Ints, rows: Ints) -> None:
        counts += np.bincount(rows, minlength=len(counts))

    def finish(self) -> TokenCounts:
        """Count what never arrived: infinitely late, and one stall for each message that lacks something."""
        lost = np.maximum(self._expected - self._counts.received, 0) * self._valid[self._cell_of]
        np.add.at(self._counts.delays[:, histogram.NEVER_BIN], self._cell_of, lost * self._has_due)
        np.add.at(self._counts.gaps[:, histogram.NEVER_BIN], self._cell_of, np.minimum(lost, self._expected - 1))
        np.add.at(self._counts.stalls, self._cell_of, (lost > 0).astype(np.int64))
        return self._counts


def _note_ends(batch: _TokenRows, values: Ints, first: Ints, last: Ints) -> None:
    """Enter the first and the last of each message's values."""
    starts = batch.starts()
    ends = np.append(starts[1:], True)
    first[batch.message[starts]], last[batch.message[ends]] = values[starts], values[ends]


def _add_to_histograms(histograms: NDArray[np.int32], cell: Ints, delay_ns: Ints) -> None:
    """Add each delay to its cell's histogram; the rows of a cell stand together."""
    bins = histogram.bins_of(delay_ns / 1e6)
    for begin, end in pairwise([*np.flatnonzero(_changes(cell)).tolist(), len(cell)]):
        low = bins[begin:end].min()
        counts = np.bincount(bins[begin:end] - low)
        histograms[cell[begin], low : low + len(counts)] += counts.astype(np.int32)


def _first_receipts(batch: _TokenRows) -> _TokenRows:
    """The rows in the order of the tokens' numbers, each token once: the first time it came."""
    ascending = (np.diff(batch.i) > 0) | batch.starts()[1:]
    if ascending.all():
        return batch
    ordered = batch.take(np.lexsort((batch.received_ns, batch.i, batch.message)))
    return ordered.take(ordered.starts() | _changes(ordered.i))


def _changes(values: Ints) -> NDArray[np.bool_]:
    """True where a value differs from the one before it, and at the first."""
    changed = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=changed[1:])
    return changed

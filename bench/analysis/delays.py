"""Where the delay comes from: of every token, what passed until the server had sent it, and from there to the client.

For results/review.ipynb. Reads the tokens once more, a cell at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from bench.analysis import histogram, intervals
from bench.analysis.charts import STYLE, colour
from bench.analysis.estimators import Floats, Ints, Ratio, quantile_of_counts
from bench.analysis.groups import Group, Key, Measurements
from bench.analysis.intervals import Estimate
from bench.analysis.wording import number, shown
from bench.store import RunFolder

PARTS = {"until sent": ("due_ns", "sent_ns"), "until received": ("sent_ns", "received_ns")}
"""The two parts of a token's delay: the server's, then that of the way and the client."""


@dataclass(frozen=True)
class DelayParts:
    """Where the delay of a cell's tokens comes from (ms): for each of PARTS the mean and the 99th percentile."""

    key: Key
    means: list[Estimate]
    p99s: list[Estimate]


@dataclass
class _Parts:
    """The two parts of one cell's delays in one block: sums in ms, and histograms."""

    tokens: int = 0
    sums_ms: Floats = field(default_factory=lambda: np.zeros(len(PARTS)))
    counts: Ints = field(default_factory=lambda: np.zeros((len(PARTS), histogram.BINS), np.int64))

    def add(self, parts_ms: Floats) -> None:
        """Delays with a row for each part."""
        self.tokens += parts_ms.shape[1]
        self.sums_ms += parts_ms.sum(axis=1)
        self.counts += [np.bincount(histogram.bins_of(part_ms), minlength=histogram.BINS) for part_ms in parts_ms]


def delay_parts(folder: RunFolder, measured: Measurements) -> list[DelayParts]:
    """Split every delay into `sent - due` and `received - sent`. Tokens that never came are in neither part.

    Means add up to the mean delay; percentiles do not.
    """
    owner = {
        stream: (group.key, int(block))
        for group in measured.groups
        for stream, block in zip(group.messages["stream_id"], group.messages["block"], strict=True)
    }
    parts: dict[tuple[Key, int], _Parts] = {}
    for stream, parts_ms in _row_groups(folder.tokens_path):
        if stream in owner:  # else of a void cell
            parts.setdefault(owner[stream], _Parts()).add(parts_ms)
    by_group = [(g, {b: parts[g.key, b] for b in g.blocks if (g.key, b) in parts}) for g in measured.groups]
    return [_delay_parts(group, blocks) for group, blocks in by_group if blocks]


def _row_groups(path: Path) -> Iterator[tuple[str, Floats]]:
    """A message of each row group (all of them are of one cell in one block), and the parts of its tokens' delays."""
    with pq.ParquetFile(path) as file:
        for position in range(file.num_row_groups):
            rows = file.read_row_group(position, columns=["stream_id", "due_ns", "sent_ns", "received_ns"])
            if len(rows):
                spans = [rows[end].to_numpy() - rows[begin].to_numpy() for begin, end in PARTS.values()]
                yield rows["stream_id"][0].as_py(), np.stack(spans) / 1e6


def _delay_parts(group: Group, blocks: dict[int, _Parts]) -> DelayParts:
    tokens = np.array([part.tokens for part in blocks.values()], float)
    messages = {block: int(group.totals["messages"][block]) for block in blocks}
    support = histogram.values_ms(np.arange(histogram.BINS))
    means, p99s = [], []
    for row in range(len(PARTS)):
        sums_ms = np.array([part.sums_ms[row] for part in blocks.values()])
        means.append(intervals.estimate(Ratio(tuple(blocks), sums_ms, tokens)))
        counts = {block: part.counts[row] for block, part in blocks.items()}
        p99s.append(intervals.estimate(quantile_of_counts(0.99, support, counts, messages)))
    return DelayParts(group.key, means, p99s)


def parts_table(parts: Sequence[DelayParts]) -> pd.DataFrame:
    """A row per cell, each number with its 95 % interval."""
    rows = [
        {
            f"{part}, {word} [ms]": shown(found[position])
            for position, part in enumerate(PARTS)
            for word, found in (("mean", cell.means), ("p99", cell.p99s))
        }
        for cell in parts
    ]
    return pd.DataFrame(rows, index=[cell.key.title for cell in parts])


def parts_figure(parts: Sequence[DelayParts]) -> Figure:
    """The mean of each part with its 95 % interval; points, since bars have no foot on a logarithmic axis."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 1.1 + 0.36 * len(parts)), layout="constrained")
        both = figure.subplots(1, len(PARTS), sharex=True, sharey=True)
        for position, (axes, part) in enumerate(zip(both, PARTS, strict=True)):
            axes.set(xscale="log", title=part, xlabel="mean [ms], logarithmic")
            for row, cell in enumerate(parts):
                mean = cell.means[position]
                whiskers = [[mean.value - mean.lo], [mean.hi - mean.value]] if mean.has_interval else None
                axes.errorbar(mean.value, row, xerr=whiskers, fmt="o", color=colour(cell.key), capsize=2)
                axes.annotate(number(mean.value), (mean.value, row), (0, 6), textcoords="offset points", ha="center")
        both[0].set_yticks(range(len(parts)), [cell.key.title for cell in parts])
        both[0].set_ylim(len(parts) - 0.3, -0.7)
    return figure

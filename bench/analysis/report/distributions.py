"""Pictures of how soon and how smoothly: a row for each cell, so that no line can hide another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.analysis.measures.groups import MeasuredCell, Measurements
from bench.analysis.report.number_tables import Row, Table
from bench.analysis.report.shown_cells import charted
from bench.analysis.report.theme import FAINT, LINE, PAGE, TEXT, WIDTH_INCHES, colour, label, log_ms
from bench.analysis.statistics import histogram
from bench.analysis.statistics.estimators import Floats
from bench.analysis.statistics.wording import number
from clients.minima import MESSAGES_NEEDED

MAX_STAIRS = 8
_AT_ONCE = 50  # streams: the step of the calibration that a run's load is set beside


_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_NEEDED = {0.05: MESSAGES_NEEDED[0.95], 0.95: MESSAGES_NEEDED[0.95], 0.99: MESSAGES_NEEDED[0.99]}


class Spread(NamedTuple):
    """Where a cell's values lie, in ms: infinite for what never came, NaN where the sample is too small."""

    p5: float
    p25: float
    p50: float
    p75: float
    p95: float
    p99: float


SpreadOf = Callable[[MeasuredCell], Spread]


def ttft(cell: MeasuredCell) -> Spread:
    """The time to first token of all messages."""
    return _spread(cell, np.quantile(cell.messages["ttft_ms"].to_numpy(float), _SHARES, method="inverted_cdf"))


def ttft_overhead(cell: MeasuredCell) -> Spread:
    """The same minus the model's own time."""
    return _spread(cell, np.quantile(cell.messages["ttft_overhead_ms"].to_numpy(float), _SHARES, method="inverted_cdf"))


def delay(cell: MeasuredCell) -> Spread:
    """The delivery delay of all tokens."""
    counts = np.stack([cell.delays[b] for b in cell.blocks]).sum(axis=0, dtype=np.int64)
    reached = np.cumsum(counts)
    return _spread(cell, histogram.values_ms(np.searchsorted(reached, np.multiply(_SHARES, reached[-1]))))


def _spread(cell: MeasuredCell, quantiles: Floats) -> Spread:
    few = [len(cell.messages) < _NEEDED.get(share, 1) for share in _SHARES]
    return Spread(*np.where(few, math.nan, quantiles).tolist())


def first_token(measured: Measurements) -> Figure | None:
    """The time to first token: as the user waits, and below it what the transport added."""
    cells = charted(measured)
    whole = (ttft, "From the question to the first token", "time to first token [ms], logarithmic")
    added = (ttft_overhead, "Of that, what the transport added", "beyond the model's own time [ms], logarithmic")
    figure = _strips(cells, whole, added) if any(cell.has_due for cell in cells) else _strips(cells, whole)
    if figure is not None and len(figure.axes) > 1:
        _band(figure.axes[1], measured)
    return figure


def token_delay(measured: Measurements) -> Figure | None:
    """The delivery delay of tokens."""
    figure = _strips(_on_schedule(measured), (delay, "", "from due to received [ms], logarithmic"))
    if figure is not None:
        _band(figure.axes[0], measured)
    return figure


def _on_schedule(measured: Measurements) -> list[MeasuredCell]:
    """The cells that tell when their tokens were due."""
    return [cell for cell in charted(measured) if cell.has_due]


def _band(axes: Axes, measured: Measurements) -> None:
    """The harness's own error up to its p99, where it is known: what lies within it is not the transport's."""
    if measured.harness_error is None:
        return
    _, p99_ms = measured.harness_error.band_ms(_AT_ONCE)
    low, high = axes.get_xlim()
    if p99_ms > low:
        axes.axvspan(low, min(p99_ms, high), color=LINE, alpha=0.6, linewidth=0, zorder=0)


def _strips(cells: Sequence[MeasuredCell], *panels: tuple[SpreadOf, str, str]) -> Figure | None:
    """A panel below the other, each with a row for every cell."""
    if not cells:
        return None
    figure = Figure(figsize=(WIDTH_INCHES, len(panels) * (0.7 + 0.36 * len(cells))), layout="constrained")
    for axes, (spread_of, title, unit) in zip(np.atleast_1d(figure.subplots(len(panels), 1)), panels, strict=True):
        spreads = [spread_of(cell) for cell in cells]
        _axis_for(axes, spreads)
        for row, (cell, spread) in enumerate(zip(cells, spreads, strict=True)):
            _strip(axes, row, spread, colour(cell.key))
        axes.set(title=title, xlabel=unit, ylim=(len(cells) - 0.4, -0.75))
        axes.set_yticks(range(len(cells)), [label(cell.key) for cell in cells])
        axes.grid(axis="y", visible=False)
    return figure


def _axis_for(axes: Axes, spreads: Sequence[Spread]) -> None:
    """A logarithmic axis on which all finite values have room."""
    finite = [max(x, histogram.FLOOR_MS) for spread in spreads for x in spread if math.isfinite(x)] or [1.0]
    axes.set_xlim(0.7 * min(finite), 1.8 * max(finite))
    log_ms(axes)


def _strip(axes: Axes, row: int, spread: Spread, shade: str) -> None:
    """Thin from 5 to 95 %, thick over the middle half, a dot for the median with its number, a diamond for p99."""
    right = axes.get_xlim()[1]
    for lo, hi, width in ((spread.p5, spread.p95, 1.6), (spread.p25, spread.p75, 7)):
        if not math.isnan(lo + hi) and math.isfinite(lo):
            axes.plot([max(lo, histogram.FLOOR_MS), min(hi, right)], [row, row], color=shade, lw=width, alpha=0.55)
    if math.isfinite(spread.p99):
        axes.plot([max(spread.p99, histogram.FLOOR_MS)], [row], "D", color=shade, markersize=4.2, markeredgecolor=PAGE)
    if math.isfinite(spread.p50):
        at = max(spread.p50, histogram.FLOOR_MS)
        axes.plot([at], [row], "o", color=shade, markersize=6.5, markeredgecolor=PAGE)
        text = number(spread.p50)
    else:
        at, text = right, "∞" if math.isinf(spread.p50) else "nobody knows"
    axes.annotate(text, (at, row), (0, 6), textcoords="offset points", ha="center", color=TEXT)


def first_token_data(measured: Measurements) -> list[Table]:
    """The numbers behind the picture of the first token."""
    cells = charted(measured)
    return [_data(cells, ttft, "Time to first token"), _data(cells, ttft_overhead, "Beyond the model's own time")]


def token_delay_data(measured: Measurements) -> list[Table]:
    """The numbers behind the picture of the delay."""
    return [_data(_on_schedule(measured), delay, "Delay per token")]


def _data(cells: Sequence[MeasuredCell], spread_of: SpreadOf, title: str) -> Table:
    rows = [Row(c.key.title, colour(c.key), [(number(value), "") for value in spread_of(c)]) for c in cells]
    return Table(title, [(f"p{100 * share:g}", "ms") for share in _SHARES], rows)


def staircase(measured: Measurements) -> Figure | None:
    """The same message over each transport, token by token, against the model's own pace."""
    cells = _stairs(measured)
    if not cells:
        return None
    figure = Figure(figsize=(WIDTH_INCHES, 0.6 + 0.95 * len(cells)), layout="constrained")
    rows = np.atleast_1d(figure.subplots(len(cells), 1, sharex=True, sharey=True))
    for axes, cell in zip(rows, cells, strict=True):
        tokens = measured.samples[cell.key]
        so_far = np.arange(len(tokens.due_ms) + 1)
        due_s, received_s = np.sort(tokens.due_ms) / 1e3, tokens.received_ms / 1e3
        axes.step(_from_zero(received_s), so_far, where="post", color=colour(cell.key), linewidth=2.6)
        axes.step(_from_zero(due_s), so_far, where="post", color=TEXT, linewidth=0.7, label="as the model made them")
        burst = _largest_burst(tokens.received_ms)
        axes.set_title(f"{label(cell.key)}: largest burst {burst} token{'s' * (burst > 1)}", pad=3)
        axes.set_ylim(bottom=0)
    rows[0].legend(loc="upper left", fontsize=8, labelcolor=FAINT)
    rows[-1].set_xlabel("time since the question [s]")
    rows[0].set_xlim(left=0)
    rows[len(rows) // 2].set_ylabel("tokens so far")
    return figure


def _stairs(measured: Measurements) -> list[MeasuredCell]:
    return [g for g in charted(measured) if g.key in measured.samples and not g.key.is_control][:MAX_STAIRS]


def _largest_burst(received_ms: Floats) -> int:
    return int(np.unique(received_ms, return_counts=True)[1].max())


def _from_zero(x: Floats) -> Floats:
    """The first point again, so that a staircase rises from zero."""
    return np.append(x[:1], x)


def staircase_data(measured: Measurements) -> list[Table]:
    """When that message began, ended, and how it came."""
    rows = []
    for cell in _stairs(measured):
        tokens = measured.samples[cell.key]
        late_ms = tokens.received_ms - np.sort(tokens.due_ms)
        ends = (tokens.received_ms.min(), tokens.received_ms.max(), np.median(late_ms), late_ms.max())
        counts = (len(tokens.received_ms), len(np.unique(tokens.received_ms)), _largest_burst(tokens.received_ms))
        shown = [(number(float(value)), "") for value in (*counts, *ends)]
        rows.append(Row(cell.key.title, colour(cell.key), shown))
    names = ("tokens", "moments at which some came", "largest burst")
    times = (("first token", "ms"), ("last token", "ms"), ("median delay", "ms"), ("longest delay", "ms"))
    return [Table("This message", [*((name, "") for name in names), *times], rows)]

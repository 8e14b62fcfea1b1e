"""Pictures of what it costs: bars with their numbers, of the cells alone that brought every message."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.analysis.measures.groups import MeasuredCell, Measurements
from bench.analysis.measures.metrics import METRICS, estimate
from bench.analysis.measures.missing import OVER_BASELINE
from bench.analysis.report.number_tables import Row, Table, headings, values
from bench.analysis.report.shown_cells import costed
from bench.analysis.report.theme import FAINT, PAGE, TEXT, WIDTH_INCHES, colour, label, plain
from bench.analysis.statistics.wording import listed, number

WIRE = {
    "bytes_per_token_without_stamps": "payload bytes per token",
    "wire_bytes_per_token_without_stamps": "bytes on the wire per token",
}
TRAFFIC = {"requests_per_message": "requests per message", "bytes_per_message": "bytes per message, both ways"}
CPU = {
    "client_cpu_us_per_token": ("client", 1.0),
    "server_only_cpu_us_per_token": ("server", 0.6),
    "redis_cpu_us_per_token": ("Redis", 0.3),
}
"""The parts of a bar, and how strong the transport's colour is in each."""


def requests_and_bytes(measured: Measurements) -> Figure | None:
    """What travels for one message: requests, and bytes both ways."""
    return _side_by_side(costed(measured), TRAFFIC)


def payload_and_wire(measured: Measurements) -> Figure | None:
    """Bytes per token as payload, and beside it as packets on the wire; None where the platform does not tell."""
    cells = costed(measured)
    known = any(np.isfinite(estimate(cell, column).value) for cell in cells for column in list(WIRE)[1:])
    return _side_by_side(cells, WIRE) if known else None


def over_baseline(measured: Measurements) -> Figure | None:
    """CPU time per token above what the baseline takes for the same model and messages; None without a baseline."""
    cells = [cell for cell in costed(measured) if not cell.key.is_baseline]
    known = [cell for cell in cells if np.isfinite(estimate(cell, OVER_BASELINE).value)]
    return _side_by_side(known, {"cpu_us_per_token": "whole [µs]", OVER_BASELINE: "above the baseline [µs]"})


def _side_by_side(cells: Sequence[MeasuredCell], columns: Mapping[str, str]) -> Figure | None:
    """A panel of bars for each column, with its title."""
    if not cells:
        return None
    figure = Figure(figsize=(WIDTH_INCHES, 0.8 + 0.34 * len(cells)), layout="constrained")
    for axes, (column, title) in zip(figure.subplots(1, len(columns), sharey=True), columns.items(), strict=True):
        _bars(axes, cells, column)
        axes.set_xlabel(title)
    _name_rows(figure.axes[0], cells)
    return figure


def _bars(axes: Axes, cells: Sequence[MeasuredCell], column: str) -> None:
    """A bar for each cell with its number behind it."""
    found = [estimate(cell, column) for cell in cells]
    for row, (cell, bar) in enumerate(zip(cells, found, strict=True)):
        if not np.isfinite(bar.value):
            _beside(axes, 0, row, "not measured")
            continue
        error = [[bar.value - bar.lo], [bar.hi - bar.value]] if bar.has_interval else None
        line = {"linewidth": 1, "capsize": 2, "ecolor": TEXT}
        axes.barh(row, bar.value, 0.62, color=colour(cell.key), xerr=error, error_kw=line)
        _beside(axes, bar.hi if bar.has_interval else bar.value, row, number(bar.value))
    _from_zero(axes, max((bar.value for bar in found if np.isfinite(bar.value)), default=1))


def _beside(axes: Axes, x: float, row: int, text: str) -> None:
    axes.annotate(text, (x, row), (4, 0), textcoords="offset points", va="center", color=TEXT)


def _from_zero(axes: Axes, longest: float) -> None:
    """An axis with room for the numbers behind the bars."""
    axes.set_xlim(min(0.0, axes.get_xlim()[0]), 1.35 * longest if longest > 0 else 1)  # a rest may be below zero
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    axes.grid(axis="y", visible=False)


def _name_rows(axes: Axes, cells: Sequence[MeasuredCell]) -> None:
    axes.set_yticks(range(len(cells)), [label(cell.key) for cell in cells])
    axes.invert_yaxis()


def cpu(measured: Measurements) -> Figure | None:
    """CPU time per delivered token, by who spent it."""
    cells = costed(measured)
    if not any(np.isfinite(estimate(cell, column).value) for cell in cells for column in CPU):
        return None
    figure = Figure(figsize=(WIDTH_INCHES, 1.1 + 0.34 * len(cells)), layout="constrained")
    axes = figure.subplots()
    longest = max(_stack(axes, row, cell) for row, cell in enumerate(cells))
    _name_rows(axes, cells)
    _from_zero(axes, longest)
    axes.set_xlabel(f"CPU time per token [{METRICS['cpu_us_per_token'].unit.partition('/')[0]}]")
    keys = [Patch(facecolor=(0.4, 0.4, 0.4, strength), label=name) for name, strength in CPU.values()]
    figure.legend(handles=keys, loc="outside upper right", ncols=3, labelcolor=FAINT)
    return figure


def _stack(axes: Axes, row: int, cell: MeasuredCell) -> float:
    """One bar of the CPU chart, and its total, which says what it lacks."""
    parts = {name: estimate(cell, column).value for column, (name, _) in CPU.items()}
    total = 0.0
    for name, strength in CPU.values():
        if parts[name] > 0:
            face = mpl.colors.to_rgba(colour(cell.key), strength)
            axes.barh(row, parts[name], 0.62, left=total, color=face, edgecolor=PAGE, linewidth=1)
            total += parts[name]
    lacking = [name for name, value in parts.items() if np.isnan(value)]
    _beside(axes, total, row, number(total) + (f" without {listed(lacking)} (not measured)" if lacking else ""))
    return total


def data_of(title: str, columns: Sequence[str]) -> Callable[[Measurements], list[Table]]:
    """The numbers behind a picture of costs."""

    def data(measured: Measurements) -> list[Table]:
        rows = [Row(cell.key.title, colour(cell.key), values(cell, columns)) for cell in costed(measured)]
        return [Table(title, headings(columns), rows)]

    return data

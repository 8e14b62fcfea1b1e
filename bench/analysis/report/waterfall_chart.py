"""The waterfalls as a picture: a bar per transport, each on its own scale, for polling's is a hundred times others'."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.analysis.measures.groups import Measurements, transport_title
from bench.analysis.measures.waterfall import STAGES, Waterfall
from bench.analysis.report.number_tables import Row, Table
from bench.analysis.report.theme import STYLE, WIDTH_INCHES, ink_on
from bench.analysis.statistics.wording import number, with_unit

_COLOURS = ("#0072B2", "#56B4E9", "#F0E442", "#E69F00", "#D55E00")  # Okabe and Ito's, told apart by all eyes
_ROW_INCHES = 1.0
_LEAST_SHARE = 0.06  # of the bar; a narrower part has no number in it


def of_this_machine(measured: Measurements) -> Figure | None:
    """The waterfalls of the run's machine; None where `tokenderby calibrate` has not measured any."""
    found = measured.harness_error.waterfalls if measured.harness_error else ()
    return draw(found) if found else None


def data(measured: Measurements) -> list[Table]:
    """The same as a table: a row per transport, means of each stage and of the whole, and its median."""
    found = measured.harness_error.waterfalls if measured.harness_error else ()
    headings = [*((stage, "ms") for stage in (*STAGES, "whole, mean", "whole, median"))]
    rows = [
        Row(
            transport_title(each.transport),
            "",
            [(number(value), "") for value in (*each.mean_ms, each.whole_mean_ms, each.whole_median_ms)],
        )
        for each in found
    ]
    return [Table("Mean time of each stage", headings, rows, first="transport")]


def draw(found: Sequence[Waterfall]) -> Figure:
    """Mean times; the parts of a bar are together its whole."""
    with mpl.rc_context(STYLE):
        figure = Figure((WIDTH_INCHES, 0.8 + _ROW_INCHES * len(found)), layout="constrained")
        for each, axes in zip(found, figure.subplots(len(found), squeeze=False)[:, 0], strict=True):
            _bar(axes, each)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        return figure


def write_waterfalls(found: Sequence[Waterfall], path: Path) -> None:
    """Draw into a file; its ending says as what. Raises OSError."""
    with mpl.rc_context(STYLE):
        draw(found).savefig(path)


def _bar(axes: Axes, found: Waterfall) -> None:
    left_ms = 0.0
    for stage, mean_ms, colour in zip(STAGES, found.mean_ms, _COLOURS, strict=True):
        axes.barh(0, mean_ms, left=left_ms, color=colour, label=stage)
        if mean_ms > _LEAST_SHARE * found.whole_mean_ms:
            axes.text(
                left_ms + mean_ms / 2, 0, number(mean_ms), ha="center", va="center", fontsize=8, color=ink_on(colour)
            )
        left_ms += mean_ms
    axes.set_title(f"{transport_title(found.transport)}: {with_unit(found.whole_mean_ms, 'ms')} from due to decoded")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("ms" if axes.get_subplotspec().is_last_row() else "")  # type: ignore[union-attr]

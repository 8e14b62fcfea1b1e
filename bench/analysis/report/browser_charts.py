"""The pictures of a run with a browser: what it adds to the first token, and its connections to one server."""

from __future__ import annotations

import itertools
import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bench.analysis.measures.groups import Measurements
from bench.analysis.report.browser_numbers import BrowserWay, FirstToken, first_tokens, way_title, ways_at_once
from bench.analysis.report.theme import FAINT, WIDTH_INCHES, colour, in_two_lines, plain

_ROW_INCHES = 0.45
_STAGES = (("asyncio client", "o", 0.45), ("in script", "s", 0.7), ("painted", "D", 1.0))  # name, marker, opacity
_DASHES = {True: "--", False: "-"}  # EventSource, and what script reads itself


def painted(measured: Measurements) -> Figure | None:
    """A row per cell: the asyncio client's first token, the script's, and the painted one."""
    found = first_tokens(measured)
    if not found:
        return None
    figure = Figure((WIDTH_INCHES, 1.0 + _ROW_INCHES * len(found)), layout="constrained")
    axes = figure.subplots()
    for row, each in enumerate(found):
        _draw_row(axes, row, each)
    axes.set_yticks(range(len(found)), [in_two_lines(way_title(each.cell.key)) for each in found])
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="first token over the model's own time, median [ms], logarithmic")
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[: len(_STAGES)], labels[: len(_STAGES)], loc="outside lower center", ncols=len(_STAGES))
    return figure


def _draw_row(axes: Axes, row: int, found: FirstToken) -> None:
    times_ms = (found.asyncio_ms, found.script_ms, found.painted_ms)
    drawn = [ms for ms in times_ms if math.isfinite(ms) and ms > 0]
    axes.plot(drawn, [row] * len(drawn), color=FAINT, linewidth=1, zorder=1)
    for ms, (name, marker, alpha) in zip(times_ms, _STAGES, strict=True):
        axes.plot(ms, row, marker, color=colour(found.cell.key), alpha=alpha, label=name, linestyle="none")


def at_once(measured: Measurements) -> Figure | None:
    """A panel for each version of HTTP, on one scale: the last message's first token by how many began at once."""
    ways = ways_at_once(measured)
    versions = sorted({way.version for way in ways})
    if not ways:
        return None
    figure = Figure((WIDTH_INCHES, 3.6), layout="constrained")
    panels = figure.subplots(1, len(versions), sharey=True, squeeze=False)[0]
    for version, axes in zip(versions, panels, strict=True):
        axes.set_title(version or "WebSocket")
        axes.set_xlabel("messages at once")
        for way in (way for way in ways if way.version == version):
            _draw_way(axes, way)
    panels[0].set_ylabel("first token, lines: of the last [ms]")
    panels[0].set_ylim(bottom=0)
    drawn = (zip(*reversed(axes.get_legend_handles_labels()), strict=True) for axes in panels)
    named = dict(itertools.chain.from_iterable(drawn))  # the panels share names and colours
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=len(named))
    return figure


def _draw_way(axes: Axes, way: BrowserWay) -> None:
    for n, times_ms in way.all_ms.items():
        axes.plot([n] * len(times_ms), times_ms, ".", color=way.colour, alpha=0.25, markersize=4)
    axes.plot(
        list(way.last_ms),
        list(way.last_ms.values()),
        "o",
        linestyle=_DASHES[way.is_native],
        color=way.colour,
        label=way.title,
        markersize=4,
    )
    axes.set_xticks(list(way.last_ms))

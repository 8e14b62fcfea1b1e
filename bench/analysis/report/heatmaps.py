"""The survival map and the map of what coming back cost: tables of coloured squares for the page, and pictures."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, to_hex, to_rgb
from matplotlib.figure import Figure

from bench.analysis.findings.survival import Spot, SurvivalMap, Way, extra_requests, survival_maps
from bench.analysis.measures.groups import Measurements
from bench.analysis.measures.metrics import estimate
from bench.analysis.report.theme import ink_on
from bench.analysis.statistics.wording import number, whole_percent

_ROW_INCHES = 0.36
_LABEL_INCHES = 2.6
_LABEL_LETTERS = 26


@dataclass(frozen=True)
class _Scale:
    """What a square shows: its value, the text in it, what else is known of it, and the colours."""

    title: str
    value: Callable[[SurvivalMap, Spot], float]
    text: Callable[[SurvivalMap, Spot], str]
    colours: str
    norm: Normalize
    more: Callable[[SurvivalMap, Spot], str] = lambda _map, _spot: ""


@dataclass(frozen=True)
class HeatSquare:
    """One square: its text, what is known beyond it, and its colours; `fill` is empty where there is no value."""

    text: str
    more: str
    fill: str
    ink: str


@dataclass(frozen=True)
class HeatMap:
    """One map: columns and rows by name, and the squares row by row; None where nothing was measured."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[HeatSquare | None]]]

    @property
    def listing(self) -> list[tuple[str, str, str, str]]:
        """Every measured square in words: row, column, text, and what else is known of it."""
        return [
            (row, column, square.text, square.more)
            for row, squares in self.rows
            for column, square in zip(self.columns, squares, strict=True)
            if square
        ]


def survival_heat(measured: Measurements) -> list[HeatMap]:
    """The share of messages that arrived complete, for each situation: a way to carry tokens against a profile."""
    return [
        _heat(each, [way for way in each.ways if _measured_at(each, way)], _SHARE, each.situation.title)
        for each in _shown(survival_maps(measured))
    ]


def recovery_heat(measured: Measurements) -> list[HeatMap]:
    """What the ways that recover paid for it, in time, tokens and requests, situation by situation."""
    return [
        _heat(each, ways, cost, f"{cost.title}: {each.situation.title}")
        for each in _recovering(measured)
        if (ways := [way for way in each.ways if way.recovery != "none" and _measured_at(each, way)])
        for cost in _COSTS
    ]


def _measured_at(each: SurvivalMap, way: Way) -> bool:
    return any(each.spot(way, profile) for profile in each.profiles)


def _heat(each: SurvivalMap, ways: Sequence[Way], scale: _Scale, title: str) -> HeatMap:
    rows = [(way.title, [_square(each, each.spot(way, profile), scale) for profile in each.profiles]) for way in ways]
    return HeatMap(title, each.profiles, rows)


def _square(each: SurvivalMap, spot: Spot | None, scale: _Scale) -> HeatSquare | None:
    if spot is None:
        return None
    value = scale.value(each, spot)
    texts = scale.text(each, spot), scale.more(each, spot)
    if math.isnan(value):
        return HeatSquare(*texts, "", "")
    fill = to_hex(mpl.colormaps[scale.colours](scale.norm(value) if math.isfinite(value) else 1.0))
    return HeatSquare(*texts, fill, ink_on(fill))


def survival_heatmaps(measured: Measurements) -> Figure | None:
    """The survival map as a picture, its situations side by side."""
    maps = _shown(survival_maps(measured))
    if not maps:
        return None
    ways = _ways(maps, lambda _: True)
    figure = _figure(maps, [len(ways)])
    for axes, each in zip(np.atleast_1d(figure.subplots(1, len(maps), width_ratios=_widths(maps))), maps, strict=True):
        _draw(axes, _heat(each, ways, _SHARE, ""), named=axes is figure.axes[0])
        axes.set_title(_fit(each.situation.title, len(maps)), fontsize=9)
        _name_columns(axes, each)
    return figure


def recovery_cost(measured: Measurements) -> Figure | None:
    """What the ways that recover paid for it, as a picture."""
    maps = _recovering(measured)
    ways = _ways(maps, lambda way: way.recovery != "none")
    if not ways:
        return None
    figure = _figure(maps, [len(ways)] * len(_COSTS))
    grid = figure.subplots(len(_COSTS), len(maps), width_ratios=_widths(maps), squeeze=False)
    for row, cost in zip(grid, _COSTS, strict=True):
        for axes, each in zip(row, maps, strict=True):
            _draw(axes, _heat(each, ways, cost, ""), named=axes is row[0])
            axes.set_title(cost.title, fontsize=9)
            axes.set_xticks([])
    for axes, each in zip(grid[-1], maps, strict=True):
        _name_columns(axes, each)
    for axes, each in zip(grid[0], maps, strict=True):
        title = _fit(each.situation.title, len(maps))
        axes.set_title(f"{title}\n\n{_COSTS[0].title}", fontsize=9)
    return figure


def _recovering(measured: Measurements) -> list[SurvivalMap]:
    return [each for each in _shown(survival_maps(measured)) if any(w.recovery != "none" for w in each.ways)]


def _shown(maps: Sequence[SurvivalMap]) -> list[SurvivalMap]:
    """The maps that have something in between; if none has, those that at least come back after drops."""
    return [each for each in maps if len(each.profiles) > 1] or [each for each in maps if each.spots]


def _ways(maps: Sequence[SurvivalMap], wanted: Callable[[Way], bool]) -> list[Way]:
    """The rows that all panels share, in the order of the map with most of them."""
    longest = sorted(maps, key=lambda each: -len(each.ways))
    return [way for way in dict.fromkeys(way for each in longest for way in each.ways) if wanted(way)]


def _widths(maps: Sequence[SurvivalMap]) -> list[int]:
    return [len(each.profiles) for each in maps]


def _figure(maps: Sequence[SurvivalMap], rows: Sequence[int]) -> Figure:
    width = max(6.0, min(9.5, _LABEL_INCHES + 0.75 * sum(_widths(maps))))
    return Figure(figsize=(width, 1.9 + _ROW_INCHES * sum(rows) + 0.5 * (len(rows) - 1)), layout="constrained")


def _draw(axes: Axes, heat: HeatMap, *, named: bool) -> None:
    """One panel: a coloured square with its text for each cell that was measured."""
    image = np.ones((len(heat.rows), len(heat.columns), 3))
    for y, (_, squares) in enumerate(heat.rows):
        for x, square in enumerate(squares):
            if square is None:
                continue
            if square.fill:
                image[y, x] = to_rgb(square.fill)
            text = "\n".join(filter(None, (square.text, square.more)))
            axes.text(x, y, text, ha="center", va="center", fontsize=7, color=square.ink or "#000000")
    axes.imshow(image, aspect="auto", interpolation="nearest")
    axes.set_xticks(np.arange(len(heat.columns) + 1) - 0.5, minor=True)
    names = [textwrap.fill(name, 34) for name, _ in heat.rows] if named else []
    axes.set_yticks(range(len(heat.rows)), names, fontsize=8)
    axes.set_yticks(np.arange(len(heat.rows) + 1) - 0.5, minor=True)
    axes.grid(visible=False, which="major")
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def _short(profile: str) -> str:
    """A label that leaves room for the squares."""
    return profile if len(profile) <= _LABEL_LETTERS else f"{profile[: _LABEL_LETTERS - 1]}…"


def _fit(title: str, panels: int) -> str:
    return textwrap.fill(title, 90 // panels)


def _name_columns(axes: Axes, each: SurvivalMap) -> None:
    axes.set_xticks(
        range(len(each.profiles)),
        [_short(profile) for profile in each.profiles],
        rotation=40,
        ha="right",
        rotation_mode="anchor",
        fontsize=8,
    )


def _lost_s(_: SurvivalMap, spot: Spot) -> float:
    """Until noticed, and from there to the next token not seen before."""
    return estimate(spot.cell, "time_lost_ms_p50").value / 1e3


_SHARE = _Scale(
    "Messages complete",
    lambda _, spot: spot.share.value,
    lambda _, spot: whole_percent(spot.complete, spot.messages),
    "RdYlBu",
    Normalize(0, 1),
    more=lambda _, spot: f"{100 * spot.share.lo:.0f}–{100 * spot.share.hi:.0f}",
)
_COSTS = (
    _Scale(
        "Time lost by drops, median of the messages that dropped [s]",
        _lost_s,
        lambda m, s: number(_lost_s(m, s)),
        "YlOrBr",
        LogNorm(0.1, 100),
    ),
    _Scale(
        "Tokens repeated, per message",
        lambda _, spot: spot.per_message("tokens_duplicated"),
        lambda _, spot: number(spot.per_message("tokens_duplicated")),
        "YlOrBr",
        LogNorm(1, 1000, clip=True),
    ),
    _Scale(
        "Extra requests, per message",
        extra_requests,
        lambda m, s: number(extra_requests(m, s)),
        "YlOrBr",
        LogNorm(0.1, 30, clip=True),
    ),
)

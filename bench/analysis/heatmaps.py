"""The survival map and the map of what coming back cost, as pictures."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from bench.analysis.groups import Measurements
from bench.analysis.metrics import estimate
from bench.analysis.survival import Spot, SurvivalMap, Way, extra_requests, survival_maps
from bench.analysis.wording import number

_ROW_INCHES = 0.36
_LABEL_INCHES = 2.6
_LABEL_LETTERS = 26
_DARK = 0.45  # of a colour's brightness: below it, letters on it are white


@dataclass(frozen=True)
class _Scale:
    """What a square shows: its value, the text in it, and the colours."""

    title: str
    value: Callable[[SurvivalMap, Spot], float]
    text: Callable[[SurvivalMap, Spot], str]
    colours: str
    norm: Normalize


def survival(measured: Measurements) -> Figure | None:
    """The share of messages that arrived complete: transport, settings and recovery against profile."""
    maps = _shown(survival_maps(measured))
    if not maps:
        return None
    share = _Scale("", lambda _, spot: spot.share.value, lambda _, spot: _share_text(spot), "RdYlBu", Normalize(0, 1))
    ways = _ways(maps, lambda _: True)
    figure = _figure(maps, [len(ways)])
    for axes, each in zip(np.atleast_1d(figure.subplots(1, len(maps), width_ratios=_widths(maps))), maps, strict=True):
        _draw(axes, each, ways, share)
        axes.set_title(_fit(each.situation.title, len(maps)), fontsize=9)
        _name_columns(axes, each)
        _name_rows(axes, ways, named=axes is figure.axes[0])
    return figure


def recovery_cost(measured: Measurements) -> Figure | None:
    """What the ways that recover paid for it, in time, tokens and requests."""
    maps = [each for each in _shown(survival_maps(measured)) if any(w.recovery != "none" for w in each.ways)]
    ways = _ways(maps, lambda way: way.recovery != "none")
    if not ways:
        return None
    figure = _figure(maps, [len(ways)] * len(_COSTS))
    grid = figure.subplots(len(_COSTS), len(maps), width_ratios=_widths(maps), squeeze=False)
    for row, cost in zip(grid, _COSTS, strict=True):
        for axes, each in zip(row, maps, strict=True):
            _draw(axes, each, ways, cost)
            axes.set_title(cost.title, fontsize=9)
            _name_rows(axes, ways, named=axes is row[0])
            axes.set_xticks([])
    for axes, each in zip(grid[-1], maps, strict=True):
        _name_columns(axes, each)
    for axes, each in zip(grid[0], maps, strict=True):
        title = _fit(each.situation.title, len(maps))
        axes.set_title(f"{title}\n\n{_COSTS[0].title}", fontsize=9)
    return figure


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


def _draw(axes: Axes, each: SurvivalMap, ways: Sequence[Way], scale: _Scale) -> None:
    """One panel: a coloured square with its text for each cell that was measured."""
    colours = mpl.colormaps[scale.colours]
    image = np.ones((len(ways), len(each.profiles), 4))
    for y, way in enumerate(ways):
        for x, profile in enumerate(each.profiles):
            spot = each.spot(way, profile)
            if spot is None:
                continue
            value = scale.value(each, spot)
            if not math.isnan(value):
                image[y, x] = colours(scale.norm(value) if math.isfinite(value) else 1.0)
            dark = image[y, x, :3] @ (0.299, 0.587, 0.114) < _DARK
            axes.text(
                x, y, scale.text(each, spot), ha="center", va="center", fontsize=7, color="white" if dark else "black"
            )
    axes.imshow(image, aspect="auto", interpolation="nearest")
    axes.set_xticks(np.arange(len(each.profiles) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(ways) + 1) - 0.5, minor=True)
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


def _name_rows(axes: Axes, ways: Sequence[Way], *, named: bool) -> None:
    axes.set_yticks(range(len(ways)), [textwrap.fill(way.title, 34) for way in ways] if named else [], fontsize=8)


def _share_text(spot: Spot) -> str:
    share = spot.share
    return f"{100 * share.value:.0f} %\n{100 * share.lo:.0f}–{100 * share.hi:.0f}"


def _lost_s(_: SurvivalMap, spot: Spot) -> float:
    """Until noticed, and from there to the next token not seen before."""
    return estimate(spot.cell, "time_lost_ms_p50").value / 1e3


def _dash(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3g}" if math.isfinite(value) else "∞"


_COSTS = (
    _Scale(
        "Time lost by drops, median of the messages that dropped [s]",
        _lost_s,
        lambda m, s: _dash(_lost_s(m, s)),
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
        lambda m, s: _dash(extra_requests(m, s)),
        "YlOrBr",
        LogNorm(0.1, 30, clip=True),
    ),
)

"""Colours and type of the report: one palette for its page and its pictures, by day and by night."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from bench.analysis.measures.groups import Key
from servers.transport import CONTESTANTS


class Shade(NamedTuple):
    """One role's colour on a light page and on a dark one."""

    light: str
    dark: str


PALETTE: dict[str, Shade] = {
    "text": Shade("#1a1c1f", "#e6e7e9"),
    "faint": Shade("#5a5f66", "#a6abb2"),
    "page": Shade("#fefefe", "#15171a"),
    "card": Shade("#f4f5f6", "#1f2226"),
    "line": Shade("#d8dadd", "#3b3f45"),
    "good": Shade("#00634a", "#63d1b0"),
    "bad": Shade("#a32a00", "#ff9f7a"),
    "alert": Shade("#fdf0e8", "#3a2318"),
    "link": Shade("#0a58a8", "#8ec1f5"),
}
"""By role, the names of the page's CSS variables. Text in any of them keeps WCAG's AA contrast on page and card."""

TEXT, FAINT, PAGE, LINE = (PALETTE[role].light for role in ("text", "faint", "page", "line"))
_OTHER = "#767676"  # of a transport that is not in the registry; seen on both pages
WIDTH_INCHES = 5.8  # narrow enough to be read on a phone, and not too coarse on a desk

_LUMINANCE = (0.2126, 0.7152, 0.0722)  # of sRGB's linear red, green and blue (WCAG 2.2)
_EQUAL_CONTRAST = 0.179  # of the luminance at which black and white letters are read equally well

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so the files look the same everywhere
    "font.size": 9,
    "text.color": TEXT,
    "axes.labelcolor": FAINT,
    "axes.titlecolor": TEXT,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "ytick.labelcolor": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "tokenderby",  # the same run gives the same files
    "svg.fonttype": "none",  # text stays text, to be read out, searched and set in the page's own type
    "figure.facecolor": PAGE,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
}


def colour(key: Key) -> str:
    """The transport's colour, the same everywhere."""
    return CONTESTANTS[key.transport].colour if key.transport in CONTESTANTS else _OTHER


def label(key: Key) -> str:
    """The cell's name in at most two short lines."""
    return in_two_lines(key.title)


def in_two_lines(title: str) -> str:
    """A name beside an axis."""
    return textwrap.fill(title, width=22, max_lines=2, placeholder=" …")


@contextmanager
def any_letters() -> Iterator[None]:
    """A picture is drawn without a word about letters that its font lacks: a cell's name may hold anything."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def log_ms(axes: Axes) -> None:
    """A logarithmic axis of milliseconds with plain numbers."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    axes.xaxis.set_minor_locator(NullLocator())


def plain(value: float, _position: int | None = None) -> str:
    """A tick's number: 0.001, 5, 1,000."""
    return f"{value:,.10g}"


def ink_on(fill: str) -> str:
    """Black or white, whichever is read better on a colour."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(fill)]
    return "#000000" if np.dot(linear, _LUMINANCE) > _EQUAL_CONTRAST else "#ffffff"

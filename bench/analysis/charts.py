"""The report's pictures. A transport has one colour everywhere; variants differ in line style, costs in hatching.

`CHARTS` lists them with what to read from each. Every function draws a figure from measurements and nothing else, so
that a notebook can show the same pictures.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from bench.analysis import histogram
from bench.analysis.estimators import Floats
from bench.analysis.groups import Key, MeasuredCell, Measurements
from bench.analysis.heatmaps import recovery_cost, survival
from bench.analysis.knee import knee_curve
from bench.analysis.metrics import METRICS, estimate
from bench.analysis.wording import listed, number
from servers.transport import TRANSPORTS

MAX_LINES = 12  # more lines than this in one picture cannot be told apart
MAX_STAIRS = 8
MAX_POINTS = 400  # of a curve; more do not show
OTHER_COLOUR = "#000000"  # of a transport that is not in the registry
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so the pictures look the same everywhere
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "hatch.linewidth": 0.8,
    "svg.hashsalt": "tokenderby",  # the same run gives the same files
    "figure.facecolor": "white",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
}
_LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))


@dataclass(frozen=True)
class Chart:
    """A picture of the report: its file name, its title, how to read it, what it shows exactly, and what draws it.

    Those of `speed` or cost are not drawn where cells shared the machine.
    """

    name: str
    title: str
    reading: str
    definition: str
    draw: Callable[[Measurements], Figure | None]
    speed: bool = True

    def figure(self, measured: Measurements) -> Figure | None:
        """The picture; None without data for it, and of speed where the run cannot tell, as cells ran side by side."""
        return self.draw(measured) if measured.cells_at_once == 1 or not self.speed else None


def write_charts(measured: Measurements, folder: Path) -> list[Chart]:
    """Draw all charts that the run has data for, as PNG and SVG in `folder`; which ones those are."""
    folder.mkdir(exist_ok=True)
    drawn = []
    with mpl.rc_context(STYLE):
        for chart in (KNEE, *CHARTS):
            figure = chart.figure(measured)
            if figure is not None:
                _save(figure, folder / chart.name)
                drawn.append(chart)
    return drawn


def _save(figure: Figure, stem: Path) -> None:
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a cell's name may hold anything
        figure.savefig(stem.with_suffix(".png"), dpi=144, bbox_inches="tight", metadata={"Software": None})
        figure.savefig(stem.with_suffix(".svg"), bbox_inches="tight", metadata={"Date": None})


def charted(measured: Measurements) -> list[MeasuredCell]:
    """The cells that the pictures show: of the group with most of them, the plain one first, at most MAX_LINES."""
    groups: dict[tuple[str, ...], list[MeasuredCell]] = {}
    for cell in measured.cells:
        if cell.blocks:
            groups.setdefault(cell.key.group, []).append(cell)
    best = max(groups.values(), key=lambda cells: (cells[0].key.group == ("direct", "none"), len(cells)), default=[])
    return best[:MAX_LINES]


def colour(key: Key) -> str:
    """The transport's colour."""
    return TRANSPORTS[key.transport].colour if key.transport in TRANSPORTS else OTHER_COLOUR


def label(key: Key) -> str:
    """The cell's name in at most two short lines."""
    return textwrap.fill(key.title, width=28, max_lines=2, placeholder=" …")


def _line_style(cells: Sequence[MeasuredCell], cell: MeasuredCell) -> dict[str, Any]:
    siblings = [g.key for g in cells if g.key.transport == cell.key.transport]
    rank = [g.key for g in cells].index(cell.key) / max(1, len(cells) - 1)
    return {
        "color": colour(cell.key),
        "linestyle": _LINES[siblings.index(cell.key) % len(_LINES)],
        "linewidth": 3.6 - 2.2 * rank,  # a curve that is drawn over an equal one leaves its rim to be seen
    }


def _legend_below(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    columns = min(4, len(labels))
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=columns, handlelength=3)


def log_ms(axes: Axes) -> None:
    """A logarithmic axis of milliseconds with plain numbers."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.xaxis.set_minor_locator(NullLocator())


def _plain(value: float, _position: int | None) -> str:
    """A tick's number: 0.001, 5, 1 000."""
    return f"{value:,.10g}"


def first_token(measured: Measurements) -> Figure | None:
    """Distribution of the time to first token: as the user waits, and what the transport added."""
    cells = charted(measured)
    if not cells:
        return None
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, column, title, unit in (
        (left, "ttft_ms", "From the question to the first token", "time to first token [ms]"),
        (right, "ttft_overhead_ms", "Of that, what the transport added", "overhead over the model's own time [ms]"),
    ):
        for cell in cells:
            x, y = _ecdf(cell.messages[column].to_numpy(float))
            axes.step(x, y, where="post", label=label(cell.key), **_line_style(cells, cell))
        log_ms(axes)
        axes.set(title=title, xlabel=f"{unit}, logarithmic", ylim=(0, 1.02))
    left.set_ylabel("share of messages")
    left.yaxis.set_major_formatter(PercentFormatter(1.0))
    _legend_below(figure, left)
    return figure


def _ecdf(values: Floats) -> tuple[Floats, Floats]:
    """The share of all values up to x; infinite ones keep the curve below 1. At most MAX_POINTS points."""
    finite = np.sort(np.maximum(values[np.isfinite(values)], histogram.FLOOR_MS))
    share = np.arange(1, len(finite) + 1) / len(values)
    keep = np.unique(np.linspace(0, len(finite) - 1, MAX_POINTS).astype(int)) if len(finite) else slice(0)
    return np.concatenate([finite[:1], finite[keep]]), np.concatenate([[0.0][: len(finite)], share[keep]])


def token_delay(measured: Measurements) -> Figure | None:
    """The tail of the delivery delay: which share of the tokens came later than x."""
    cells = charted(measured)
    if not cells:
        return None
    figure = Figure(figsize=(9.5, 4.4), layout="constrained")
    axes = figure.subplots()
    lowest = 1e-4
    for cell in cells:
        x, later = _tail(cell)
        axes.step(x, np.maximum(later, lowest / 10), where="post", label=label(cell.key), **_line_style(cells, cell))
    log_ms(axes)
    axes.set_yscale("log")
    axes.set(ylim=(lowest, 1.3), xlabel="delay from due to received [ms], logarithmic")
    axes.set_ylabel("share of tokens that came later, logarithmic")
    axes.yaxis.set_major_locator(FixedLocator([1, 0.5, 0.1, 0.05, 0.01, 0.001, 0.0001]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g} %"))
    for share, name in ((0.5, "p50"), (0.05, "p95"), (0.01, "p99")):
        axes.axhline(share, color="#555555", linewidth=0.8, zorder=0)
        axes.annotate(
            name, (1.0, share), (4, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center"
        )
    _legend_below(figure, axes)
    return figure


def _tail(cell: MeasuredCell) -> tuple[Floats, Floats]:
    """Delays in ms and the share of tokens that came later than each; a lost token comes later than any."""
    counts = np.stack([cell.delays[b] for b in cell.blocks]).sum(axis=0, dtype=np.int64)
    used = np.flatnonzero(counts[: histogram.NEVER])
    if not len(used):
        return np.empty(0), np.empty(0)
    later = 1 - np.cumsum(counts)[used] / counts.sum()
    # Points where the curve has moved by a visible step, on either axis.
    key = np.round(np.log10(np.maximum(later, 1e-6)) * MAX_POINTS / 6)
    keep = np.unique(
        np.concatenate([[0], np.flatnonzero(np.diff(key)), np.flatnonzero(np.diff(key)) + 1, [len(used) - 1]])
    )
    x = histogram.values_ms(used[keep])
    return np.concatenate([x[:1], x]), np.concatenate([[1.0], later[keep]])


def staircase(measured: Measurements) -> Figure | None:
    """The same message over each transport, token by token, against the model's own pace."""
    cells = [g for g in charted(measured) if g.key in measured.samples and not g.key.is_control][:MAX_STAIRS]
    if not cells:
        return None
    figure = Figure(figsize=(9.5, 0.6 + 1.05 * len(cells)), layout="constrained")
    rows = np.atleast_1d(figure.subplots(len(cells), 1, sharex=True, sharey=True))
    for axes, cell in zip(rows, cells, strict=True):
        tokens = measured.samples[cell.key]
        so_far = np.arange(len(tokens.due_ms) + 1)
        due_s, received_s = np.sort(tokens.due_ms) / 1e3, tokens.received_ms / 1e3
        axes.step(_from_zero(received_s), so_far, where="post", color=colour(cell.key), linewidth=2.6)
        axes.step(_from_zero(due_s), so_far, where="post", color="black", linewidth=0.7, label="as the model made them")
        burst = int(np.unique(tokens.received_ms, return_counts=True)[1].max())
        axes.set_title(f"{label(cell.key)}   largest burst: {burst} token{'s' * (burst > 1)}", fontsize=10, pad=3)
        axes.set_ylim(bottom=0)
    rows[0].legend(loc="upper left", fontsize=9)
    rows[-1].set_xlabel("time since the question [s]")
    rows[0].set_xlim(left=0)
    rows[len(rows) // 2].set_ylabel("tokens so far")
    return figure


def _from_zero(x: Floats) -> Floats:
    """The first point again, so that a staircase rises from zero."""
    return np.append(x[:1], x)


def requests_and_bytes(measured: Measurements) -> Figure | None:
    """What travels for one message: requests, and bytes both ways."""
    cells = charted(measured)
    if not cells:
        return None
    figure = Figure(figsize=(9.5, 1.1 + 0.36 * len(cells)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _bars(left, cells, "requests_per_message", "requests per message")
    _bars(right, cells, "bytes_per_message", "bytes per message, both ways [B]")
    left.set_yticks(range(len(cells)), [label(g.key) for g in cells])
    left.invert_yaxis()
    return figure


def _bars(axes: Axes, cells: Sequence[MeasuredCell], column: str, title: str) -> None:
    found = [estimate(g, column) for g in cells]
    values = [e.value for e in found if np.isfinite(e.value)]
    for row, (cell, bar) in enumerate(zip(cells, found, strict=True)):
        if not np.isfinite(bar.value):
            axes.annotate(
                "not measured",
                (0, row),
                (4, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
            )
            continue
        error = [[bar.value - bar.lo], [bar.hi - bar.value]] if bar.has_interval else None
        axes.barh(row, bar.value, 0.65, color=colour(cell.key), xerr=error, error_kw={"linewidth": 1, "capsize": 2})
        end = bar.hi if bar.has_interval else bar.value
        axes.annotate(number(bar.value), (end, row), (5, 0), textcoords="offset points", va="center")
    axes.set_xlim(0, 1.25 * max(values, default=1))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.set_xlabel(title)
    axes.grid(axis="y", visible=False)


_PARTS = (
    ("client_cpu_us_per_token", "client", "", 1.0),
    ("server_only_cpu_us_per_token", "server", "////", 0.6),
    ("redis_cpu_us_per_token", "Redis", "xxxx", 0.35),
)


def _stack(axes: Axes, row: int, cell: MeasuredCell) -> None:
    """One bar of the CPU chart, and its total, which says what it lacks."""
    parts = {name: estimate(cell, column).value for column, name, *_ in _PARTS}
    total = 0.0
    for _, name, hatch, alpha in _PARTS:
        if parts[name] > 0:
            face = mpl.colors.to_rgba(colour(cell.key), alpha)
            axes.barh(row, parts[name], 0.65, left=total, color=face, hatch=hatch, edgecolor="white", linewidth=0)
            total += parts[name]
    lacking = [name for name, value in parts.items() if np.isnan(value)]
    text = number(total) + (f" without {listed(lacking)} (not measured)" if lacking else "")
    axes.annotate(text, (total, row), (5, 0), textcoords="offset points", va="center")


def cpu(measured: Measurements) -> Figure | None:
    """CPU time per delivered token, by who spent it."""
    cells = charted(measured)
    if not any(np.isfinite(estimate(g, column).value) for g in cells for column, *_ in _PARTS):
        return None
    figure = Figure(figsize=(9.5, 1.5 + 0.36 * len(cells)), layout="constrained")
    axes = figure.subplots()
    for row, cell in enumerate(cells):
        _stack(axes, row, cell)
    axes.set_yticks(range(len(cells)), [label(g.key) for g in cells])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel(f"CPU time per token [{METRICS['cpu_us_per_token'].unit.partition('/')[0]}]")
    axes.grid(axis="y", visible=False)
    keys = [Patch(facecolor=("#555555", a), hatch=h, edgecolor="white", label=name) for _, name, h, a in _PARTS]
    figure.legend(handles=keys, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3)
    return figure


KNEE = Chart(
    "knee",
    "How many users until the delay breaks",
    "Flat is good; the knee is the last step before a line crosses the limit, or messages are lost.",
    "The p99 token delay of the ten seconds at the end of each step, by transport. A failed message's tokens are "
    "infinitely late.",
    knee_curve,
    speed=False,
)
"""Of a search by Locust alone; other runs do not even name it."""

CHARTS = (
    Chart(
        "survival",
        "What survived",
        "Each square is one way to carry tokens (row) behind one intermediary (column): the share of messages that "
        "arrived complete, and its 95 % interval. Blue is what you want; read down a column to see what it takes.",
        "Complete: every token once, in order, the text's hash right, and the end message seen. Intervals: Wilson's. "
        "Rows without a recovery give up at the first drop. White: not run, or no valid cell.",
        survival,
        speed=False,
    ),
    Chart(
        "recovery_cost",
        "What coming back cost",
        "The same squares for the ways that recover: how long there was nothing, what came twice, what was asked "
        "again. A dash means that nothing dropped, or nothing could be asked.",
        "Time lost: from the last byte before a drop to the next token not seen before, added up over a message's "
        "drops; the median of the messages that dropped; ∞: most were never completed. Repeated: tokens received "
        "again, per message. Extra requests: per message, beyond the same transport's without an intermediary. "
        "Seconds as they were measured, not scaled.",
        recovery_cost,
        speed=False,
    ),
    Chart(
        "ttft",
        "Time to first token",
        "Further left is sooner; half of the messages lie below the 50 % line. A curve that ends below 100 % has "
        "failed messages.",
        "Time to first token: first complete token at the client minus the intended start of the message, so that a "
        "late client cannot hide. Overhead: the same minus the simulated model's own time to first token.",
        first_token,
    ),
    Chart(
        "delay",
        "Delivery delay per token",
        "Lower and further left is better; where a curve crosses the 1 % line is its p99. A curve that stops falling "
        "has lost tokens.",
        "Delay: the moment at which the client holds the complete, decoded token minus the moment at which the model "
        "produced it. Tokens that never came are infinitely late.",
        token_delay,
    ),
    Chart(
        "staircase",
        "One message, token by token",
        "The thin black line is the model's pace, colour what arrived: steps are bursts, and how far colour lags "
        "behind black, to the right, is the delay.",
        "The same message, with the same seed, in every row; the one with the median length of its block.",
        staircase,
    ),
    Chart(
        "requests_bytes",
        "Requests and bytes per message",
        "Shorter is cheaper. Whiskers are 95 % intervals.",
        "Requests: HTTP requests, a WebSocket's upgrade among them, and chat requests on it. Bytes: payload at the "
        "client's sockets both ways, headers and framing included, TCP and IP headers not.",
        requests_and_bytes,
    ),
    Chart(
        "cpu",
        "CPU time per token",
        "Shorter is cheaper. Solid is the client, hatched the server, crossed Redis.",
        "User and system time of each process while the messages were measured, divided by the tokens delivered.",
        cpu,
    ),
)

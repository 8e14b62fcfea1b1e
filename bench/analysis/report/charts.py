"""The report's pictures: a registry. A transport has one colour everywhere, and every picture its numbers beside it.

`CHARTS` lists them with what to read from each. Every function draws a figure from measurements and nothing else, so
that a notebook can show the same pictures; another makes the tables that a reader may open below it.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.analysis.measures.groups import Measurements
from bench.analysis.measures.missing import OVER_BASELINE
from bench.analysis.report import browser_charts, browser_numbers
from bench.analysis.report.costs import (
    CPU,
    TRAFFIC,
    WIRE,
    cpu,
    data_of,
    over_baseline,
    payload_and_wire,
    requests_and_bytes,
)
from bench.analysis.report.distributions import (
    first_token,
    first_token_data,
    staircase,
    staircase_data,
    token_delay,
    token_delay_data,
)
from bench.analysis.report.heatmaps import recovery_cost, survival_heatmaps
from bench.analysis.report.knee import knee_curve, knee_data
from bench.analysis.report.number_tables import Table
from bench.analysis.report.theme import STYLE, any_letters
from bench.analysis.report.waterfall_chart import data as waterfall_data
from bench.analysis.report.waterfall_chart import of_this_machine
from servers.foreign_text import printable

_COMPLETE_ONLY = "Whoever lost messages is not here: what is lost costs nothing."


def no_data(_: Measurements) -> list[Table]:
    """For a picture whose numbers the page shows as they are."""
    return []


@dataclass(frozen=True)
class Chart:
    """A picture of the report: its file name, title, how to read it, what it shows exactly, what draws it, its numbers.

    Those of `speed` or cost are not drawn where cells shared the machine.
    """

    name: str
    title: str
    reading: str
    definition: str
    draw: Callable[[Measurements], Figure | None]
    data: Callable[[Measurements], list[Table]]
    speed: bool = True

    def figure(self, measured: Measurements) -> Figure | None:
        """The picture; None without data for it, and of speed where the run cannot tell, as cells ran side by side."""
        return self.draw(measured) if measured.cells_at_once == 1 or not self.speed else None


def write_charts(measured: Measurements, folder: Path) -> list[Chart]:
    """Draw all charts that the run has data for, as PNG and SVG in `folder`; which ones those are."""
    folder.mkdir(exist_ok=True)
    drawn = []
    with mpl.rc_context(STYLE):
        for chart in (KNEE, *BROWSER, *CHARTS):
            figure = chart.figure(measured)
            if figure is not None:
                _save(figure, folder / chart.name)
                drawn.append(chart)
    return drawn


def _save(figure: Figure, stem: Path) -> None:
    FigureCanvasAgg(figure)
    with any_letters():
        figure.savefig(stem.with_suffix(".png"), dpi=144, metadata={"Software": None})
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    stem.with_suffix(".svg").write_text(printable(drawn.getvalue()), "utf-8")


KNEE = Chart(
    "knee",
    "How many users until the delay breaks",
    "Flat is good; the knee is the last step before a line crosses the limit, or messages are lost.",
    "The p99 token delay of the ten seconds at the end of each step, by transport. A failed message's tokens are "
    "infinitely late.",
    knee_curve,
    knee_data,
    speed=False,
)
"""Of a search by Locust alone; other runs do not even name it."""

BROWSER = (
    Chart(
        "painted",
        "What a browser adds to the first token",
        "Further left is sooner. From pale to full: the asyncio client has the first token, a page's script has it, "
        "and the frame with it is painted.",
        "One message alone in a page of headless Chromium, with the module stream-chat.js. Painted: the first task "
        "behind the frame that had the token in it, so style, layout and paint are done; the compositor and a real "
        "screen come after. Tokens per frame: of frames with something new. Dropped frames: those that did not come "
        "while a message went on. Long tasks: of the page, over 50 ms. The page's clock was set against the server's "
        "by round trips, which also say how far it can be wrong.",
        browser_charts.painted,
        browser_numbers.painted_tables,
    ),
    Chart(
        "at_once",
        "Six connections to a server",
        "Flat is good. Lines: the first token of the last of so many messages that began at one moment in one page; "
        "dots: every message. Over HTTP/1.1 the seventh waits until one of six connections is free.",
        "Browsers open at most six connections to a host over HTTP/1.1, for fetch and EventSource together; a "
        "WebSocket counts apart, and HTTP/2 carries all requests on one connection. Lines: medians over the bursts.",
        browser_charts.at_once,
        browser_numbers.at_once_tables,
    ),
)
"""Of runs in which a browser asked; others do not name them either."""

CHARTS = (
    Chart(
        "survival",
        "What survived",
        "Each square is one way to carry tokens (row) behind one intermediary (column): the share of messages that "
        "arrived complete, and its 95 % interval. Blue is what you want; read down a column to see what it takes.",
        "Complete: every token once, in order, the text's hash right, and the end message seen. Intervals: Wilson's. "
        "Rows without a recovery give up at the first drop. White: not run, or no valid cell.",
        survival_heatmaps,
        no_data,  # the page has the squares themselves
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
        no_data,
        speed=False,
    ),
    Chart(
        "ttft",
        "Time to first token",
        "Further left is sooner. Each row has its own line, so equal ones stay apart: a dot for the median, thick for "
        "the middle half of the messages, thin from 5 % to 95 %, a diamond for the 99th percentile.",
        "Time to first token: first complete token at the client minus the intended start of the message, so that a "
        "late client cannot hide. Below, the same minus the simulated model's own time to first token. A message that "
        "failed is infinitely late: ∞. A grey band, where `tokenderby calibrate` has measured it, is the harness's own "
        "error.",
        first_token,
        first_token_data,
    ),
    Chart(
        "delay",
        "Delivery delay per token",
        "Further left is better: how late each token was. A dot for the median, thick for the middle half of the "
        "tokens, thin from 5 % to 95 %, a diamond for the 99th percentile.",
        "Delay: the moment at which the client holds the complete, decoded token minus the moment at which the model "
        "produced it. Tokens that never came are infinitely late. A grey band, where `tokenderby calibrate` has "
        "measured it, is the harness's own error.",
        token_delay,
        token_delay_data,
    ),
    Chart(
        "staircase",
        "One message, token by token",
        "The thin line is the model's pace, colour what arrived: steps are bursts, and how far colour lags behind, to "
        "the right, is the delay.",
        "The same message, with the same seed, in every row; the one with the median length of its block.",
        staircase,
        staircase_data,
    ),
    Chart(
        "waterfall",
        "Where a token's delay comes from",
        "Each bar is one transport's mean delay, on a scale of its own, cut into the stages that a token passes.",
        "Measured by `tokenderby calibrate` on this machine when it was idle, through a proxy that stamps what passes. "
        "The stages of a token add up to its whole.",
        of_this_machine,
        waterfall_data,
    ),
    Chart(
        "requests_bytes",
        "Requests and bytes per message",
        f"Shorter is cheaper. Whiskers are 95 % intervals. {_COMPLETE_ONLY}",
        "Requests: HTTP requests, a WebSocket's upgrade among them, and chat requests on it. Bytes: payload at the "
        "client's sockets both ways, headers and framing included, TCP and IP headers not.",
        requests_and_bytes,
        data_of("Requests and bytes", tuple(TRAFFIC)),
    ),
    Chart(
        "traffic",
        "Bytes per token: payload and wire",
        f"Shorter is cheaper. Many small packets cost more on the wire than in the payload. {_COMPLETE_ONLY}",
        "Payload: what the sockets carried both ways. Wire: the same with the headers of every packet that the kernel "
        "counted (TCP_INFO), acknowledgements among them. The stamps of this benchmark itself are taken off both.",
        payload_and_wire,
        data_of("Payload and wire", (*WIRE, "packets_per_token", "stamp_bytes_per_token")),
    ),
    Chart(
        "cpu",
        "CPU time per token",
        f"Shorter is cheaper. Full colour is the client, paler the server, palest Redis. {_COMPLETE_ONLY}",
        "User and system time of each process while the messages were measured, divided by the tokens delivered.",
        cpu,
        data_of("CPU per token", ("cpu_us_per_token", *CPU)),
    ),
    Chart(
        "cpu_over_baseline",
        "CPU time above the baseline",
        f"Right, what streaming itself costs; left, the whole. {_COMPLETE_ONLY}",
        "The baseline (blocking) pays for the same model, clock and messages in the same block; what it takes per "
        "token is taken off. All of it falls per token as the load grows.",
        over_baseline,
        data_of("CPU above the baseline", ("cpu_us_per_token", OVER_BASELINE)),
    ),
)

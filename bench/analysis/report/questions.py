"""A reader's own questions to a run, for results/review.ipynb: what the report does not ask.

One cell against another, one message token by token, and what it would take at so many users. Tables hold text as
people read it. A run's folder may come from anybody: names in Markdown and tables are words there, and nothing else.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.analysis.measures.groups import Key, MeasuredCell, Measurements
from bench.analysis.measures.metrics import METRICS, estimate, estimator
from bench.analysis.report.charts import Chart
from bench.analysis.report.number_tables import Table, number_tables
from bench.analysis.report.page import excluded_lines
from bench.analysis.report.report import Summary, summarize
from bench.analysis.report.score_view import STANDINGS, ScoreSquare, boards
from bench.analysis.report.shown_cells import charted
from bench.analysis.report.theme import STYLE, TEXT, WIDTH_INCHES, any_letters, colour, label, log_ms
from bench.analysis.statistics import intervals
from bench.analysis.statistics.claims import MIN_BLOCKS, judged, scale
from bench.analysis.statistics.contrasts import Contrast, paired
from bench.analysis.statistics.intervals import Estimate
from bench.analysis.statistics.wording import count, counted, listed, number, times, value_with_interval, with_unit
from bench.store import LATEST, RunFolder, StoreError, open_run
from servers.foreign_text import in_markdown, printable

DPI = 96
MEASURES = {"token delay": "delay_ms", "first token": "ttft_ms", "first token over the model's own": "ttft_overhead_ms"}
PERCENTILES = (50, 95, 99)
STAGES = {"lag_ms_p50": "until the server had sent it", "transit_ms_p50": "from there until the client held it"}
WHICH = {"median": 0.5, "soonest": 0.0, "latest": 1.0}
"""Which message of a cell, by its first token's overhead; failed ones are the latest."""


def runs(results_dir: Path) -> list[str]:
    """The names of the runs in a folder that have tables: the latest first, then the newest, the reference run last."""
    names = {path.parent.name for path in results_dir.glob("*/streams.parquet")} - {LATEST}
    newest_first = sorted(names, key=lambda name: (name[:1].isdigit(), name), reverse=True)
    link = results_dir / LATEST
    latest = link.read_text("utf-8").strip() if link.is_file() else link.resolve().name
    return sorted(newest_first, key=lambda name: name != latest)


def latest(results_dir: Path = Path()) -> Summary:
    """The latest complete run of a folder (a notebook's own is `results/`). Raises StoreError if there is none."""
    return summarize(open_run(next(iter(runs(results_dir)), LATEST), results_dir))


def answer(summary: Summary) -> str:
    """What failed altogether, and the sentence that answers what the run was made for, as Markdown."""
    failed = [in_markdown(found.sentence) for found in summary.failed]
    return "\n\n".join([*failed, f"**{in_markdown(summary.headline)}**", *points(summary.decision)])


def points(sentences: Iterable[str]) -> list[str]:
    """Sentences as the points of a list in Markdown, to be displayed one by one or together."""
    return [f"- {in_markdown(sentence)}" for sentence in sentences]


def chosen(name: str, summary: Summary) -> str:
    """Which run all that follows is about, and its answer, as Markdown."""
    return f"All that follows is about **{in_markdown(name)}**. {answer(summary)}"


def warnings(summary: Summary) -> list[str]:
    """What makes a run's numbers weak: each a point in Markdown."""
    return [f"- **{warning.severity}**: {in_markdown(warning.text)}" for warning in summary.warnings]


def board(measured: Measurements) -> pd.DataFrame:
    """The scoreboard of the first group: a row per contestant, a number with its interval and where it stands."""
    first = next(iter(boards(measured)), None) if measured.cells_at_once == 1 else None
    if first is None:
        return pd.DataFrame()
    columns = [f"{title} [{unit}]" for title, unit in first.headings]
    rows = {row.title: [_square(square, first.notes) for square in row.squares] for row in first.rows}
    return _readable(pd.DataFrame.from_dict(rows, orient="index", columns=columns))


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    """A table of text without signs that steer what shows it; pandas itself escapes what HTML would obey."""

    def words(value: object) -> object:
        return printable(value) if isinstance(value, str) else value

    return table.rename(index=words, columns=words).map(words)


def _square(square: ScoreSquare, notes: Sequence[str]) -> str:
    sure = f" ({square.interval})" if square.interval else ""
    ratio = f" {square.ratio}" if square.ratio else ""
    why = f": {notes[square.note - 1]}" if square.note else ""
    return f"{square.value}{sure}, {STANDINGS[square.standing]}{ratio}{why}"


def verdicts(summary: Summary) -> str:
    """A sentence per question, as Markdown."""
    if not summary.verdicts:
        return "*The cells of this run ran side by side, so it is no race.*"
    asked = ((f"{v.question} ({v.group})" if v.group else v.question, v) for v in summary.verdicts)
    told = ((in_markdown(question), v.status, in_markdown(v.sentence)) for question, v in asked)
    return "\n\n".join(f"**{question}** *{status}*  \n{sentence}" for question, status, sentence in told)


def facts(measured: Measurements) -> pd.DataFrame:
    """What was run, and on what: a row each."""
    run = measured.run
    known: dict[str, object] = {
        "plan": run.plan.get("name", run.name),
        "description": run.plan.get("description"),
        "started": run.started,
        "ended": run.ended,
        "status": run.status,
        "cells": f"{len(measured.cells)} × {len({cell.block for cell in run.cells})} blocks",
        "valid messages": count(sum(len(cell.messages) for cell in measured.cells)),
        "time scale": f"{run.time_scale:g}",
        **run.machine,
        **run.versions,
        "git commit": run.git_commit,
        "schedule SHA-256": run.schedule_sha256,
    }
    rows = {name.replace("_", " "): str(value) for name, value in known.items() if value not in (None, "")}
    return _readable(pd.DataFrame({run.name: rows}))


def excluded(measured: Measurements) -> pd.DataFrame:
    """The cells that count in no number, and why; empty if there are none."""
    return _readable(pd.DataFrame(excluded_lines(measured.excluded), columns=["cell", "status", "blocks", "why"]))


def numbers(measured: Measurements) -> dict[str, pd.DataFrame]:
    """The report's tables by their titles: a column per cell, each number with its 95 % interval."""
    return {table.title: _frame(table) for table in number_tables(measured)}


def _frame(table: Table) -> pd.DataFrame:
    columns = [f"{name} [{unit}]" if unit else name for name, unit in table.headings]
    rows = [[f"{value} ({sure})" if sure else value for value, sure in row.cells] for row in table.rows]
    titles = [f"{row.title} ({row.standing})" if row.standing else row.title for row in table.rows]
    return _readable(pd.DataFrame(rows, columns=columns, index=titles).T)


def png(figure: Figure) -> bytes:
    """A figure as a picture."""
    FigureCanvasAgg(figure)
    data = io.BytesIO()
    with mpl.rc_context(STYLE), any_letters():
        figure.savefig(data, dpi=DPI, bbox_inches="tight", metadata={"Software": None})
    return data.getvalue()


def chart(measured: Measurements, which: Chart) -> bytes | None:
    """One of the report's charts as PNG; None where the run has no data for it."""
    with mpl.rc_context(STYLE):
        figure = which.figure(measured)
    return None if figure is None else png(figure)


def stages_figure(measured: Measurements) -> Figure | None:
    """The median of each of STAGES with its 95 % interval; None unless cells had the machine to themselves.

    Points, since bars have no foot on a logarithmic axis.
    """
    cells = charted(measured)
    if not cells or measured.cells_at_once > 1:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.4 * WIDTH_INCHES, 1.2 + 0.4 * len(cells)), layout="constrained")
        for axes, (column, title) in zip(figure.subplots(1, 2, sharex=True, sharey=True), STAGES.items(), strict=True):
            axes.set(title=title, xlabel="median [ms], logarithmic", ylim=(len(cells) - 0.3, -0.8))
            axes.set_yticks(range(len(cells)), [label(cell.key) for cell in cells])
            for row, cell in enumerate(cells):
                _point(axes, row, estimate(cell, column), colour(cell.key))
            axes.margins(x=0.12)
            log_ms(axes)
    return figure


def _point(axes: Axes, row: int, found: Estimate, shade: str) -> None:
    whiskers = [[found.value - found.lo], [found.hi - found.value]] if found.has_interval else None
    axes.errorbar(found.value, row, xerr=whiskers, fmt="o", color=shade, capsize=2)
    axes.annotate(number(found.value), (found.value, row), (0, 6), textcoords="offset points", ha="center")


def cells(measured: Measurements) -> list[str]:
    """The titles of the cells that have valid blocks, as the other functions take them."""
    return [cell.key.title for cell in measured.cells if cell.blocks]


def find(measured: Measurements, title: str) -> MeasuredCell:
    """The cell of that title. Raises KeyError, which names those that there are."""
    for cell in measured.cells:
        if cell.key.title == title and cell.blocks:
            return cell
    raise KeyError(f"no valid cell {title!r}; this run has {listed(cells(measured))}")


def against(measured: Measurements, a: str, b: str, measure: str = "token delay", percentile: int = 50) -> str:
    """One cell against another at a percentile, as Markdown, judged as `tokenderby compare` does. Raises KeyError."""
    column = f"{MEASURES[measure]}_p{percentile}"
    if column not in METRICS:
        return f"There is no p{percentile} of “{measure}”; take another percentile."
    pair = [find(measured, title) for title in (a, b)]
    common = sorted(set(pair[0].blocks) & set(pair[1].blocks))  # only these compare
    of_a, of_b = (estimator(each, column).on(common) for each in pair)
    a, b = in_markdown(a), in_markdown(b)
    values = [f"{title} {value_with_interval(intervals.estimate_of(of))} ms" for title, of in ((a, of_a), (b, of_b))]
    sentence = f"**{METRICS[column].title}** over {counted(len(common), 'common block')}: {listed(values)}."
    if measured.cells_at_once > 1:
        return f"{sentence} No claim: cells ran side by side, so this run says nothing of speed."
    contrast = paired(of_a, of_b)
    if math.isnan(contrast.ratio.value):
        return f"{sentence} Nothing to compare: a dash means too few messages for this percentile."
    other = "" if pair[0].key.group == pair[1].key.group else " The two did not run under the same conditions."
    return f"{sentence} {a} ÷ {b} = {times(contrast.ratio)}. {_judged(contrast, column, measured.unfit)}{other}"


def _judged(contrast: Contrast, column: str, unfit: str) -> str:
    """What one comparison, a family of its own, may be called."""
    (finding,) = judged([(contrast, scale(column, METRICS[column].unit))], unfit)
    if finding.claimed:
        return "A difference: it is more than chance and the harness's own error."
    if contrast.is_tie:
        return "Equal in every block."
    return f"{'No claim' if unfit or contrast.blocks < MIN_BLOCKS else 'Not resolved'}: {finding.reason}."


@dataclass(frozen=True)
class Message:
    """One message: its row of streams.parquet, and its tokens, in ms after its intended start."""

    key: Key
    row: pd.Series[Any]
    tokens: pd.DataFrame

    @property
    def sentence(self) -> str:
        """What became of it, as Markdown."""
        row = self.row
        first = f"first token after {with_unit(row['ttft_ms'], 'ms')}"
        over = f"{with_unit(row['ttft_overhead_ms'], 'ms')} of it over the model's own"
        got = f"tokens {len(self.tokens)} of {row['tokens_expected']}, reads {self.tokens['read'].nunique()}"
        got += f", requests {row['requests']}"
        who = f"{self.key.title}, {row['stream_id']} (block {row['block']}): {row['outcome']}"
        return in_markdown(f"{who}, {first}, {over}; {got}.")


def message(folder: RunFolder, measured: Measurements, title: str, which: str = "median") -> Message:
    """One message of a cell, chosen by WHICH. Raises KeyError."""
    cell = find(measured, title)
    ordered = cell.messages.sort_values("ttft_overhead_ms", kind="stable")
    return _message(folder, cell.key, ordered.iloc[round(WHICH[which] * (len(ordered) - 1))])


def message_named(folder: RunFolder, measured: Measurements, stream_id: str) -> Message:
    """The message with that `stream_id`. Raises StoreError if no valid cell has it."""
    for cell in measured.cells:
        rows = cell.messages[cell.messages["stream_id"] == stream_id]
        if len(rows):
            return _message(folder, cell.key, rows.iloc[0])
    raise StoreError(f"{folder.path.name}: no valid cell has a message {stream_id!r}")


def _message(folder: RunFolder, key: Key, row: pd.Series[Any]) -> Message:
    found = pq.read_table(folder.tokens_path, filters=[("stream_id", "=", row["stream_id"])]).to_pandas()
    begin_ns = int(row["intended_start_ns"])
    columns = {f"{name} [ms]": (found[f"{name}_ns"] - begin_ns) / 1e6 for name in ("due", "sent", "received")}
    delay_ms = columns["received [ms]"] - columns["due [ms]"]
    tokens = pd.DataFrame({"token": found["i"], **columns, "delay [ms]": delay_ms, "read": found["read"]})
    return Message(key, row, tokens)


def message_figure(asked: Message) -> Figure | None:
    """Each token as a line from when it was due, over when it was sent, to when it came; None if none came."""
    tokens = asked.tokens
    if tokens.empty:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.4 * WIDTH_INCHES, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.hlines(tokens["token"], tokens["due [ms]"], tokens["sent [ms]"], color=TEXT, alpha=0.4)
        axes.hlines(tokens["token"], tokens["sent [ms]"], tokens["received [ms]"], color=colour(asked.key), alpha=0.5)
        axes.plot(tokens["due [ms]"], tokens["token"], ".", color=TEXT, markersize=3, label="due")
        axes.plot(
            tokens["received [ms]"], tokens["token"], ".", color=colour(asked.key), markersize=6, label="received"
        )
        axes.set(xlabel="time since the question [ms]", ylabel="token", title=asked.key.title)
        axes.legend(loc="upper left")
    return figure


def cost_at(measured: Measurements, users: int, messages_per_hour: float = 20.0) -> pd.DataFrame:
    """What each cell would take at so many users who ask so often: proportional to what was measured, no more.

    Nothing here says that one machine could serve them. Cores are the servers' and Redis's; 95 % intervals. Of a run
    whose cells ran side by side the CPU is left out.
    """
    messages_per_s = users * messages_per_hour / 3600
    rows = {}
    for cell in (cell for cell in measured.cells if cell.blocks and not cell.key.is_control):
        delivered_per_s = messages_per_s * cell.totals["delivered"].sum() / cell.totals["messages"].sum()
        rows[cell.key.title] = {
            name: value_with_interval(estimate(cell, column).times(factor))
            for name, column, factor in (
                ("requests/s", "requests_per_message", messages_per_s),
                ("Mbit/s", "bytes_per_message", messages_per_s * 8 / 1e6),
                ("server cores, with Redis", "server_cpu_us_per_token", delivered_per_s / 1e6),
                ("of these Redis", "redis_cpu_us_per_token", delivered_per_s / 1e6),
            )
            if measured.cells_at_once == 1 or "cpu" not in column
        }
    return _readable(pd.DataFrame.from_dict(rows, orient="index"))

"""The report as one self-contained page: no file, font or script from elsewhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from bench.analysis.buffering import held_back
from bench.analysis.charts import Chart, charted, colour
from bench.analysis.claims import MIN_BLOCKS
from bench.analysis.contrasts import paired
from bench.analysis.groups import MeasuredCell, Measurements
from bench.analysis.histogram import RELATIVE_WIDTH
from bench.analysis.intervals import RESAMPLES
from bench.analysis.knee import knee_of
from bench.analysis.metrics import METRICS, estimate, estimator
from bench.analysis.run_warnings import RunWarning
from bench.analysis.story import Claim
from bench.analysis.survival import advice, how_noticed, survival_maps, twins
from bench.analysis.verdicts import Verdict
from bench.analysis.wording import count, interval, number
from bench.store import CellRecord, Run
from clients.minima import MESSAGES_NEEDED

LOOPBACK = (
    "Clients and servers ran on one machine over the loopback device: no round-trip time, no loss, no TLS, and both "
    "ends share the processor. Thresholds (100 ms for a stall, what makes a cell void) are choices made before the run."
)

_SPEED = (
    *("ttft_ms_p50", "ttft_ms_p95", "ttft_ms_p99", "ttft_overhead_ms_p50", "ttft_overhead_ms_p99"),
    *("delay_ms_p50", "delay_ms_p95", "delay_ms_p99", "burst_tokens_mean", "burst_emitted_mean"),
    "stalls_per_1k_tokens",
)
_TRANSIT = "transit_ms_p50"
_STAGES = ("lag_ms_p50", "lag_ms_p99", _TRANSIT, "transit_ms_p99")
_COST = (
    *("completed_ratio", "requests_per_message", "connections_per_message", "bytes_per_token"),
    *("client_cpu_us_per_token", "server_cpu_us_per_token", "recovery_ms_p50"),
)
_EVENTS = ("tokens_lost", "tokens_duplicated", "drops")
_DROP = ("detection_ms_p50", "recovery_ms_p50", "catch_up_ms_p50")
_DROP_MEANS = ("drops", "requests", "connections", "tokens_discarded", "tokens_wasted")  # per message


@dataclass(frozen=True)
class Row:
    """A row of a table: the swatch's colour, and per column the value and its interval as text."""

    title: str
    colour: str
    valid: bool
    cells: list[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """A table of the report; headings are a name and a unit each."""

    title: str
    headings: list[tuple[str, str]]
    rows: list[Row]


class Excluded(NamedTuple):
    """Void or failed cells of one kind, with the same reason, put together."""

    cell: str
    status: str
    blocks: str
    why: str


def render(
    measured: Measurements,
    verdicts: Sequence[Verdict],
    warnings: Sequence[RunWarning],
    claims: Sequence[Claim],
    pictures: Iterable[tuple[Chart, Path]],
) -> str:
    """The page as HTML; whatever comes from the run is escaped."""
    environment = Environment(
        loader=PackageLoader("bench.analysis", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    run = measured.run
    shown = len(charted(measured))
    return environment.get_template("report.html.j2").render(
        run=run,
        facts=_facts(measured),
        warnings=warnings,
        questions=_by_question(verdicts),
        claims=claims,
        knee=knee_of(run),
        needed=", ".join(f"p{100 * p:g} needs {n} messages" for p, n in MESSAGES_NEEDED.items() if n > 1),
        tables=tables(measured),
        advice=[found.sentence for found in advice(survival_maps(measured))],
        alarms=[alarm.sentence for alarm in held_back(measured)],
        twins=_twin_lines(measured),
        charts=[_picture(chart, path) for chart, path in pictures],
        shown=shown,
        hidden=len(measured.cells) - shown,
        excluded=excluded_lines(measured.excluded),
        bin_width=f"{100 * RELATIVE_WIDTH:g} %",
        resamples=count(RESAMPLES),
        tested=sum(len(v.pairs) for v in verdicts),
        min_blocks=MIN_BLOCKS,
        limits=LOOPBACK,
        particulars=_particulars(run),
        plan=json.dumps(run.plan, indent=1, ensure_ascii=False, default=str),
    )


def speed_table(cells: Sequence[MeasuredCell]) -> Table:
    """How soon and how smoothly."""
    rows = [_row(g, [(count(len(g.messages)), "")], _SPEED) for g in cells]
    return Table("Speed", [("messages", ""), *_headings(_SPEED)], rows)


def cost_table(cells: Sequence[MeasuredCell], columns: Sequence[str] = _COST) -> Table:
    """What it cost, and what went missing."""
    rows = [_row(g, [(count(int(g.messages[e].sum())), "") for e in _EVENTS], columns) for g in cells]
    return Table("Cost and completeness", [*((e.replace("_", " "), "") for e in _EVENTS), *_headings(columns)], rows)


def tables(measured: Measurements) -> list[Table]:
    """Those that have something to say: speed and CPU only where cells had the machine to themselves."""
    cells = measured.cells
    if measured.cells_at_once == 1:
        found = [speed_table(cells), stage_table(cells), cost_table(cells), drops_table(cells)]
    else:
        found = [cost_table(cells, [c for c in _COST if "cpu" not in c]), drops_table(cells)]
    return [table for table in found if table.rows]


def stage_table(cells: Sequence[MeasuredCell]) -> Table:
    """Where a token's delay comes from, stage by stage; the proxy's is what it adds to the same cell without it."""
    direct = {g.key: g for g in cells if g.key.profile == "direct" and g.blocks}
    rows = []
    for cell in cells:
        bare = direct.get(cell.key._replace(profile="direct"))
        added = paired(estimator(cell, _TRANSIT), estimator(bare, _TRANSIT)) if bare else None
        through = number(added.a - added.b) if added and cell.key.profile != "direct" else "–"
        rows.append(_row(cell, [], _STAGES, last=[(through, "")]))
    headings = [*_headings(_STAGES), ("of that, the proxy p50", "ms")]
    return Table("Where the delay comes from", headings, rows)


def drops_table(cells: Sequence[MeasuredCell]) -> Table:
    """Of the cells that had drops: how they were noticed, what they cost. Means are per message of the cell."""
    rows = []
    for cell in cells:
        if (cell.messages["drops"] > 0).any():
            means = [(number(float(cell.messages[column].mean())), "") for column in _DROP_MEANS]
            rows.append(_row(cell, [(how_noticed(cell.messages), ""), *means], _DROP))
    headings = [("noticed by", ""), *((f"{column.replace('_', ' ')} per message", "") for column in _DROP_MEANS)]
    return Table("Drops, and coming back", [*headings, *_headings(_DROP)], rows)


class TwinLine(NamedTuple):
    """A cell behind an emulated intermediary beside the same behind the real one; each value as text."""

    cell: str
    complete: str
    real_complete: str
    noticed: str
    real_noticed: str
    cut_s: str
    real_cut_s: str
    difference_ms: str


def _twin_lines(measured: Measurements) -> list[TwinLine]:
    def complete(cell: MeasuredCell) -> str:
        return f"{int(cell.messages['completed'].sum())}/{len(cell.messages)}"

    def cut_s(cell: MeasuredCell) -> str:
        return number(estimate(cell, "detection_ms_p50").value / 1e3)

    lines = []
    for pair in twins(measured):
        a, b = pair.emulated, pair.real
        line = TwinLine(
            cell=a.key.title,
            complete=complete(a),
            real_complete=complete(b),
            noticed=how_noticed(a.messages) or "–",
            real_noticed=how_noticed(b.messages) or "–",
            cut_s=cut_s(a),
            real_cut_s=cut_s(b),
            difference_ms=number(pair.difference_ms),
        )
        lines.append(line)
    return lines


def _headings(columns: Sequence[str]) -> list[tuple[str, str]]:
    """Names and units; a unit such as "requests/message" would only repeat the name."""
    units = {c: METRICS[c].unit for c in columns}
    return [(METRICS[c].title, "" if "/" in unit else unit) for c, unit in units.items()]


def _row(
    cell: MeasuredCell, first: list[tuple[str, str]], columns: Sequence[str], last: Sequence[tuple[str, str]] = ()
) -> Row:
    found = [estimate(cell, column) for column in columns]
    cells = [*first, *((number(e.value), "" if e.lo == e.hi else interval(e)) for e in found), *last]
    return Row(cell.key.title, colour(cell.key), cell.is_valid, cells)


def excluded_lines(cells: Sequence[CellRecord]) -> list[Excluded]:
    """Void and failed cells for people: all blocks of a cell in one line, each kind of reason once."""

    def fate(cell: CellRecord) -> tuple[str, str]:
        return cell.cell, cell.status

    lines = []
    for (name, status), alike in groupby(sorted(cells, key=lambda c: (fate(c), c.block)), key=fate):
        same = list(alike)
        lines.append(Excluded(name, status, ", ".join(str(c.block) for c in same), _why(same)))
    return lines


def _why(cells: Sequence[CellRecord]) -> str:
    """The first reason of each kind, and how often that kind came; a kind is what stands before the numbers."""
    kinds: dict[str, list[str]] = {}
    for reason in (reason for cell in cells for reason in cell.reasons):
        kinds.setdefault(reason.partition(":")[0], []).append(reason)
    texts = [same[0] + (f" (in {len(same)} blocks)" if len(same) > 1 else "") for same in kinds.values()]
    return "; ".join(texts) or "no reason given"


def _by_question(verdicts: Sequence[Verdict]) -> list[tuple[str, str, list[Verdict]]]:
    found = groupby(verdicts, key=lambda v: (v.group, v.question))
    return [(group, question, list(answers)) for (group, question), answers in found]


def _picture(chart: Chart, path: Path) -> dict[str, str]:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    texts = {"title": chart.title, "reading": chart.reading, "definition": chart.definition}
    return {**texts, "source": f"data:image/svg+xml;base64,{data}"}


def _facts(measured: Measurements) -> str:
    run = measured.run
    blocks = len({cell.block for cell in run.cells})
    messages = sum(len(g.messages) for g in measured.cells)
    scaled = f" · time-scaled: times of the plan divided by {run.time_scale:g}" if run.time_scale != 1 else ""
    size = f"{len(measured.cells)} cells × {blocks} blocks, {count(messages)} valid messages"
    return f"{run.started or 'start unknown'} · {run.status} · {size}{scaled}"


def _particulars(run: Run) -> list[tuple[str, str]]:
    known = {
        "started": run.started,
        "ended": run.ended,
        "seed": run.seed,
        "schedule SHA-256": run.schedule_sha256,
        "git commit": run.git_commit,
        "time scale": f"{run.time_scale:g}",
        **run.machine,
        **run.versions,
    }
    return [(name.replace("_", " "), str(value)) for name, value in known.items() if not _absent(value)]


def _absent(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and pd.isna(value))

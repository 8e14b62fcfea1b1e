"""The report as one self-contained page: no file, font or script from elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bench.analysis.findings.buffering_alarm import held_back
from bench.analysis.findings.failures import (
    CellFailures,
    TotalFailure,
    failures,
    incomplete_names,
    nothing_measured,
    total_failures,
)
from bench.analysis.findings.gates import gates, ordered
from bench.analysis.findings.headline import headline
from bench.analysis.findings.recommendation import Recommendation, is_wanted, recommendation
from bench.analysis.findings.run_warnings import RunWarning
from bench.analysis.findings.story import Claim, answer_of
from bench.analysis.findings.survival import advice, how_noticed, survival_maps, survivors_sentence, twins
from bench.analysis.findings.verdicts import Verdict
from bench.analysis.measures.groups import MeasuredCell, Measurements
from bench.analysis.measures.metrics import METRICS, estimate
from bench.analysis.measures.polling_theory import Theory, requests_explained, theory
from bench.analysis.report.charts import Chart
from bench.analysis.report.heatmaps import recovery_heat, survival_heat
from bench.analysis.report.inline_svg import inline
from bench.analysis.report.knee import knee_of
from bench.analysis.report.number_tables import Table, number_tables, without_dashes
from bench.analysis.report.score_view import STANDINGS, boards, resolution_sentence
from bench.analysis.report.shown_cells import charted
from bench.analysis.report.theme import PALETTE
from bench.analysis.statistics.claims import MIN_BLOCKS
from bench.analysis.statistics.histogram import RELATIVE_WIDTH
from bench.analysis.statistics.intervals import RESAMPLES
from bench.analysis.statistics.wording import count, counted, listed, number
from bench.run_record import CellRecord, Run
from clients.minima import MESSAGES_NEEDED
from servers.foreign_text import printable

LOOPBACK = (
    "Clients and servers ran on one machine over the loopback device: no round-trip time, no loss, no TLS, and both "
    "ends share the processor. Thresholds (100 ms for a stall, what makes a cell void) are choices made before the run."
)
OPEN_FAILURES = 8  # a longer table of failures is folded
WIDE_MAP = 8  # a survival map of more columns than this scrolls on a phone


class Excluded(NamedTuple):
    """Void or failed cells of one kind, with the same reason, put together."""

    cell: str
    status: str
    blocks: str
    why: str


class Picture(NamedTuple):
    """A chart in the page: its drawing as an element, and the tables behind it."""

    chart: Chart
    drawing: Markup
    data: list[Table]


def render(
    measured: Measurements,
    verdicts: Sequence[Verdict],
    warnings: Sequence[RunWarning],
    claims: Sequence[Claim],
    pictures: Iterable[tuple[Chart, Path]],
) -> str:
    """The page as HTML; whatever comes from the run is escaped."""
    environment = Environment(
        loader=PackageLoader("bench.analysis.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    return environment.get_template("report.html.j2").render(
        palette=PALETTE,
        contents=[],  # the template fills it while it sets the headings
        run=measured.run,
        warnings=warnings,
        claims=claims,
        claims_rows=[(claim.text, claim.verdict, claim.measured) for claim in claims],
        charts=[_picture(measured, chart, path) for chart, path in pictures],
        min_blocks=MIN_BLOCKS,
        limits=LOOPBACK,
        wide_map=WIDE_MAP,
        open_failures=OPEN_FAILURES,
        standings=STANDINGS,
        needed=", ".join(f"p{100 * p:g} needs {n} messages" for p, n in MESSAGES_NEEDED.items() if n > 1),
        bin_width=f"{100 * RELATIVE_WIDTH:g} %",
        resamples=count(RESAMPLES),
        **_answers(measured, claims),
        **_findings(measured, verdicts),
        **_provenance(measured),
    )


def _printable(value: object) -> object:
    """What the template sets in; drawings are of our own making."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def headline_of(measured: Measurements, claims: Sequence[Claim]) -> str:
    """The sentence that answers what the run was made for: the story, what survives, or which transport."""
    if nothing_measured(measured):
        return headline(measured)
    if claims:
        return answer_of(claims)
    if chosen := _chosen(measured):
        return chosen.sentence
    side_by_side = measured.cells_at_once > 1
    return (survivors_sentence(survival_maps(measured)) if side_by_side else "") or headline(measured)


def failed_altogether(measured: Measurements) -> list[TotalFailure]:
    """What is to be said before anything else; where one way is to be chosen, that others fail is what was asked."""
    return [] if is_wanted(measured.run.plan) else total_failures(measured)


def _chosen(measured: Measurements) -> Recommendation | None:
    return recommendation(measured) if is_wanted(measured.run.plan) else None


def decision_of(measured: Measurements) -> list[str]:
    """The lines behind one recommendation: the runner-up, what would change the choice; none where none is wanted."""
    chosen = _chosen(measured)
    return chosen.lines if chosen else []


def _answers(measured: Measurements, claims: Sequence[Claim]) -> dict[str, object]:
    """What the first screen shows."""
    raced = measured.cells_at_once == 1
    return {
        "decision": decision_of(measured),
        "failed": [each.sentence for each in failed_altogether(measured)],
        "headline": headline_of(measured, claims),
        "boards": boards(measured) if raced else [],
        "resolution": resolution_sentence(measured) if raced else "",
        "survival": survival_heat(measured),
        "recovery": recovery_heat(measured),
        "knee": knee_of(measured.run),
        **_limits(measured),
    }


def _limits(measured: Measurements) -> dict[str, object]:
    """The limits of the plan's `[slo]` and what became of each, those that are not met first."""
    judged = ordered(gates(measured))
    met = sum(gate.outcome == "met" for gate in judged)
    return {
        "gates": [(gate.outcome, gate.key.title, gate.demand, gate.finding) for gate in judged],
        "gates_sentence": f"{met} of {counted(len(judged), 'limit')} met.",
        "gates_open": met < len(judged),
    }


def _findings(measured: Measurements, verdicts: Sequence[Verdict]) -> dict[str, object]:
    """What stands below: sentences, tables, what to know before believing them."""
    shown = charted(measured)
    return {
        "questions": _by_question(verdicts),
        "tested": sum(len(v.pairs) for v in verdicts),
        "tables": number_tables(measured),
        "advice": advice(survival_maps(measured)),
        "alarms": [alarm.sentence for alarm in held_back(measured)],
        "twins": _twin_lines(measured),
        "theory": [_theory_row(each) for each in theory(measured)] if measured.cells_at_once == 1 else [],
        "explained": [text for cell in measured.cells if (text := requests_explained(cell))],
        "failures": failures(measured.cells),
        "failure_rows": [_failure_row(each) for each in failures(measured.cells)],
        "shown": len(shown),
        "hidden": len(measured.cells) - len(shown) if measured.cells_at_once == 1 else 0,
        "incomplete": incomplete_names(shown) if measured.cells_at_once == 1 else [],
        "excluded": excluded_lines(measured.excluded),
    }


def _provenance(measured: Measurements) -> dict[str, object]:
    """What was run, and on what."""
    run = measured.run
    return {
        "facts": _facts(measured),
        "particulars": _particulars(run),
        "plan": json.dumps(run.plan, indent=1, ensure_ascii=False, default=str),
    }


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


def _theory_row(found: Theory) -> tuple[str, ...]:
    metric = METRICS[found.column]
    name = metric.title if "/" in metric.unit else f"{metric.title} [{metric.unit}]"
    off = "–" if math.isnan(found.error) else f"{100 * found.error:+.1f} %"
    return found.cell.key.title, name, number(found.measured), number(found.predicted), off, number(found.rule)


def _failure_row(found: CellFailures) -> tuple[str, ...]:
    whole = f"{found.messages - found.failed} of {found.messages}"
    causes = listed([cause.counted for cause in found.causes])
    return found.key.title, whole, causes, found.causes[0].example, found.hint or "–"


def _picture(measured: Measurements, chart: Chart, path: Path) -> Picture:
    """Its drawing is of our own making, and whatever a run has put into it is text there."""
    drawing = inline(path.read_text("utf-8"), chart.name, chart.title, chart.reading)
    return Picture(chart, Markup(drawing), [without_dashes(table) for table in chart.data(measured)])  # noqa: S704


def _facts(measured: Measurements) -> str:
    run = measured.run
    blocks = len({cell.block for cell in run.cells})
    messages = sum(len(g.messages) for g in measured.cells)
    size = f"{counted(len(measured.cells), 'cell')} × {counted(blocks, 'block')}, {count(messages)} valid messages"
    return f"{run.started or 'start unknown'} · {run.status} · {size}"


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

"""A run's outcome, or a comparison's, as one JSON document."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from bench.analysis.findings import scoreboard
from bench.analysis.findings.comparison import Change, Comparison
from bench.analysis.findings.failures import fault_lines
from bench.analysis.findings.gates import Gate, passed
from bench.analysis.findings.run_warnings import run_warnings
from bench.analysis.findings.story import claims_told
from bench.analysis.measures.groups import Key, MeasuredCell, Measurements
from bench.analysis.measures.metrics import METRICS, estimate
from bench.analysis.measures.missing import INFINITE, why_not_finite
from bench.analysis.report.page import headline_of
from bench.analysis.statistics.intervals import Estimate
from bench.export import changes, shape
from bench.run_record import Run
from bench.slo import LIMITED


def run_document(measured: Measurements, judged: Sequence[Gate], folder: str) -> shape.RunDocument:
    """The document of the run in `folder`, whether or not anything of it was measured; `judged` are its limits."""
    return shape.RunDocument(
        run=_facts(measured.run, folder, [warning.text for warning in run_warnings(measured)]),
        verdict=shape.VerdictShape(passed=run_passed(measured, judged), sentence=answer_sentence(measured)),
        questions=[_question(row, measured) for row in scoreboard.scoreboard(measured)],
        slo=[_limit(gate, measured) for gate in judged],
        rows=[_row(cell) for cell in measured.cells],
    )


def comparison_document(comparison: Comparison, folders: tuple[str, str]) -> shape.ComparisonDocument:
    """The document of a comparison of the runs in two folders, the earlier one first."""
    baseline, run = folders
    return shape.ComparisonDocument(
        run=_facts(comparison.b, run, comparison.warnings),
        baseline=_facts(comparison.a, baseline, []),
        verdict=shape.VerdictShape(
            passed=not comparison.regressed,
            sentence=f"{changes.sentence(comparison)} {changes.findable(comparison)}".strip(),
        ),
        questions=[],
        slo=[],
        rows=[_change(change) for change in comparison.changes],
    )


def answer_sentence(measured: Measurements) -> str:
    """The sentence that answers the plan's question, as the report's first line; or says why there is no answer."""
    return headline_of(measured, claims_told(measured))


def encoded(document: shape.Document) -> bytes:
    """The document as JSON text."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def run_passed(measured: Measurements, judged: Iterable[Gate]) -> bool:
    """Whether a run is complete, no cell of it failed or got nothing through for no reason, and every limit is met."""
    run = measured.run
    ended = run.status == "complete" and all(cell.status != "failed" for cell in run.cells)
    return ended and not fault_lines(measured) and passed(judged)


def _facts(run: Run, folder: str, warnings: Sequence[str]) -> shape.RunFacts:
    return shape.RunFacts(
        folder=folder,
        plan=run.name,
        status=run.status,
        started=run.started,
        ended=run.ended,
        seed=run.seed,
        schedule_sha256=run.schedule_sha256,
        time_scale=run.time_scale,
        git_commit=run.git_commit,
        machine=run.machine,
        versions=run.versions,
        cells=dict(Counter(cell.status for cell in run.cells)),
        warnings=list(warnings),
    )


def _named(key: Key) -> dict[str, Any]:
    return {**key._asdict(), "title": key.title}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _number(found: Estimate, unit: str, reason: str) -> shape.NumberShape:
    """`reason` is why one of its values is missing, or infinite, if one is."""
    values = [_finite(value) for value in (found.value, found.lo, found.hi)]
    return shape.NumberShape(
        value=values[0], lo=values[1], hi=values[2], unit=unit, reason=reason if None in values else ""
    )


def _estimate(cell: MeasuredCell, column: str) -> shape.NumberShape:
    found = estimate(cell, column) if cell.blocks else Estimate(math.nan)
    return _number(found, METRICS[column].unit, why_not_finite(cell, column))


def _question(row: scoreboard.ScoredQuestion, measured: Measurements) -> shape.QuestionShape:
    cells = {cell.key: cell for cell in measured.cells}
    squares = [
        shape.SquareShape(
            **_named(square.key),
            standing=square.standing,
            found=_number(square.estimate, row.unit, why_not_finite(cells[square.key], square.column)),
            ratio=None
            if square.ratio is None
            else _number(square.ratio, "×", "the two have no ratio with an interval"),
            why=square.reason,
        )
        for square in row.squares
    ]
    words = {name: getattr(row, name) for name in ("id", "title", "group", "column", "unit", "status", "sentence")}
    return shape.QuestionShape(**words, squares=squares)


def _limit(gate: Gate, measured: Measurements) -> shape.LimitShape:
    cell = next(cell for cell in measured.cells if cell.key == gate.key)
    exact = gate.is_exact and not gate.reason
    found = Estimate(gate.found.value, gate.found.value, gate.found.value) if exact else gate.found
    return shape.LimitShape(
        **_named(gate.key),
        column=gate.column,
        limit=gate.limit,
        outcome=gate.outcome,
        found=_number(
            found,
            METRICS[gate.column].unit if gate.column in METRICS else "",
            gate.reason or why_not_finite(cell, gate.column),
        ),
        sentence=gate.sentence,
    )


def _row(cell: MeasuredCell) -> shape.RowShape:
    lost, duplicated, drops = (int(cell.messages[name].sum()) for name in ("tokens_lost", "tokens_duplicated", "drops"))
    return shape.RowShape(
        **_named(cell.key),
        valid=cell.is_valid,
        blocks=list(cell.blocks),
        reasons=sorted({reason for record in cell.records for reason in record.reasons}),
        streams=len(cell.messages),
        tokens_lost=lost,
        tokens_duplicated=duplicated,
        drops=drops,
        numbers={column: _estimate(cell, column) for column in LIMITED if column in METRICS},
    )


def _change(change: Change) -> shape.ChangeRow:
    contrast = change.contrast
    infinite = not (math.isfinite(contrast.a) and math.isfinite(contrast.b))
    return shape.ChangeRow(
        **_named(change.key),
        column=change.column,
        unit=METRICS[change.column].unit,
        baseline=_finite(contrast.b),
        run=_finite(contrast.a),
        ratio=_number(contrast.ratio, "×", "the two have no ratio with an interval"),
        judgement=change.judgement,
        why=change.reason if change.judgement == "not resolved" else "",
        reason=INFINITE if infinite else "",
    )

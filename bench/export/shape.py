"""The shape of the documents that other programs read: a run's outcome, and a comparison's (docs/machine-readable.md).

`python -m bench.export.shape > docs/outcome.schema.json` renews their JSON Schema.

History of `schema`: 1, the first version. Keys may be added to a version; one that goes or changes its meaning makes
the next.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec

from bench.analysis.findings.comparison import Judgement
from bench.analysis.findings.gates import GateOutcome
from bench.analysis.findings.scoreboard import QuestionStatus, Standing
from bench.run_record import CellStatus, RunStatus

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class NumberShape(msgspec.Struct, kw_only=True):
    """A number with its 95 % interval; what is null has its reason, which is empty where nothing is."""

    value: float | None
    lo: float | None = None
    hi: float | None = None
    unit: str
    reason: str = ""


class CellShape(msgspec.Struct, kw_only=True):
    """What a number is about, as in summary.csv; `title` is its name for people."""

    transport: str
    variant: str
    profile: str
    recovery: str
    title: str


class SquareShape(CellShape, kw_only=True):
    """One contestant at one question. `ratio` is against the best, null for the best itself."""

    standing: Standing
    found: NumberShape
    ratio: NumberShape | None
    why: str  # why no more can be said; empty for best and behind


class QuestionShape(msgspec.Struct, kw_only=True):
    """A row of the scoreboard: one question under one load and intermediary (`group`, empty for the plain one)."""

    id: str
    title: str
    group: str
    column: str
    unit: str
    status: QuestionStatus
    sentence: str
    squares: list[SquareShape]


class LimitShape(CellShape, kw_only=True):
    """A limit of the plan's SLO on one number of one cell. Only "met" passes."""

    column: str
    limit: float
    outcome: GateOutcome
    found: NumberShape
    sentence: str


class RowShape(CellShape, kw_only=True):
    """A row of summary.csv: `numbers` are its estimates, by their columns."""

    valid: bool
    blocks: list[int]  # the valid ones
    reasons: list[str]  # why others are void, or failed
    streams: int
    tokens_lost: int
    tokens_duplicated: int
    drops: int
    numbers: dict[str, NumberShape]


class ChangeRow(CellShape, kw_only=True):
    """One number of one cell in both runs; `ratio` is run ÷ baseline. `transport` "all cells": their mean."""

    column: str
    unit: str
    baseline: float | None
    run: float | None
    ratio: NumberShape
    judgement: Judgement
    why: str  # why it is not resolved
    reason: str  # why one of both is null


class RunFacts(msgspec.Struct, kw_only=True):
    """Which run it was, and how far it came; `cells` counts its cells by status."""

    folder: str
    plan: str
    status: RunStatus
    started: str
    ended: str | None
    seed: int
    schedule_sha256: str
    time_scale: float
    git_commit: str | None
    machine: dict[str, Any]
    versions: dict[str, str]
    cells: dict[CellStatus, int]
    warnings: list[str]


class VerdictShape(msgspec.Struct, kw_only=True):
    """`passed` is what the exit code 0 says; `sentence` answers the plan's question, or says what changed."""

    passed: bool
    sentence: str


class RunDocument(msgspec.Struct, kw_only=True, tag_field="kind", tag="run"):
    """What `run` and `report` write."""

    schema: Literal[1] = 1
    run: RunFacts
    verdict: VerdictShape
    questions: list[QuestionShape]
    slo: list[LimitShape]
    rows: list[RowShape]


class ComparisonDocument(msgspec.Struct, kw_only=True, tag_field="kind", tag="comparison"):
    """What `compare` writes: `run` is the second of the two, `baseline` the first."""

    schema: Literal[1] = 1
    run: RunFacts
    baseline: RunFacts
    verdict: VerdictShape
    questions: list[QuestionShape]
    slo: list[LimitShape]
    rows: list[ChangeRow]


Document = RunDocument | ComparisonDocument


def document_schema() -> dict[str, Any]:
    """The JSON Schema of both documents."""
    return {"$schema": DIALECT, "title": "An outcome of Tokenderby", **msgspec.json.schema(Document)}


if __name__ == "__main__":
    print(json.dumps(document_schema(), indent=1))

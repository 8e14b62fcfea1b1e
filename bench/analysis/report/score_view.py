"""The scoreboard as people read it: contestants down, questions across, the reasons as notes below.

The judging is bench.analysis.findings.scoreboard's; here are only words, and the numbers as text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from bench.analysis.findings.scoreboard import ScoredQuestion, Square, findable_ratios, scoreboard
from bench.analysis.measures.groups import Key, MeasuredCell, Measurements
from bench.analysis.measures.metrics import METRICS, estimate
from bench.analysis.report.theme import colour
from bench.analysis.statistics.intervals import Estimate
from bench.analysis.statistics.wording import as_read, in_sentence, interval, listed, number

_HEADED = {"requests/message": "per message", "s/answer": "ms per answer"}
"""By a metric's unit: what stands below the heading on the board, where that is not the unit itself."""
_ANY, _NONE = 1.01, 100.0  # ratios that are as good as 1, and as good as never found
_ABOUT = {
    "ttft_overhead_ms_p50": "time to first token beyond the model's own, median",
    "ttft_ms_p50": "time to first token, median",
    "wait_s_per_answer": "waiting per answer beyond the model's own",
    "delay_ms_p99": "delay of tokens, 99th percentile",
    "delay_ms_p95": "delay of tokens, 95th percentile",
    "delay_ms_p50": "delay of tokens, median",
    "itl_ms_p99": "time between two tokens, 99th percentile",
    "itl_ms_p95": "time between two tokens, 95th percentile",
    "completed_ratio": "messages that arrived whole",
    "requests_per_message": "requests for each message",
    "bytes_per_token": "payload bytes for each token, both ways",
    "wire_bytes_per_token": "bytes on the wire for each token, both ways",
    "cpu_us_per_token": "processor time of client, server and Redis for each token",
}
STANDINGS = {
    "equal": "all equal",
    "best": "best",
    "level": "as good as the best",
    "behind": "behind",
    "not judged": "not judged",
}


@dataclass(frozen=True)
class ScoreSquare:
    """A number and its interval as text, where it stands (a key of STANDINGS), by how much, and the note's number."""

    value: str
    interval: str
    standing: str
    ratio: str
    ratio_interval: str
    note: int  # 0: none


@dataclass(frozen=True)
class ScoreRow:
    """One contestant's squares, in the order of the board's headings."""

    title: str
    colour: str
    squares: list[ScoreSquare]


@dataclass(frozen=True)
class Board:
    """The contestants of one group. Headings are a title and a unit; `about` says what each number is."""

    group: str
    headings: list[tuple[str, str]]
    about: list[tuple[str, str]]
    rows: list[ScoreRow]
    notes: list[str]


def boards(measured: Measurements) -> list[Board]:
    """A board for each group of contestants, the plain one first."""
    voids = {cell.key: cell for cell in measured.void_cells}
    found = groupby(scoreboard(measured), key=lambda question: question.group)
    return [_board(group, list(questions), voids) for group, questions in found]


def _board(group: str, questions: Sequence[ScoredQuestion], voids: Mapping[Key, MeasuredCell]) -> Board:
    notes: list[str] = []
    squares = {
        (square.key, question.id): _square(square, question, voids.get(square.key), notes)
        for question in questions
        for square in question.squares
    }
    order = [square.key for square in questions[0].squares]  # by the first question, the best first
    rows = [
        ScoreRow(key.own_title, colour(key), [squares[key, question.id] for question in questions]) for key in order
    ]
    headings = [(question.title, _heading(question.unit)) for question in questions]
    about = [(question.title, _ABOUT.get(question.column, METRICS[question.column].title)) for question in questions]
    return Board(group, headings, about, rows, notes)


def _heading(unit: str) -> str:
    return _HEADED.get(unit) or as_read(Estimate(0.0), unit)[1]


def _smallest(ratio: float) -> str:
    """A ratio that can be found, in words."""
    if ratio < _ANY:
        return "any"
    return f"{number(ratio)}× or more" if ratio < _NONE else "none"


def _square(square: Square, question: ScoredQuestion, void: MeasuredCell | None, notes: list[str]) -> ScoreSquare:
    """As text; a contestant without a valid number shows that of its void blocks, which is not judged."""
    found = square.estimate
    if math.isnan(found.value) and void is not None:
        found = estimate(void, question.column)
    found, _ = as_read(found, question.unit)
    sure = interval(found) if found.lo != found.hi else ""
    behind = square.ratio if square.standing == "behind" and question.unit != "share" else None
    return ScoreSquare(
        value=number(found.value),
        interval=sure,
        standing=question.shown_standing(square),
        ratio=f"{number(behind.value)}×" if behind else "",
        ratio_interval=interval(behind) if behind else "",
        note=_noted(square.reason, notes),
    )


def _noted(reason: str, notes: list[str]) -> int:
    """The number of the note that gives this reason, which is added if it is new; 0 without a reason."""
    if not reason:
        return 0
    if reason not in notes:
        notes.append(reason)
    return notes.index(reason) + 1


def resolution_sentence(measured: Measurements) -> str:
    """What this run could have found, in the terms of the first board; empty without a scoreboard."""
    questions = scoreboard(measured)
    smallest = findable_ratios(measured)
    found: dict[str, list[str]] = {}
    for question in questions:
        if question.group == questions[0].group and question.column in smallest:
            found.setdefault(_smallest(smallest[question.column]), []).append(in_sentence(question.title))
    if not found:
        return ""
    none = found.pop("none", [])
    parts = "; ".join(f"{said} in {listed(names)}" for said, names in found.items())
    lead = f"Differences that a run like this finds 4 times in 5: {parts}." if parts else ""
    lack = f"It could find none in {listed(none)}." if none else ""
    return " ".join(filter(None, (lead, lack)))

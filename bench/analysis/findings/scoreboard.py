"""The scoreboard: contestants × questions, each square a number, its interval and where it stands (for the report).

Every standing follows from statistics.claims: "behind" is a claimed difference from the best. A contestant that is
not behind is "level" with the best if its interval leaves no ratio beyond MOST_LEVEL open; else it is not judged. Both
say why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from bench.analysis.findings.races import Race, asked, races
from bench.analysis.findings.topics import COMPLETED, Topic
from bench.analysis.measures.groups import Key, MeasuredCell, Measurements
from bench.analysis.measures.metrics import METRICS, estimate
from bench.analysis.statistics import resolution as _resolution
from bench.analysis.statistics.claims import (
    MIN_BLOCKS,
    JudgedContrast,
    Obstacle,
    few_blocks,
    fewer_arrived,
    judged,
    scale,
)
from bench.analysis.statistics.contrasts import Contrast
from bench.analysis.statistics.intervals import Estimate
from bench.analysis.statistics.wording import (
    as_read,
    count,
    counted,
    interval,
    listed,
    number,
    value_with_interval,
    with_unit,
)

Standing = Literal["best", "level", "behind", "not judged"]  # level: as good as the best
ShownStanding = Literal["equal", "best", "level", "behind", "not judged"]
QuestionStatus = Literal["resolved", "not resolved", "no claim"]

MOST_LEVEL = 2.0
"""Up to which ratio the interval of an unresolved difference may reach for "as good as the best"; a choice."""


@dataclass(frozen=True)
class Square:
    """One contestant at one question.

    `ratio` is against the best on their common blocks, None for the best itself. `reason` is empty for best and behind,
    and for who equals the best in every block; else it says why no more can be said: chance, the harness's error, too
    few blocks, messages that did not arrive.
    """

    key: Key
    column: str
    estimate: Estimate
    standing: Standing
    ratio: Estimate | None = None
    reason: str = ""

    @property
    def is_tie(self) -> bool:
        """Whether it equals the best in every block."""
        return self.standing == "level" and not self.reason


@dataclass(frozen=True)
class Pair:
    """Two cells at one number: is `worse` really worse than `better`? The contrast is worse against better."""

    column: str
    better: Key
    worse: Key
    finding: JudgedContrast

    @property
    def claimed(self) -> bool:
        """Whether it is called a difference."""
        return self.finding.claimed


@dataclass(frozen=True)
class ScoredQuestion:
    """One row of the scoreboard. `group` says under what load or intermediary, empty for the plain one."""

    id: str
    title: str
    group: str
    column: str
    unit: str
    squares: tuple[Square, ...]
    sentence: str
    status: QuestionStatus

    def shown_standing(self, square: Square) -> ShownStanding:
        """Where a square stands for readers: who has the very same number as the best is best too.

        Where all have it, nobody is better than others.
        """
        tied = [each.standing == "best" or each.is_tie for each in self.squares]
        if all(tied) and len(tied) > 1:
            return "equal"
        return "best" if square.is_tie else square.standing


@dataclass(frozen=True)
class Answer:
    """A question of a run, on the board or in words only, with the pairs behind it."""

    topic: Topic
    question: ScoredQuestion
    pairs: tuple[Pair, ...]


def scoreboard(measured: Measurements) -> list[ScoredQuestion]:
    """The rows, group by group: the plain group first, then by size."""
    return [answer.question for answer in group_answers(measured) if answer.topic.on_board]


def findable_ratios(measured: Measurements) -> dict[str, float]:
    """By column: the smallest ratio this run would find in 4 of 5 runs; infinite if none. See .resolution.

    Numbers that are the same for all in every block are left out: there was nothing to find.
    """
    found = group_answers(measured)
    tests = sum(pair.finding.is_open for answer in found for pair in answer.pairs)
    return {
        answer.question.column: _resolution.of_pairs([pair.finding.contrast for pair in answer.pairs], tests)
        for answer in reversed(found)  # of several groups the first one's counts
        if not all(pair.finding.contrast.is_tie for pair in answer.pairs)
    }


def group_answers(measured: Measurements) -> list[Answer]:
    """All that a run can say, group by group; all pairs and numbers are one family for Holm's adjustment."""
    if not measured.answers:
        measured.answers.extend(_answers(measured))
    return measured.answers


def _answers(measured: Measurements) -> list[Answer]:
    asked_of = [
        (race, topic, column) for race in races(measured) for topic in asked(measured) if (column := race.column(topic))
    ]
    pairs = [(race, topic, column, _unjudged(race, column)) for race, topic, column in asked_of]
    family = [(contrast, scale(column, METRICS[column].unit)) for *_, column, found in pairs for *_, contrast in found]
    findings = iter(judged(family, measured.unfit))
    return [
        _answer(race, topic, column, tuple(Pair(column, a, b, next(findings)) for a, b, _ in found))
        for race, topic, column, found in pairs
    ]


def _unjudged(race: Race, column: str) -> list[tuple[Key, Key, Contrast]]:
    """The pairs to test; messages that arrived are counted, not tested."""
    if column == COMPLETED:
        return []
    return [(better.key, worse.key, contrast) for better, worse, contrast in race.pairs(column)]


def _answer(race: Race, topic: Topic, column: str, pairs: tuple[Pair, ...]) -> Answer:
    contestants = race.contestants(column)
    against = {pair.worse: pair.finding for pair in pairs if pair.better == contestants[0].key} if contestants else {}
    squares = [_square(cell, column, contestants[0], against.get(cell.key)) for cell in contestants]
    for cell, why in ((cell, race.why_not(cell, column)) for cell in race.cells):
        if why:
            found = estimate(cell, column) if cell.blocks else Estimate(math.nan)
            squares.append(Square(cell.key, column, found, "not judged", None, why))
    metric, about = METRICS[column], (topic.id, topic.title, race.title, column)
    sentence = _sentence(topic, squares, column)
    return Answer(topic, ScoredQuestion(*about, metric.unit, tuple(squares), sentence, _status(squares)), pairs)


def _square(cell: MeasuredCell, column: str, best: MeasuredCell, finding: JudgedContrast | None) -> Square:
    """Where a contestant stands; `finding` is it against the best."""
    found = estimate(cell, column)
    ratio = finding.contrast.ratio if finding else None
    if len(cell.blocks) < MIN_BLOCKS and column != COMPLETED:
        return Square(cell.key, column, found, "not judged", ratio, few_blocks(len(cell.blocks)))
    if cell is best:
        return Square(cell.key, column, found, "best")
    if finding is None:
        return _survivor(cell, found, best)
    return Square(cell.key, column, found, standing_of(finding), ratio, finding.reason)


def standing_of(finding: JudgedContrast) -> Standing:
    """Where the worse of two stands against the better."""
    if finding.claimed:
        return "behind"
    if finding.obstacle in (Obstacle.EQUAL, Obstacle.HARNESS, Obstacle.SMALL):
        return "level"
    return "level" if finding.contrast.ratio.hi <= MOST_LEVEL else "not judged"


def _survivor(cell: MeasuredCell, found: Estimate, best: MeasuredCell) -> Square:
    """Of messages that arrived: counts, not estimates."""
    (whole, sent), (of_best, sent_of_best) = (_arrived(each) for each in (cell, best))
    ratio = Estimate(found.value / estimate(best, COMPLETED).value) if of_best else None
    if whole * sent_of_best == of_best * sent:
        return Square(cell.key, COMPLETED, found, "level", ratio)
    if fewer_arrived(whole, sent, of_best, sent_of_best):
        return Square(cell.key, COMPLETED, found, "behind", ratio)
    why = f"the difference could be chance: {count(whole)} of {counted(sent, 'message')} arrived whole"
    return Square(cell.key, COMPLETED, found, "level", ratio, why)


def _arrived(cell: MeasuredCell) -> tuple[int, int]:
    return int(cell.messages["completed"].sum()), len(cell.messages)


def _status(squares: Sequence[Square]) -> QuestionStatus:
    if not any(square.standing == "best" for square in squares):
        return "no claim"
    return "not resolved" if any(square.reason for square in squares) else "resolved"


def _sentence(topic: Topic, squares: Sequence[Square], column: str) -> str:
    """The row in words: who is best, who is as good, who is behind by how much, and who is not judged."""
    unit = METRICS[column].unit
    told = topic.measure if column not in topic.as_waited else ""
    measure = told or (METRICS[column].title if len((*topic.columns, *topic.as_waited)) > 1 else "")
    by = {standing: [square for square in squares if square.standing == standing] for standing in get_args(Standing)}
    leading = [*by["best"], *by["level"]]
    parts = []
    if len(leading) == len(squares) and not any(square.reason for square in squares):
        parts.append(f"{listed([square.key.title for square in squares])} are equal, {_value(squares[0], unit)}")
    elif by["level"]:
        parts.append(f"Best or as good: {'; '.join(_told(s, unit, squares[0]) for s in leading)}")
    elif by["best"] and not by["behind"]:
        parts.append(f"Only {_told(by['best'][0], unit, squares[0])} can be judged")
    elif by["best"] and by["not judged"]:
        parts.append(f"Best of those judged: {_told(by['best'][0], unit, squares[0])}")
    elif by["best"]:
        parts.append(f"{by['best'][0].key.title} {topic.lead}: {_value(by['best'][0], unit, with_interval=True)}")
    for standing in ("behind", "not judged"):
        if by[standing]:
            parts.append(f"{standing.capitalize()}: {'; '.join(_told(s, unit, squares[0]) for s in by[standing])}")
    return f"{topic.title}{f' ({measure})' if measure else ''}: {'. '.join(parts)}."


def _told(square: Square, unit: str, best: Square) -> str:
    """A contestant with its number, and how far behind it is or why that is not known."""
    value = _value(square, unit, with_interval=square.standing == "best")
    told = " ".join(filter(None, (square.key.title, value)))
    if square.standing == "behind" and square.ratio and square.ratio.has_interval:
        return f"{told}, {number(square.ratio.value)} times {best.key.title}'s (95 % CI {interval(square.ratio)})"
    return f"{told} ({square.reason})" if square.reason else told


def _value(square: Square, unit: str, *, with_interval: bool = False) -> str:
    """A square's number as people read it; empty if there is none."""
    found, unit = as_read(square.estimate, unit)
    if not math.isfinite(found.value):
        return ""
    return f"{value_with_interval(found)} {unit}".strip() if with_interval else with_unit(found.value, unit)

"""The scoreboard: contestants × questions, each square a number, its interval and where it stands (for the report).

Every standing follows from bench.analysis.claims: "behind" is a claimed difference from the best; a contestant that is
not behind is "level" with the best, or not judged, and then its square says why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.analysis.claims import MIN_BLOCKS, Obstacle
from bench.analysis.groups import Key, MeasuredCell, Measurements
from bench.analysis.intervals import Estimate, wilson
from bench.analysis.metrics import METRICS, estimate
from bench.analysis.noise import noise
from bench.analysis.verdicts import Pair, Status, group_title, judged_pairs
from bench.analysis.wording import count, counted, listed, percent, shown, times, with_unit

Standing = Literal["best", "level", "behind", "not judged"]  # level: as good as the best


@dataclass(frozen=True)
class Square:
    """One contestant at one question.

    `ratio` is against the best on their common blocks, None for the best itself. `reason` is empty for best and behind;
    else it says why no more can be said: chance, the harness's error, too few blocks, messages that did not arrive.
    """

    key: Key
    column: str
    estimate: Estimate
    standing: Standing
    ratio: Estimate | None = None
    reason: str = ""


@dataclass(frozen=True)
class Question:
    """One row of the scoreboard. `group` says under what load or intermediary, empty for the plain one."""

    id: str
    title: str
    group: str
    column: str
    unit: str
    squares: tuple[Square, ...]
    sentence: str
    status: Status


@dataclass(frozen=True)
class Topic:
    """What is asked, and the columns that may answer it: the first that the run can give of every contestant."""

    id: str
    title: str
    columns: tuple[str, ...]
    lead: str  # what the best one does, for a sentence: "brings the first token soonest"


TOPICS = (
    Topic("first_token", "First token", ("ttft_overhead_ms_p50",), "brings the first token soonest"),
    Topic(
        "smoothness",
        "Smoothness",
        ("wait_s_per_answer", "delay_ms_p99", "delay_ms_p95", "delay_ms_p50"),
        "brings its tokens with the least delay",
    ),
    Topic("survival", "Survival", ("completed_ratio",), "brings most messages whole"),
    Topic("requests", "Requests", ("requests_per_message",), "takes the fewest requests"),
    Topic("traffic", "Traffic", ("wire_bytes_per_token", "bytes_per_token"), "sends the fewest bytes"),
    Topic("cpu", "CPU", ("cpu_us_per_token",), "takes the least processor time"),
)
_COMPLETED = "completed_ratio"
_SIDE_BY_SIDE = ("survival", "requests")  # what a run still tells whose cells shared the machine


def scoreboard(measured: Measurements) -> list[Question]:
    """The rows, group by group: the plain group first, then by size."""
    pairs = judged_pairs(measured, [column for column in _columns() if column != _COMPLETED])
    topics = [topic for topic in TOPICS if measured.cells_at_once == 1 or topic.id in _SIDE_BY_SIDE]
    found = []
    for group, cells in _groups(measured):
        for topic in topics:
            column = _column(topic, cells)
            if column:
                squares = _squares(column, cells, pairs, noise(measured, column))
                found.append(_question(topic, column, group_title(group), squares))
    return found


def headline(measured: Measurements) -> str:
    """One sentence that answers the plan's question: who is best at what, of the plain group."""
    rows = scoreboard(measured)
    wins: dict[tuple[str, ...], list[str]] = {}
    for row in (row for row in rows if row.group == rows[0].group):
        leading = [square.key.title for square in row.squares if square.standing in ("best", "level")]
        others = [square for square in row.squares if square.standing == "behind"]
        if leading and others:
            wins.setdefault(tuple(leading), []).append(row.title.lower())
    said = [f"{listed(names)} lead{'s' * (len(names) == 1)} at {listed(topics)}" for names, topics in wins.items()]
    return f"{'; '.join(said)}." if said else "This run tells no transport from another."


def resolution(measured: Measurements) -> dict[str, float]:
    """By column: the smallest ratio that this run would find in 4 of 5 runs; infinite where it can find none."""
    return {column: math.exp(min(noise(measured, column), 700)) for column in _columns() if column != _COMPLETED}


def _columns() -> list[str]:
    return [column for topic in TOPICS for column in topic.columns if column in METRICS]


def _groups(measured: Measurements) -> list[tuple[tuple[str, ...], list[MeasuredCell]]]:
    groups: dict[tuple[str, ...], list[MeasuredCell]] = {}
    for cell in measured.cells:
        if not cell.key.is_control:
            groups.setdefault(cell.key.group, []).append(cell)
    raced = [(group, cells) for group, cells in groups.items() if len(cells) > 1]
    return sorted(raced, key=lambda item: (item[0] != ("direct", "none"), -len(item[1])))


def _column(topic: Topic, cells: Sequence[MeasuredCell]) -> str:
    """The first column that all contestants with valid blocks have; empty if there is none."""
    measured = [cell for cell in cells if cell.blocks]
    for column in (column for column in topic.columns if column in METRICS):
        if measured and not any(math.isnan(estimate(cell, column).value) for cell in measured):
            return column
    return ""


def _question(topic: Topic, column: str, group: str, squares: tuple[Square, ...]) -> Question:
    status: Status = "not resolved"
    if all(square.standing == "not judged" for square in squares):
        status = "no claim"
    elif all(square.standing in ("best", "behind") or not square.reason for square in squares):
        status = "resolved"
    unit = METRICS[column].unit
    return Question(topic.id, topic.title, group, column, unit, squares, _sentence(topic, squares, unit), status)


def _squares(column: str, cells: Sequence[MeasuredCell], pairs: Sequence[Pair], floor: float) -> tuple[Square, ...]:
    """The contestants, best first."""
    ranked = sorted(cells, key=lambda cell: _order(cell, column))
    best = ranked[0]
    if column == _COMPLETED:
        return tuple(_survival_square(cell, best) for cell in ranked)
    against = {pair.worse: pair for pair in pairs if (pair.column, pair.better) == (column, best.key)}
    return tuple(_square(cell, column, best, against.get(cell.key), floor) for cell in ranked)


def _order(cell: MeasuredCell, column: str) -> float:
    value = estimate(cell, column).value if cell.blocks else math.nan
    sign = -1 if column == _COMPLETED else 1
    return math.inf if math.isnan(value) else sign * value


def _square(cell: MeasuredCell, column: str, best: MeasuredCell, pair: Pair | None, floor: float) -> Square:
    found = estimate(cell, column) if cell.blocks else Estimate(math.nan)
    if len(cell.blocks) < MIN_BLOCKS:
        why = f"too few blocks ({len(cell.blocks)} of {MIN_BLOCKS})"
        return Square(cell.key, column, found, "not judged", None, why)
    if cell is best:
        return Square(cell.key, column, found, "best")
    if pair is None:
        return Square(cell.key, column, found, "level", None, "the difference could be chance")
    standing: Standing = "level"
    if pair.claimed or pair.obstacle in (Obstacle.FEW_BLOCKS, Obstacle.NO_CONTROL):
        standing = "behind" if pair.claimed else "not judged"
    why = "" if pair.claimed or pair.contrast.a == pair.contrast.b else _reason(pair, floor)
    return Square(cell.key, column, found, standing, pair.contrast.ratio, why)


def _reason(pair: Pair, floor: float) -> str:
    ratio = times(pair.contrast.ratio)
    return {
        Obstacle.FEW_BLOCKS: f"too few blocks ({pair.contrast.blocks} of {MIN_BLOCKS})",
        Obstacle.NO_CONTROL: "the run has no A/A control",
        Obstacle.CHANCE: f"the difference could be chance: {ratio}",
        Obstacle.NOISE: f"equal cells may differ by {percent(floor)}: {ratio}",
    }[pair.obstacle or Obstacle.CHANCE]


def _survival_square(cell: MeasuredCell, best: MeasuredCell) -> Square:
    """Messages are counted, not estimated; behind is who lost more than chance, by Wilson's intervals."""
    column, found = _COMPLETED, estimate(cell, _COMPLETED)
    if not len(cell.messages):
        return Square(cell.key, column, found, "not judged", None, f"no valid block of {MIN_BLOCKS}")
    whole, sent = int(cell.messages["completed"].sum()), len(cell.messages)
    if cell is best:
        return Square(cell.key, column, found, "best")
    ratio = Estimate(found.value / estimate(best, column).value if estimate(best, column).value else math.nan)
    if found.value == estimate(best, column).value:
        return Square(cell.key, column, found, "level", ratio, "")
    least = wilson(int(best.messages["completed"].sum()), len(best.messages))[0]
    if wilson(whole, sent)[1] < least:
        return Square(cell.key, column, found, "behind", ratio)
    why = f"the difference could be chance: {count(whole)} of {counted(sent, 'message')} arrived whole"
    return Square(cell.key, column, found, "level", ratio, why)


def _sentence(topic: Topic, squares: Sequence[Square], unit: str) -> str:
    """The row in words: who is best, who is level with it, who is behind."""
    by = {standing: [s for s in squares if s.standing == standing] for standing in ("best", "level", "behind")}
    if not by["best"]:
        return f"{topic.title}: not judged."
    best = by["best"][0]
    if by["level"] and not by["behind"] and not any(s.reason for s in by["level"]):
        names = listed([s.key.title for s in squares])
        return f"{topic.title}: {names} are equal, {with_unit(best.estimate.value, unit)}."
    said = f"{topic.title}: {best.key.title} {topic.lead} ({shown(best.estimate)}{' ' * bool(unit)}{unit})."
    if by["level"]:
        said += f" As good: {listed([f'{s.key.title} {with_unit(s.estimate.value, unit)}' for s in by['level']])}."
    if by["behind"]:
        behind = [
            f"{s.key.title} {with_unit(s.estimate.value, unit)}, {times(s.ratio)}" for s in by["behind"] if s.ratio
        ]
        said += f" Behind: {'; '.join(behind)}."
    return said

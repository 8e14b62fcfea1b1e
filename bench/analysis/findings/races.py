"""The races of a run: groups of cells under equal conditions, who takes part, and how any two of them compare."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

from bench.analysis.findings.topics import COMPLETED, SHARED_MACHINE_TOPICS, TOPICS, Topic
from bench.analysis.measures.groups import Key, MeasuredCell, Measurements
from bench.analysis.measures.metrics import estimate, estimator
from bench.analysis.measures.missing import why_no_value
from bench.analysis.statistics.contrasts import Contrast, Field, paired
from bench.analysis.statistics.wording import listed
from servers.transport import PUSHED, TRANSPORTS

MAX_GROUPS = 6  # races that are judged; the tables have all

MAX_DETAIL = 60  # characters of what a client noted of a failure
COMPLETE_ENOUGH = 0.99
"""The share of messages that must arrive whole for a contestant to be judged by speed or cost; a choice. What was never
delivered costs nothing, and is late without end."""


class Race:
    """The cells of one group. `contestants` can be judged; the A/A controls help to know the error."""

    def __init__(self, group: tuple[str, ...], cells: Sequence[MeasuredCell], unfit: str = "") -> None:
        self.group = group
        self._unfit = unfit
        self.cells = [cell for cell in cells if not cell.key.is_control]
        self._taking_part = [cell for cell in cells if cell.blocks and not cell.apart]
        self._fields: dict[str, tuple[dict[Key, int], Field]] = {}

    @property
    def title(self) -> str:
        """What is set for this group, for people; empty for the plain one."""
        return group_title(self.group)

    def contestants(self, column: str) -> list[MeasuredCell]:
        """Those that can be judged by this number, best first."""
        judged = [cell for cell in self.cells if not self.why_not(cell, column)]
        if column == COMPLETED:
            return sorted(judged, key=lambda cell: -estimate(cell, column).value)
        place, field = self._field(column)
        return sorted(judged, key=lambda cell: field.values[place[cell.key]])

    def why_not(self, cell: MeasuredCell, column: str) -> str:
        """Why a cell cannot be judged by this number; empty if it can."""
        if cell.apart or not cell.blocks:
            return cell.apart or "no valid block"
        if column != COMPLETED and (against := self._unfit or _incomplete(cell)):
            return against
        value = estimate(cell, column).value
        return "" if math.isfinite(value) else why_no_value(cell, column) or "some of it never came"

    def contrast(self, column: str, a: MeasuredCell, b: MeasuredCell) -> Contrast:
        """a against b, with the error of all cells that take part."""
        place, field = self._field(column)
        if a.key in place and b.key in place:
            return field.contrast(place[a.key], place[b.key])
        return paired(estimator(a, column), estimator(b, column))

    def _field(self, column: str) -> tuple[dict[Key, int], Field]:
        if column not in self._fields:
            cells = [cell for cell in self._taking_part if estimator(cell, column).blocks and not _incomplete(cell)]
            place = {cell.key: index for index, cell in enumerate(cells)}
            self._fields[column] = (place, Field([estimator(c, column) for c in cells], [_kind(c.key) for c in cells]))
        return self._fields[column]

    def pairs(self, column: str) -> Iterator[tuple[MeasuredCell, MeasuredCell, Contrast]]:
        """All pairs of contestants at one number: the better, the worse, and worse against better."""
        for better, worse in combinations(self.contestants(column), 2):
            yield better, worse, self.contrast(column, worse, better)

    def controls(self) -> list[tuple[MeasuredCell, MeasuredCell]]:
        """Each A/A control that takes part, and what it is the copy of."""
        present = {cell.key: cell for cell in self._taking_part}
        copies = [cell for key, cell in present.items() if key.is_control and key.original in present]
        return [(copy, present[copy.key.original]) for copy in copies]

    def column(self, topic: Topic) -> str:
        """The topic's first number that all contestants have, or else two of them; empty if there is none.

        What users wait for in all is only asked where none has a number without the model's own time.
        """
        able = [cell for cell in self._taking_part if not cell.key.is_control and not _incomplete(cell)]
        if topic.columns == (COMPLETED,):
            return COMPLETED if any(not cell.key.is_control for cell in self._taking_part) else ""
        for columns in (topic.columns, topic.as_waited):
            having = {column: sum(math.isfinite(estimate(cell, column).value) for cell in able) for column in columns}
            for enough in (len(able), 2):
                for column, count in having.items():
                    if count >= max(enough, 1):
                        return column
            if any(having.values()):
                break
        return ""


def group_title(group: tuple[str, ...]) -> str:
    """What is set for a group, for people; empty for the plain one."""
    profile, recovery, *words = group
    plain = (profile if profile != "direct" else "", recovery if recovery != "none" else "")
    return " · ".join(filter(None, (*plain, *words)))


def place_of(group: tuple[str, ...]) -> str:
    """The same as part of a sentence: "behind aws-alb with resume"."""
    profile, recovery, *words = group
    settings = [*([recovery] if recovery != "none" else []), *words]
    between = "directly" if profile == "direct" else f"behind {profile}"
    if not settings:
        return between
    return f"{f'{between} ' if profile != 'direct' else ''}with {listed(settings)}"


def races(measured: Measurements) -> list[Race]:
    """The groups with a race in them, the plain one first, then by size."""
    found = [race for race in _all_races(measured) if len(race.cells) > 1]
    return sorted(found, key=lambda race: (race.group != ("direct", "none"), -len(race.cells)))[:MAX_GROUPS]


def _all_races(measured: Measurements) -> list[Race]:
    groups: dict[tuple[str, ...], list[MeasuredCell]] = {}
    for cell in measured.cells:
        groups.setdefault(cell.key.group, []).append(cell)
    return [Race(group, cells, measured.unfit) for group, cells in groups.items()]


def asked(measured: Measurements) -> Sequence[Topic]:
    """The topics that a run can answer at all."""
    return TOPICS if measured.cells_at_once == 1 else [topic for topic in TOPICS if topic.id in SHARED_MACHINE_TOPICS]


def control_pairs(measured: Measurements) -> list[tuple[Race, MeasuredCell, MeasuredCell]]:
    """Each A/A control that takes part, in its race, and what it is the copy of."""
    return [(race, copy, original) for race in _all_races(measured) for copy, original in race.controls()]


def _kind(key: Key) -> str:
    """Cells of one kind may have a spread of their own: those that push, those that are asked, those that wait."""
    if key.transport in PUSHED or key.transport not in TRANSPORTS:
        return "pushed"
    return "pulled" if TRANSPORTS[key.transport].pulls else "at once"


def _incomplete(cell: MeasuredCell) -> str:
    """What went missing, if too much did: "not complete: 80 of 80 messages http_error (status 426)"."""
    completed = cell.messages["completed"]
    if not len(completed) or completed.mean() >= COMPLETE_ENOUGH:
        return ""
    failed = cell.messages[~completed]
    outcome = str(failed["outcome"].mode().iloc[0]).replace("_", " ")
    detail = str(failed["detail"].mode().iloc[0])[:MAX_DETAIL] if "detail" in failed else ""
    return f"not complete: {len(failed)} of {len(completed)} messages {outcome}" + (f" ({detail})" if detail else "")

"""Finding a limit by waiting: many connections side by side, each waiting for another time.

First a ladder. A connection that is cut before its time is over shows the limit itself; three such cuts are enough. A
black hole shows only that the limit lies between the longest wait that was survived and the shortest that was not; then
that interval is divided by as many connections again, until it is narrow enough or the time is over.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from math import inf

from bench.probe.finding import BLACK_HOLE, NO_CUT
from bench.probe.trial import Trial

RUNGS = 10
RATIO = 1.5  # from one rung to the next
TOPS = 3  # as many wait for the longest time
DIVISIONS = 16  # of an interval around a black hole
WIDTH = 0.02  # of an interval that is narrow enough, relative to its upper end
NEAR_S = 0.05  # times that differ by no more agree, however short they are
STAGGER = 1 / 400  # of the longest wait: so much later each connection begins than the one before
SEEN = 3  # so often a finding is seen at least
MAX_VOID = 12  # trials that say nothing; then the search ends with what it has
LADDER_CONNECTIONS = RUNGS - 1 + TOPS

Try = Callable[[float], Awaitable[Trial]]


@dataclass
class Search:
    """One limit.

    attempt: waits for so long on a connection of its own
    up_to_s: the longest wait
    left_s: how long there still is
    grace_s: how long an attempt takes beyond its wait
    """

    attempt: Try
    up_to_s: float
    left_s: Callable[[], float]
    grace_s: float
    trials: list[Trial] = field(default_factory=list)

    async def run(self) -> Limit:
        """Search until the limit is known well enough, or the time is over."""
        await self._wait_for_all([self.up_to_s / RATIO**k for k in (*range(RUNGS), *[0] * (TOPS - 1))], self._is_clear)
        while not self._has_cuts and (points := self._points()):
            await self._wait_for_all(points, lambda: False)
        return limit_of(self.trials)

    @property
    def _has_cuts(self) -> bool:
        return sum(trial.is_cut for trial in self.trials) >= SEEN

    def _is_clear(self) -> bool:
        """Whether the ladder has said what it can: three cuts, or the first black hole."""
        first = next((trial for trial in self.trials if trial.is_cut or trial.is_hole), None)
        return self._has_cuts or (first is not None and first.is_hole)

    def _points(self) -> list[float]:
        """Where to divide the interval around a black hole, as far as there is time for it."""
        low_s, high_s = interval(self.trials)
        if high_s == inf or high_s - low_s <= WIDTH * high_s or self._voids > MAX_VOID:
            return []
        points = [low_s + (high_s - low_s) * k / DIVISIONS for k in range(1, DIVISIONS)]
        return [point for point in points if point + self.grace_s <= self.left_s()]

    @property
    def _voids(self) -> int:
        return sum(bool(trial.void) for trial in self.trials)

    async def _wait_for_all(self, waits_s: Iterable[float], is_enough: Callable[[], bool]) -> None:
        """Try all side by side; what says nothing is tried again, if there is time."""
        gap_s = STAGGER * self.up_to_s
        pending = {asyncio.ensure_future(self._try(wait_s, n * gap_s)) for n, wait_s in enumerate(waits_s)}
        try:
            while pending and not is_enough():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    trial = task.result()
                    self.trials.append(trial)
                    if trial.void and self._voids <= MAX_VOID and trial.tried_s + self.grace_s <= self.left_s():
                        pending.add(asyncio.ensure_future(self._try(trial.tried_s)))
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _try(self, wait_s: float, after_s: float = 0.0) -> Trial:
        await asyncio.sleep(after_s)
        return await self.attempt(wait_s)


@dataclass(frozen=True)
class Limit:
    """What a search has found; `value_s` is infinite where there is no limit up to `low_s`, the longest wait survived.

    seen: how many observations say so
    """

    value_s: float
    low_s: float
    high_s: float
    ending: str
    seen: int

    @property
    def is_found(self) -> bool:
        """Whether there is one."""
        return self.value_s < inf


def limit_of(trials: list[Trial]) -> Limit:
    """What trials say together (pure)."""
    if any(trial.is_cut for trial in trials) and not _hole_is_first(trials):
        return limit_of_cuts(trials)
    low_s, high_s = interval(trials)
    if high_s == inf:
        longest = sum(trial.is_survivor and trial.tried_s == low_s for trial in trials)
        return Limit(inf, low_s, inf, NO_CUT, longest)
    holes = sum(trial.is_hole for trial in trials)
    return Limit((low_s + high_s) / 2, min(low_s, high_s), max(low_s, high_s), BLACK_HOLE, holes)


def limit_of_cuts(trials: list[Trial]) -> Limit:
    """What trials say of which at least one was cut where it could be seen (pure)."""
    cuts = agreed([trial.took_s for trial in trials if trial.is_cut and trial.took_s is not None])
    ending = Counter(trial.ending for trial in trials if trial.is_cut).most_common(1)[0][0]
    return Limit(cuts[0], cuts[0], cuts[-1], ending, len(cuts))


def agreed(cuts_s: Iterable[float]) -> list[float]:
    """The largest group of times that agree, sorted; the first is the best estimate (pure).

    Whatever is busy on the way makes a cut look late, never early.

    >>> agreed([60.2, 60.0, 71.0, 60.1])
    [60.0, 60.1, 60.2]
    """
    cuts_s = sorted(cuts_s)
    groups = [[other for other in cuts_s if cut <= other <= cut * (1 + WIDTH) + NEAR_S] for cut in cuts_s]
    return max(groups, key=len)


def interval(trials: Iterable[Trial]) -> tuple[float, float]:
    """The longest wait that was survived (0: none), and the shortest that was not (infinite: all were) (pure)."""
    trials = list(trials)
    high_s = min((trial.tried_s for trial in trials if trial.is_hole), default=inf)
    survived = [t.tried_s for t in trials if t.is_survivor and t.tried_s <= high_s]
    return max(survived, default=0.0), high_s


def _hole_is_first(trials: list[Trial]) -> bool:
    """Whether a black hole was seen before any cut: what ends a forgotten connection at last is not the limit."""
    first = next((trial for trial in trials if trial.is_cut or trial.is_hole), None)
    return first is not None and first.is_hole

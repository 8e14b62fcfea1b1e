"""Finding a limit by waiting: many connections side by side, each waiting for another time.

First a ladder. A connection that is cut before its time is over shows the limit itself; three such cuts are enough. A
black hole, and an end that shows only at the next byte, say no more than that the limit lies between the longest wait
that was survived and the shortest that was not; then that interval is divided by as many connections again, until it is
narrow enough or the time is over.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from math import inf

from bench.probe.finding import NO_CUT
from bench.probe.trial import Trial
from bench.proxy.rule import seconds

RUNGS = 8
RATIO = 1.6  # from one rung to the next
TOPS = 3  # as many wait for the longest time
JUST_SHORT_OF = 0.97  # of it waits another one: if it survives, what ends the longest waits lies between
DIVISIONS = 12  # of an interval between waits
WIDTH = 0.02  # of an interval that is narrow enough, relative to its upper end
NEAR_S = 0.05  # times that differ by no more agree, however short they are
EARLY, EARLY_S = 0.002, 0.01  # a cut may look so much earlier than it is, relatively or in seconds: clocks and sleeps
STAGGER = 1 / 400  # of the longest wait: so much later each connection begins than the one before
ROUNDS = 3  # after the ladder
SHORT_OF = 0.85  # times a limit: a wait that survives, if it is the limit
CUT_BEYOND = 1.1  # times a limit: a wait that is cut
SEEN = 3  # so often a finding is seen at least
HOLES = 2  # the same of an end at no moment that was seen: every wait below survived, which confirms it
TWICE = 2  # what agrees so often is no chance, though no finding
LADDER_CONNECTIONS = RUNGS + TOPS
MAX_VOID = 3 * LADDER_CONNECTIONS  # trials that say nothing; then the search ends with what it has

TryWait = Callable[[float], Awaitable[Trial]]


@dataclass
class Search:
    """One limit.

    attempt: waits for so long on a connection of its own
    up_to_s: the longest wait
    left_s: how long there still is
    slack_s: how long an attempt takes beyond its wait
    """

    attempt: TryWait
    up_to_s: float
    left_s: Callable[[], float]
    slack_s: float
    trials: list[Trial] = field(default_factory=list)

    async def run(self) -> Limit:
        """Search until the limit is known well enough, or the time is over."""
        await self.climb()
        return await self.sharpen()

    async def climb(self) -> Limit:
        """The ladder: what it shows of the limit."""
        top_s = self.up_to_s
        ladder = [top_s] * (TOPS - 1) + [top_s / RATIO**k for k in range(RUNGS)] + [JUST_SHORT_OF * top_s]
        await self._wait_for_all(ladder, self._is_clear)
        return limit_of(self.trials)

    async def sharpen(self) -> Limit:
        """Behind the ladder: the limit as well as the time allows."""
        for _ in range(ROUNDS):
            waits_s = self._more()
            if not waits_s:
                break
            await self._wait_for_all(waits_s, lambda _pending_s: False)
        return limit_of(self.trials)

    def _is_clear(self, pending_s: Iterable[float]) -> bool:
        """Whether the ladder has said what it can, and no shorter wait is under way: three cuts, or one that nobody
        saw where there is time to look closer.
        """
        limit = limit_of(self.trials)
        has_time = limit.is_between and limit.value_s + self.slack_s <= self.left_s()  # for half the waits between
        is_known = limit.is_found and (limit.is_sure or has_time)
        return is_known and limit.high_s < min(pending_s, default=inf)

    def _more(self) -> list[float]:
        """What to try next, as far as there is time for it."""
        limit = limit_of(self.trials)
        if not limit.is_found or self._voids > MAX_VOID:
            return []
        if limit.is_between:
            width_s = limit.high_s - limit.low_s
            is_sharp = limit.seen >= SEEN and width_s <= WIDTH * limit.high_s
            waits_s = [] if is_sharp else [limit.low_s + width_s * k / DIVISIONS for k in range(1, DIVISIONS + 1)]
        else:
            waits_s = [] if limit.is_sure else [CUT_BEYOND * limit.high_s] * SEEN
            waits_s += [] if self._has_survived(SHORT_OF * limit.low_s) else [(SHORT_OF + 1) / 2 * limit.low_s]
        return [wait_s for wait_s in waits_s if wait_s + self.slack_s <= self.left_s()]

    def _has_survived(self, wait_s: float) -> bool:
        """Whether so long a wait was: else a connection may have been forgotten long before it was cut."""
        return any(trial.is_survivor and trial.tried_s >= wait_s for trial in self.trials)

    @property
    def _voids(self) -> int:
        return sum(bool(trial.void) for trial in self.trials)

    async def _wait_for_all(self, waits_s: Iterable[float], is_enough: Callable[[Iterable[float]], bool]) -> None:
        """Try all side by side; what says nothing is tried again, if there is time."""
        gap_s = STAGGER * self.up_to_s
        pending = {asyncio.ensure_future(self._try(wait_s, n * gap_s)): wait_s for n, wait_s in enumerate(waits_s)}
        try:
            while pending and not is_enough(pending.values()):
                done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    self.trials.append(trial := task.result())
                    wait_s = pending.pop(task)
                    if trial.void and self._voids <= MAX_VOID and wait_s + self.slack_s <= self.left_s():
                        pending[asyncio.ensure_future(self._try(wait_s, gap_s))] = wait_s
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _try(self, wait_s: float, after_s: float) -> Trial:
        await asyncio.sleep(after_s)
        return await self.attempt(wait_s)


@dataclass(frozen=True)
class Limit:
    """What a search has found; `value_s` is infinite where there is no limit up to `low_s`, the longest wait survived.

    seen: how many observations say so
    is_between: nobody saw the moment itself; it lies between the waits around it
    """

    value_s: float
    low_s: float
    high_s: float
    ending: str
    seen: int
    is_between: bool = False

    @property
    def is_found(self) -> bool:
        """Whether there is one."""
        return self.value_s < inf

    @property
    def is_sure(self) -> bool:
        """Whether it was seen often enough to be no chance."""
        return self.seen >= (HOLES if self.is_between else SEEN)

    @property
    def sure_s(self) -> float | None:
        """The value of a finding: None where it may be chance."""
        return self.value_s if self.is_sure else None


def limit_of(trials: list[Trial]) -> Limit:
    """What trials say together (pure)."""
    cut = limit_of_cuts(trials)
    low_s, high_s = wait_limits([trial for trial in trials if cut is None or not _is_the_same(trial, cut)])
    # What ends a forgotten connection at last, after its black hole, is not the limit.
    if cut is not None and cut.value_s < high_s:
        return cut
    if high_s == inf:
        longest = sum(trial.is_survivor and trial.tried_s == low_s for trial in trials)
        return Limit(inf, low_s, inf, NO_CUT, longest)
    endings = Counter(trial.ending for trial in trials if trial.is_hole and trial.tried_s >= high_s)
    ending, seen = endings.most_common(1)[0]
    return Limit((low_s + high_s) / 2, low_s, high_s, ending, seen, is_between=True)


def _is_the_same(unseen: Trial, cut: Limit) -> bool:
    """Whether an end of which nobody saw the moment may be this one: its wait was as long as the limit is."""
    return unseen.is_hole and unseen.ending == cut.ending and cut.value_s <= _latest_alike(unseen.tried_s)


def limit_of_cuts(trials: list[Trial]) -> Limit | None:
    """What the cuts among trials say; None where the waits that survived leave none of them (pure)."""
    cuts = credible_cuts(trials)
    if not cuts:
        return None
    ending = Counter(cut.ending for cut in cuts).most_common(1)[0][0]
    times_s = sorted(_took_s(cut) for cut in cuts)
    low_s, high_s = times_s[0], times_s[-1]
    value_s = low_s
    if all(cut.within_s for cut in cuts):
        low_s, high_s = _common(cuts)
        value_s = (low_s + high_s) / 2
    early_s = max(EARLY * low_s, EARLY_S)
    return Limit(value_s, max(0.0, low_s - early_s), max(high_s, low_s + early_s), ending, len(cuts))


def credible_cuts(trials: list[Trial]) -> list[Trial]:
    """The largest group of cuts that agree, without those that more survivors than it has members contradict."""
    cuts = [trial for trial in trials if trial.is_cut]
    while cuts:
        group = agreed(cuts)
        latest_s = _latest_alike(max(map(_took_s, group)))
        if sum(t.is_survivor and t.tried_s > latest_s for t in trials) <= len(group):
            return group
        cuts = [cut for cut in cuts if cut not in group]
    return []


def _common(cuts: list[Trial]) -> tuple[float, float]:
    """The interval that all share in which a cut must have come; the one around all, where they share none."""
    lows_s = [_took_s(cut) - cut.within_s for cut in cuts]
    highs_s = [_took_s(cut) + cut.within_s for cut in cuts]
    return (max(lows_s), min(highs_s)) if max(lows_s) <= min(highs_s) else (min(lows_s), max(highs_s))


def agreed(cuts: Iterable[Trial]) -> list[Trial]:
    """The largest group of cuts that agree, the earliest first, which is the best estimate (pure).

    Whatever is busy on the way makes a cut look late, never early. One that came somewhere within an interval agrees
    with whatever touches it.

    >>> [cut.took_s for cut in agreed(Trial(90, False, took_s) for took_s in (60.2, 60.0, 71.0, 60.1))]
    [60.0, 60.1, 60.2]
    """
    cuts = sorted(cuts, key=_earliest_s)
    starts_s = map(_earliest_s, cuts)
    groups = [
        [cut for cut in cuts if _earliest_s(cut) <= _latest_alike(start_s) and _took_s(cut) + cut.within_s >= start_s]
        for start_s in starts_s
    ]
    return max(groups, key=len, default=[])


def wait_limits(trials: list[Trial]) -> tuple[float, float]:
    """The longest wait that was survived (0: none), and the shortest that was not (infinite: all were) (pure).

    Where some contradict each other, since something was late, as many as possible are right.

    >>> interval([Trial(1, True), Trial(2, False), Trial(3, True), Trial(4, False), Trial(5, False)])
    (3, 4)
    """
    told = sorted((trial for trial in trials if trial.is_survivor or trial.is_hole), key=lambda trial: trial.tried_s)
    wrong = [sum(t.is_hole for t in told[:n]) + sum(t.is_survivor for t in told[n:]) for n in range(len(told) + 1)]
    split = wrong.index(min(wrong))
    low_s = max((trial.tried_s for trial in told[:split] if trial.is_survivor), default=0.0)
    return low_s, min((trial.tried_s for trial in told[split:] if trial.is_hole), default=inf)


def dissent(trials: list[Trial], limit: Limit) -> str:
    """What contradicts the finding, seen more than once: "" if nothing was (pure).

    Several servers behind one name, or several ways to them, need not do the same.
    """
    if limit.is_found:
        longer = sum(trial.is_survivor and trial.tried_s > _latest_alike(limit.high_s) for trial in trials)
        return f"; {longer} others lasted longer" if longer >= TWICE else ""
    cuts = agreed(trial for trial in trials if trial.is_cut)
    return f"; but {len(cuts)} others ended after {seconds(_took_s(cuts[0]))}" if len(cuts) >= TWICE else ""


def _latest_alike(time_s: float) -> float:
    """The latest time that may be the same."""
    return time_s * (1 + WIDTH) + NEAR_S


def _earliest_s(cut: Trial) -> float:
    return _took_s(cut) - cut.within_s


def _took_s(cut: Trial) -> float:
    assert cut.took_s is not None
    return cut.took_s

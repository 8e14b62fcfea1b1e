"""One recommendation for one intermediary: which way to carry tokens, the evidence, and what would change it (pure).

`tokenderby decide` runs every way that may work, each in a few situations (bench.decide). They are weighed in this
order, and each step keeps those that are as good as the best of it:

1. every message arrived whole, in every situation (else: most did in the worst of them, then in all together);
2. the limits of the plan's `[slo]` are met;
3. readers wait no more than NEAR_S longer for an answer than with the best, in real seconds (in a run whose times
   are divided: than what the run can tell);
4. the fewest settings (a heartbeat, a recovery); then the order of PREFERENCE.

What would change the choice follows from weighing again with a situation or the limits left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from bench.analysis.findings.gates import Gate, gates, not_met
from bench.analysis.findings.survival import (
    Spot,
    SurvivalMap,
    Way,
    named_way,
    profile_title,
    settings_of,
    survival_maps,
)
from bench.analysis.measures.groups import Measurements
from bench.analysis.measures.metrics import estimate
from bench.analysis.measures.situations import Situation, situation_words
from bench.analysis.statistics.wording import counted, in_sentence, listed
from bench.slo import is_time

NEAR_S = 0.1
"""A choice: up to about 0.1 s people take a response as immediate."""

ERROR_S = 0.02
"""By so much of the clock's time a wait may be wrong where many cells share a machine; a time scale multiplies it."""

PREFERENCE = {
    "sse": "comes later in the order of preference",
    "chunked": "has no standard for its framing and for resuming",
    "websocket": "needs an upgrade",
    "polling": "asks again and again",
    "blocking": "shows nothing before the end",
}
"""The order where nothing else tells ways apart, with what each has against it."""


class SeenWay(NamedTuple):
    """A way in one situation: how many of its messages arrived whole, and what became of the others, in words.

    `wait_s` are the real seconds that readers wait for an answer beyond the model's own.
    """

    situation: Situation
    complete: int
    messages: int
    harm: str
    wait_s: float

    @property
    def is_whole(self) -> bool:
        """Whether every message arrived whole."""
        return self.complete == self.messages


@dataclass(frozen=True)
class Candidate:
    """A way that was measured: what was seen of it in each situation, and the limits that it does not keep.

    `near_s` is the wait that makes no difference.
    """

    way: Way
    seen: tuple[SeenWay, ...]
    missed: tuple[Gate, ...]
    near_s: float

    @property
    def wait_s(self) -> float:
        """The waiting per answer in the situation where it is longest."""
        return max(each.wait_s for each in self.seen)

    @property
    def share(self) -> float:
        """The share of messages that arrived whole, in the situation where that is least."""
        return min(each.complete / each.messages for each in self.seen)

    @property
    def is_whole(self) -> bool:
        """Whether every message arrived whole."""
        return all(each.is_whole for each in self.seen)

    @property
    def messages(self) -> int:
        """How many were sent."""
        return sum(each.messages for each in self.seen)

    @property
    def complete(self) -> int:
        """How many of them arrived whole."""
        return sum(each.complete for each in self.seen)


@dataclass(frozen=True)
class Recommendation:
    """What to take behind one intermediary. `others` has, for every other transport, its best way and why not that."""

    profile: str
    chosen: Candidate
    others: tuple[tuple[Candidate, str], ...]
    changes: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether what is recommended brought every message and keeps every limit."""
        return self.chosen.is_whole and not self.chosen.missed

    @property
    def sentence(self) -> str:
        """The recommendation and the evidence for it, in numbers."""
        name, chosen = named_way(self.chosen.way), self.chosen
        if not chosen.is_whole:
            worst = min(chosen.seen, key=lambda each: each.complete / each.messages)
            said = f"{worst.complete} of {counted(worst.messages, 'message')} arrived whole{_when(worst.situation)}"
            said += f", {chosen.complete} of {chosen.messages} in all" if len(chosen.seen) > 1 else ""
            return f"{self._lead}, nothing brought every message. {name} does best in its worst situation: {said}."
        whens = listed([each.situation.when for each in chosen.seen if each.situation.when])
        whole = f"all {counted(chosen.messages, 'message')} arrived whole" + (f", {whens}" if whens else "")
        wait = f"readers wait {_seconds(chosen.wait_s)} longer than for the model itself"
        limits = f"; not kept: {listed([_missed(gate) for gate in chosen.missed])}" if chosen.missed else ""
        return f"{self._lead}, take {name}: {whole}; {wait}{limits}."

    @property
    def runner_up(self) -> str:
        """The next transport's best way, and why it is not the first; empty if no other was measured."""
        if not self.others:
            return ""
        candidate, why = self.others[0]
        return f"Runner-up: {named_way(candidate.way)} ({why})."

    @property
    def lines(self) -> list[str]:
        """What stands behind the sentence: the runner-up, what would change the choice, and the other transports."""
        rest = [f"{named_way(candidate.way)}: {why}." for candidate, why in self.others[1:]]
        return [line for line in (self.runner_up, *self.changes, *rest) if line]

    @property
    def _lead(self) -> str:
        title = profile_title(self.profile)
        return f"Behind {self.profile}" + (f" ({title})" if title else "")


def is_wanted(plan: Any) -> bool:
    """Whether a run's plan asks for one recommendation."""
    return bool(plan.get("decision"))


def recommendation(measured: Measurements) -> Recommendation | None:
    """What to take behind the run's intermediary; None where no way was measured in every situation."""
    if not measured.recommended:
        measured.recommended.append(_recommendation(measured))
    found: Recommendation | None = measured.recommended[0]
    return found


def _recommendation(measured: Measurements) -> Recommendation | None:
    maps = survival_maps(measured)
    profile = next((name for each in maps for name in each.profiles if name != "direct"), "")
    every = _candidates(measured, maps, profile)
    return choose(profile, every) if every else None


def choose(profile: str, every: Sequence[Candidate]) -> Recommendation:
    """The best of at least one candidate."""
    chosen = _weighed(every)[0]
    return Recommendation(profile, chosen, _others(every, chosen), tuple(_changes(every, chosen)))


def that_count(measured: Measurements, missed: Sequence[Gate]) -> list[Gate]:
    """Of limits that are not met, those that make a run fail: all; where one way is to be chosen, its own."""
    if not is_wanted(measured.run.plan):
        return list(missed)
    found = recommendation(measured)
    return list(found.chosen.missed) if found else list(missed)


def unmet_recommendation(measured: Measurements) -> list[str]:
    """A line where a recommendation is wanted and nothing can be recommended."""
    if not is_wanted(measured.run.plan):
        return []
    found = recommendation(measured)
    if found is None:
        return ["no way was measured in every situation, so nothing is recommended; the report says why"]
    return [] if found.chosen.is_whole else [in_sentence(found.sentence)]


def _candidates(measured: Measurements, maps: Sequence[SurvivalMap], profile: str) -> list[Candidate]:
    missed = [_in_real_time(gate, measured.run.time_scale) for gate in not_met(gates(measured))]
    found = []
    for way in dict.fromkeys(way for each in maps for way in each.ways):
        spots = [(each.situation, spot) for each in maps if (spot := each.spot(way, profile))]
        if len(spots) == len(maps):
            seen = tuple(_seen(each, spot, measured.run.time_scale) for each, spot in spots)
            keys = {spot.cell.key for _, spot in spots}
            own = tuple(gate for gate in missed if gate.key in keys)
            found.append(Candidate(way, seen, own, max(NEAR_S, ERROR_S * measured.run.time_scale)))
    return found


def _in_real_time(gate: Gate, time_scale: float) -> Gate:
    """A limit as the plan has it, and what was found, in the plan's real time too."""
    if not is_time(gate.column):
        return gate
    return replace(gate, limit=gate.limit * time_scale, found=gate.found.times(time_scale))


def _seen(situation: Situation, spot: Spot, time_scale: float) -> SeenWay:
    """Infinite waiting where a message never arrived."""
    wait_s = estimate(spot.cell, "wait_s_per_answer").value * time_scale
    wait_s = math.inf if math.isnan(wait_s) else wait_s
    return SeenWay(situation, spot.complete, spot.messages, "" if spot.survives else spot.harm, wait_s)


def _weighed(every: Sequence[Candidate]) -> list[Candidate]:
    """All candidates, the one to take first; each step keeps those that are as good as its best."""
    left = list(every)
    for badness in _STEPS:
        least = min(map(badness, left))
        margin = left[0].near_s if badness is _wait else 0.0
        left = [each for each in left if badness(each) <= least + margin]  # infinity is not above itself
    first = min(left, key=_plainness)
    return [first, *(each for each in every if each is not first)]


def _wait(each: Candidate) -> float:
    return each.wait_s


_STEPS: tuple[Callable[[Candidate], float], ...] = (
    lambda each: 1 - each.share,
    lambda each: -each.complete / each.messages,
    lambda each: len(each.missed),
    _wait,
)


def _plainness(candidate: Candidate) -> tuple[int, int, str]:
    """Few settings first."""
    way = candidate.way
    place = list(PREFERENCE).index(way.transport) if way.transport in PREFERENCE else len(PREFERENCE)
    return len(settings_of(way)), place, way.title


def _others(every: Sequence[Candidate], chosen: Candidate) -> tuple[tuple[Candidate, str], ...]:
    """The best way of each other transport, the better first, with what it is behind the chosen one in."""
    left = [each for each in every if each.way.transport != chosen.way.transport]
    found: list[tuple[Candidate, str]] = []
    while left:
        best = _weighed(left)[0]
        found.append((best, _why_not(best, chosen)))
        left = [each for each in left if each.way.transport != best.way.transport]
    return tuple(found)


def _why_not(other: Candidate, chosen: Candidate) -> str:
    """The first step at which a way is behind the chosen one."""
    if other.share < chosen.share:
        return next(f"{each.harm}{_when(each.situation)}" for each in other.seen if not each.is_whole)
    if other.complete / other.messages < chosen.complete / chosen.messages:
        return f"brought {other.complete} of {counted(other.messages, 'message')} in all, fewer"
    if len(other.missed) > len(chosen.missed):
        return f"does not keep {listed([_missed(gate) for gate in other.missed])}"
    if other.wait_s > chosen.wait_s + chosen.near_s:
        return f"readers wait {_seconds(other.wait_s - chosen.wait_s)} longer"
    if _plainness(other) < _plainness(chosen):  # it would have been taken, but for its wait beside the least of all
        return f"readers wait {_seconds(max(0.0, other.wait_s - chosen.wait_s))} longer, too long beside the best"
    settings = len(settings_of(other.way)) - len(settings_of(chosen.way))
    more = f"does as well with {counted(settings, 'setting')} more"
    return more if settings > 0 else f"does as well, but {PREFERENCE.get(other.way.transport, 'is not one of ours')}"


def _changes(every: Sequence[Candidate], chosen: Candidate) -> list[str]:
    """What would be taken if a situation never came, or if there were no limits."""
    said = []
    for situation in (each.situation for each in chosen.seen if len(chosen.seen) > 1):
        other = _weighed([_without(each, situation) for each in every])[0]
        if other.way != chosen.way:
            said.append(f"Leaving out what happens {situation.when or situation.title}: take {named_way(other.way)}.")
    other = _weighed([replace(each, missed=()) for each in every])[0]
    if other.way != chosen.way:
        said.append(f"Without the limits, take {named_way(other.way)}.")
    return said


def _without(candidate: Candidate, situation: Situation) -> Candidate:
    """The candidate as if that situation had not been tried: neither what was seen in it, nor limits missed there."""
    return replace(
        candidate,
        seen=tuple(each for each in candidate.seen if each.situation != situation),
        missed=tuple(gate for gate in candidate.missed if situation_words(gate.key) != situation.words),
    )


def _when(situation: Situation) -> str:
    return f" {situation.when}" if situation.when else ""


def _missed(gate: Gate) -> str:
    return f"{gate.demand} ({gate.finding})"


def _seconds(wait_s: float) -> str:
    return f"{wait_s:.2f} s" if math.isfinite(wait_s) else "for ever"

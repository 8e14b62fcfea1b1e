"""The survival map: which way of carrying tokens gets through which intermediary, and what is needed for that.

A map has a column per profile and a row per way (transport, its settings, what it does after a drop). Runs may hold
several situations, such as a conversation with long pauses and a model that falls silent: each has a map of its own,
because they are different work.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from bench.analysis.findings.buffering_alarm import held_back_of
from bench.analysis.measures.groups import Key, MeasuredCell, Measurements, transport_title
from bench.analysis.measures.metrics import estimate
from bench.analysis.measures.situations import Situation, described, real_plan, real_seconds, situation_words
from bench.analysis.statistics import intervals
from bench.analysis.statistics.intervals import Estimate
from bench.analysis.statistics.wording import listed
from bench.proxy import profile as proxy_profiles
from clients.core.record import Outcome
from servers.transport import CONTESTANTS

_DIRECT = "direct"
MAX_NAMED = 3  # intermediaries, in the answer
_RECOVERIES = {
    "resume": "resuming",
    "restart": "starting again",
    "fallback": "going over to another transport",
}
_NEVER_OPENED = ("refused", "http_error", "protocol_error")

# What became of a message that is not whole, in the words of a sentence; {} stands for how many.
_LOST = "lost {}"
_LATE = "brought {} too late or never"
_ENDLESS = "brought {} without an end"
_HARMS: dict[str, str] = {
    Outcome.DUPLICATED: "repeated tokens in {}",
    Outcome.REORDERED: "mixed up the order of {}",
    Outcome.ALTERED: "altered {}",
    Outcome.CLIENT_ERROR: "could not be judged in {}",
}


class Way(NamedTuple):
    """A row of the map: a transport, its other words (`heartbeat=15`), and the recovery."""

    transport: str
    words: tuple[str, ...] = ()
    recovery: str = "none"

    @property
    def title(self) -> str:
        """For people: "SSE heartbeat=15 · resume"."""
        return Key(self.transport, " ".join(self.words), _DIRECT, self.recovery).title


@dataclass(frozen=True)
class Spot:
    """One square of the map: how many messages arrived complete, and the cell that has all else."""

    cell: MeasuredCell
    complete: int
    messages: int

    @property
    def share(self) -> Estimate:
        """The share of messages that arrived complete, with Wilson's interval."""
        return Estimate(self.complete / self.messages, *intervals.wilson(self.complete, self.messages))

    @property
    def survives(self) -> bool:
        """Whether every message arrived complete."""
        return self.complete == self.messages

    @property
    def never_opened(self) -> bool:
        """Whether not a single message got as far as its first token, since it was turned away."""
        messages = self.cell.valid_messages
        turned_away = messages["outcome"].isin(_NEVER_OPENED) & (messages["tokens_received"] == 0)
        return bool(turned_away.all())

    @property
    def harms(self) -> dict[str, int]:
        """How many messages were lost, repeated, late, …: phrases with a `{}` for the number, in their order."""
        messages = self.cell.valid_messages
        failed = messages[~messages["completed"]]
        return dict(Counter(_harm(row) for row in failed.to_dict("records")))

    @property
    def harm(self) -> str:
        """The same for a sentence: "lost 3 of 8 messages and repeated tokens in 2"."""
        (first, times), *others = self.harms.items()
        lead = first.format(f"{times} of {self.messages} messages")
        return listed([lead, *(phrase.format(count) for phrase, count in others)])

    def per_message(self, column: str) -> float:
        """The mean of a column over all messages."""
        return float(self.cell.valid_messages[column].mean())


@dataclass(frozen=True)
class SurvivalMap:
    """A situation, and what became of its messages; a square that has no valid cell is missing."""

    situation: Situation
    ways: list[Way]
    profiles: list[str]
    spots: dict[tuple[Way, str], Spot]

    def spot(self, way: Way, profile: str) -> Spot | None:
        """The square, if it was measured."""
        return self.spots.get((way, profile))


@dataclass(frozen=True)
class ProfileAdvice:
    """What a run says of one intermediary, in words that can be acted on: a clause for each situation."""

    profile: str
    name: str
    clauses: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """All in one sentence."""
        return f"{self.lead}: {'; '.join(self.clauses)}."

    @property
    def lead(self) -> str:
        """Where: "Behind nginx (…)"."""
        return "Directly" if self.profile == _DIRECT else f"Behind {self.name}"


def survival_maps(measured: Measurements) -> list[SurvivalMap]:
    """A map for each situation in which something stood in between, or something came back after drops."""
    by_situation: dict[tuple[str, ...], list[MeasuredCell]] = {}
    for cell in measured.cells:
        if not cell.key.is_control:
            by_situation.setdefault(situation_words(cell.key), []).append(cell)
    telling = {
        words: cells
        for words, cells in sorted(by_situation.items())  # the plan's own load first
        if any((g.key.profile, g.key.recovery) != (_DIRECT, "none") for g in cells)
    }
    found = described(telling, real_plan(measured.run))
    return [_map(found[words], cells) for words, cells in telling.items()]


def _harm(message: Mapping[Hashable, Any]) -> str:
    """The phrase for one message that is not whole: tokens that came twice, or too late, are not lost."""
    outcome = message["outcome"]
    if outcome == Outcome.TIMEOUT and str(message["detail"]).startswith("timeout"):
        return _LATE  # the whole message took too long; silence is another detail
    if outcome in _HARMS:
        return _HARMS[outcome]
    return _LOST if message["tokens_lost"] else _ENDLESS


def _map(situation: Situation, cells: Sequence[MeasuredCell]) -> SurvivalMap:
    spots = {
        (_way(g.key), g.key.profile): Spot(g, int(g.valid_messages["completed"].sum()), len(g.valid_messages))
        for g in cells
        if len(g.valid_messages) and g.is_mostly_valid
    }
    ways = sorted({_way(g.key) for g in cells}, key=_order)
    profiles = sorted({g.key.profile for g in cells}, key=lambda profile: (profile != _DIRECT, profile))
    return SurvivalMap(situation, ways, profiles, spots)


def _way(key: Key) -> Way:
    return Way(key.transport, tuple(w for w in key.words if w not in situation_words(key)), key.recovery)


def _order(way: Way) -> tuple[object, ...]:
    place = list(CONTESTANTS).index(way.transport) if way.transport in CONTESTANTS else len(CONTESTANTS)
    return place, way.transport, {"none": 0, "restart": 1, "resume": 2, "fallback": 3}.get(way.recovery, 4), way.words


def profile_title(name: str) -> str:
    """The intermediary's full name, if it is one of ours."""
    try:
        return proxy_profiles.load_profile(name).title
    except proxy_profiles.ProfileError:  # a user's own file, or a real one
        return ""


def advice(maps: Sequence[SurvivalMap]) -> list[ProfileAdvice]:
    """For each profile what every transport needs in order to get through, as measured."""
    found = []
    for profile in dict.fromkeys(p for each in maps for p in each.profiles):
        title = profile_title(profile)
        clauses = [clause for each in maps if (clause := _clause(each, profile))]
        if clauses and (profile != _DIRECT or any(_troubled(each, profile) for each in maps)):
            found.append(ProfileAdvice(profile, f"{profile} ({title})" if title else profile, tuple(clauses)))
    return found


def _clause(each: SurvivalMap, profile: str) -> str:
    """What is to be said of each transport in one situation, those with the same fate together."""
    fates: dict[str, list[str]] = {}
    for transport, spots in _by_transport(each, profile).items():
        fates.setdefault(_fate(spots), []).append(transport_title(transport))
    said = listed([f"{listed(names)}{' each' * (len(names) > 1)} {fate}" for fate, names in fates.items()])
    return f"{each.situation.when}, {said}" if each.situation.when and said else said


def _by_transport(each: SurvivalMap, profile: str) -> dict[str, dict[Way, Spot]]:
    """The squares behind one profile that were measured, by transport, the simplest way of each first."""
    found: dict[str, dict[Way, Spot]] = {}
    for way in each.ways:
        if spot := each.spot(way, profile):
            found.setdefault(way.transport, {})[way] = spot
    return {
        name: dict(sorted(spots.items(), key=lambda item: len(settings_of(item[0])))) for name, spots in found.items()
    }


def _troubled(each: SurvivalMap, profile: str) -> bool:
    """Whether a transport, as simple as it was measured, did not bring every message."""
    return any(not next(iter(spots.values())).survives for spots in _by_transport(each, profile).values())


def _fate(spots: dict[Way, Spot]) -> str:
    """What became of one transport's messages, and what would help."""
    simplest, plain = next(iter(spots.items()))
    known = "" if simplest == Way(simplest.transport) else f"with {' '.join(settings_of(simplest))} "
    if plain.survives:
        notes = ["but held back"] if held_back_of(plain.cell) else []
        notes += [
            f"not {_by(way)}: {spot.harm}" for way, spot in spots.items() if _is_simple(way) and not spot.survives
        ]
        return f"{known}got all {plain.messages} messages through" + (f" ({'; '.join(notes)})" if notes else "")
    if all(spot.never_opened for spot in spots.values()):
        return f"{known}got nothing through ({_commonest(plain.cell.valid_messages['detail'])})"
    remedies = {way: spot for way, spot in spots.items() if _is_simple(way) and way != simplest}
    said = _remedies(remedies)
    return f"{known}{plain.harm} ({said})" if said else f"{known}{plain.harm}"


def _remedies(spots: Mapping[Way, Spot]) -> str:
    """Which remedies saved all, which did not, and which brought every token but not as it should."""
    named = {_remedy(way): spot for way, spot in spots.items()}
    helps = [remedy for remedy, spot in named.items() if spot.survives]
    fails = [remedy for remedy, spot in named.items() if set(spot.harms) == {_LOST}]
    said = [f"fixed by {', or by '.join(helps)}"] if helps else []
    said += [f"not by {', or by '.join(fails)}"] if fails else []
    said += [f"{remedy} {spot.harm}" for remedy, spot in named.items() if remedy not in (*helps, *fails)]
    return ", ".join(said)


def _is_simple(way: Way) -> bool:
    """One remedy at a time: a heartbeat, or a recovery. Who asks is none."""
    return not any(word.startswith("client=") for word in way.words) and len(way.words) + (way.recovery != "none") == 1


def _by(way: Way) -> str:
    """A remedy that is none, or a setting: "by resuming", "with wait=20"."""
    return f"{'by' if way.recovery != 'none' or way.words[0].startswith('heartbeat=') else 'with'} {_remedy(way)}"


def _remedy(way: Way) -> str:
    if way.recovery != "none":
        return _RECOVERIES.get(way.recovery, way.recovery)
    name, _, value = way.words[0].partition("=")
    if name == "heartbeat" and value.replace(".", "", 1).isdecimal():
        return f"a heartbeat every {real_seconds(float(value))}"
    return way.words[0]


def settings_of(way: Way) -> tuple[str, ...]:
    """What a way sets beyond its transport's defaults."""
    return (*way.words, *([way.recovery] if way.recovery != "none" else []))


def _commonest(details: pd.Series[str]) -> str:
    (text, _count), *_ = Counter(detail.partition(":")[0] for detail in details).most_common(1)
    return text


def survivors_sentence(maps: Sequence[SurvivalMap]) -> str:
    """What gets through everything that was measured, in a sentence; empty if nothing stood in between."""
    between = [each for each in maps if len(each.profiles) > 1]
    ways = dict.fromkeys(way for each in between for way in each.ways)
    if not ways:
        return ""
    everywhere = [way for way in ways if _survives_all(between, way)]
    simple = [
        way
        for way in everywhere
        if not any(set(settings_of(o)) < set(settings_of(way)) for o in _siblings(everywhere, way))
    ]
    behind = {profile for each in between for profile in each.profiles} - {_DIRECT}
    through = listed(sorted(behind)) if len(behind) <= MAX_NAMED else f"all {len(behind)} intermediaries"
    if not simple:
        return f"No transport brought every message through {through}."
    others = dict.fromkeys(
        transport_title(way.transport) for way in ways if way.transport not in {w.transport for w in simple}
    )
    lead = f"Brought every message through {through}: {listed([named_way(way) for way in simple])}."
    return f"{lead} Not so {listed(list(others))}, however it was set." if others else lead


def _survives_all(maps: Sequence[SurvivalMap], way: Way) -> bool:
    """Whether a way brought every message wherever it was measured, and it was measured behind every profile."""
    spots = [each.spot(way, profile) for each in maps if way in each.ways for profile in each.profiles]
    return all(spot is not None and spot.survives for spot in spots)


def _siblings(ways: Sequence[Way], way: Way) -> list[Way]:
    return [other for other in ways if other.transport == way.transport]


def named_way(way: Way) -> str:
    """For a sentence: "SSE with resuming"."""
    by = [*(_remedy(Way(way.transport, (word,))) for word in way.words)]
    by += [_remedy(Way(way.transport, recovery=way.recovery))] if way.recovery != "none" else []
    return f"{transport_title(way.transport)} with {listed(by)}" if by else transport_title(way.transport)


def how_noticed(messages: pd.DataFrame) -> str:
    """How the clients learnt of their drops: "fin 20×, silence 3×"; empty if there were none."""
    hows = Counter(how for text in messages["noticed_by"] for how in text.split("; ") if how)
    return ", ".join(f"{how} {times}×" for how, times in hows.most_common())


@dataclass(frozen=True)
class Twins:
    """The same cell behind an emulated intermediary and behind the real one."""

    emulated: MeasuredCell
    real: MeasuredCell

    @property
    def difference_ms(self) -> float:
        """How much later the emulated one cut, at the median."""
        emulated, real = (estimate(cell, "detection_ms_p50").value for cell in (self.emulated, self.real))
        return emulated - real


def twins(measured: Measurements) -> list[Twins]:
    """The cells that a run has behind an emulated and a real intermediary of the same name."""
    by_key = {g.key: g for g in measured.cells if len(g.messages)}
    return [
        Twins(by_key[emulated], cell)
        for key, cell in by_key.items()
        if key.profile.startswith("real:") and (emulated := key._replace(profile=key.profile[5:])) in by_key
    ]


def extra_requests(each: SurvivalMap, spot: Spot) -> float:
    """Requests per message beyond what the same transport takes with nothing in between; NaN if that is not known."""
    plain = each.spot(Way(spot.cell.key.transport), _DIRECT)
    if plain is None or spot.never_opened:
        return math.nan
    return spot.per_message("requests") - plain.per_message("requests")

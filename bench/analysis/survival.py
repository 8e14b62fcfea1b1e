"""The survival map: which way of carrying tokens gets through which intermediary, and what is needed for that.

A map has a column per profile and a row per way (transport, its settings, what it does after a drop). Runs may hold
several situations, such as a conversation with long pauses and a model that falls silent: each has a map of its own,
because they are different work.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import pandas as pd

from bench.analysis import intervals
from bench.analysis.buffering import alarm_of
from bench.analysis.groups import Group, Key, Measurements
from bench.analysis.intervals import Estimate
from bench.analysis.metrics import estimate
from bench.analysis.wording import listed
from bench.proxy import profile as proxy_profiles
from bench.store import Run
from servers.stream import StreamError, StreamSpec, build
from servers.transport import TRANSPORTS

_SEEDS = range(20)  # answers that are looked at for the model's longest silence
_DIRECT = "direct"
_NEVER_OPENED = ("refused", "http_error", "protocol_error")


@dataclass(frozen=True)
class Situation:
    """What was asked, apart from how: `words` of the variant, a `title`, and `when` for the middle of a sentence.

    Times in them are what the run's stand for; `scale` is what they were divided by.
    """

    words: tuple[str, ...]
    title: str
    when: str
    scale: float = 1.0


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
    """One square of the map: how many messages arrived complete, and the group that has all else."""

    group: Group
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
        turned_away = self.group.messages["outcome"].isin(_NEVER_OPENED) & (self.group.messages["tokens_received"] == 0)
        return bool(turned_away.all())

    def per_message(self, column: str) -> float:
        """The mean of a column over all messages."""
        return float(self.group.messages[column].mean())


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
class Advice:
    """What a run says of one intermediary, in words that can be acted on: a clause for each situation."""

    profile: str
    name: str
    clauses: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """All in one sentence."""
        lead = "Directly" if self.profile == _DIRECT else f"Behind {self.name}"
        return f"{lead}: {'; '.join(self.clauses)}."


def survival_maps(measured: Measurements) -> list[SurvivalMap]:
    """A map for each situation in which something stood in between, or something came back after drops."""
    run = measured.run
    maps = []
    by_situation: dict[tuple[str, ...], list[Group]] = {}
    for group in measured.groups:
        if not group.key.is_control:
            by_situation.setdefault(_situation_words(group.key), []).append(group)
    for words, groups in sorted(by_situation.items(), key=lambda item: item[0]):  # the plan's own load first
        if any((g.key.profile, g.key.recovery) != (_DIRECT, "none") for g in groups):
            maps.append(_map(_situation(words, run), groups))
    return maps


def _map(situation: Situation, groups: Sequence[Group]) -> SurvivalMap:
    spots = {
        (_way(g.key), g.key.profile): Spot(g, int(g.messages["completed"].sum()), len(g.messages))
        for g in groups
        if len(g.messages) and g.is_valid
    }
    ways = sorted({_way(g.key) for g in groups}, key=_order)
    profiles = sorted({g.key.profile for g in groups}, key=lambda profile: (profile != _DIRECT, profile))
    return SurvivalMap(situation, ways, profiles, spots)


def _situation_words(key: Key) -> tuple[str, ...]:
    return tuple(word for word in key.words if word.startswith(("load=", "stream=")))


def _way(key: Key) -> Way:
    return Way(key.transport, tuple(w for w in key.words if w not in _situation_words(key)), key.recovery)


def _order(way: Way) -> tuple[object, ...]:
    place = list(TRANSPORTS).index(way.transport) if way.transport in TRANSPORTS else len(TRANSPORTS)
    return place, way.transport, {"none": 0, "restart": 1, "resume": 2}.get(way.recovery, 3), way.words


def _situation(words: tuple[str, ...], run: Run) -> Situation:
    """Describe a load and a stream by what an intermediary sees of them: pauses between messages, and silences."""
    scale, stated = run.time_scale, run.stated_scale
    named = dict(word.split("=", 1) for word in words)
    load, stream = (_part(run.plan, what, named.get(what)) for what in ("load", "stream"))
    lasts_s, silent_s = (seconds * stated for seconds in _rhythm(stream))
    parts, when = [], ""
    if lasts_s:
        parts.append(f"answers of {_seconds(lasts_s, scale)}, silent for up to {_seconds(silent_s, scale)}")
        when = f"when the model is silent for up to {_seconds(silent_s, scale)}"
    if load.get("turns", 1) > 1:
        pause = _seconds(load.get("think_s", 0.0), scale)
        parts.insert(0, f"{load['turns']} messages, {pause} apart")
        when = f"with {pause} between messages"
    if load.get("silence_s"):
        patience = _seconds(load["silence_s"] * stated, scale)
        parts.append(f"clients give up after {patience} without a byte")
        when += f" and clients wait no longer than {patience}" if load["silence_s"] * stated < silent_s else ""
    return Situation(words, "; ".join(parts) or " ".join(words), when or " ".join(words), scale)


def _part(plan: Mapping[str, Any], what: str, name: str | None) -> Mapping[str, Any]:
    """The plan's `[load]` or one of its `[loads]`, `[stream]` or one of its `[streams]`; empty if it does not say."""
    found = (plan.get(f"{what}s") or {}).get(name) if name else plan.get(what)
    return found or {}


def _seconds(real_s: float, scale: float) -> str:
    """Real seconds, and what the run has divided them by: "70 s ÷ 20"."""
    return f"{real_s:.3g}\u00a0s" + (f"\u00a0÷\u00a0{scale:g}" if scale != 1 else "")


def _rhythm(stream: Mapping[str, Any]) -> tuple[float, float]:
    """How long the longest answer takes, and the model's longest silence in one, in seconds; zeros if not known."""
    if not stream:
        return 0.0, 0.0
    try:
        spec = StreamSpec.parse(dict(stream))
    except StreamError:  # a recording, which is not at hand
        return 0.0, 0.0
    due_ns = [build(spec, seed).due_ns for seed in _SEEDS]
    silent_ns = max(later - earlier for due in due_ns for earlier, later in pairwise([0, *due]))
    return max(due[-1] for due in due_ns) / 1e9, silent_ns / 1e9


def profile_title(name: str) -> str:
    """The intermediary's full name, if it is one of ours."""
    try:
        return proxy_profiles.load(name).title
    except proxy_profiles.ProfileError:  # a user's own file, or a real one
        return ""


def advice(maps: Sequence[SurvivalMap]) -> list[Advice]:
    """For each profile what every transport needs in order to get through, as measured."""
    found = []
    for profile in dict.fromkeys(p for each in maps for p in each.profiles):
        title = profile_title(profile)
        clauses = [f"{m.situation.when}, {listed(parts)}" for m in maps if (parts := _findings(m, profile))]
        if clauses and (profile != _DIRECT or any("lost" in clause for clause in clauses)):
            found.append(Advice(profile, f"{profile} ({title})" if title else profile, tuple(clauses)))
    return found


def _findings(each: SurvivalMap, profile: str) -> list[str]:
    """What is to be said of each transport, those with the same fate together."""
    fates: dict[str, list[str]] = {}
    for transport in dict.fromkeys(way.transport for way in each.ways):
        if fate := _fate(each, transport, profile):
            fates.setdefault(fate, []).append(TRANSPORTS[transport].title if transport in TRANSPORTS else transport)
    return [f"{listed(names)} {fate}" for fate, names in fates.items()]


def _fate(each: SurvivalMap, transport: str, profile: str) -> str:
    """What became of one transport's messages, and what would help; empty if it was not measured."""
    spots = {w: s for w in each.ways if w.transport == transport and (s := each.spot(w, profile))}
    if not spots:
        return ""
    simplest = min(spots, key=lambda way: (len(way.words) + (way.recovery != "none"), each.ways.index(way)))
    plain, known = spots[simplest], "" if simplest == Way(transport) else f"with {' '.join(_settings(simplest))} "
    if plain.survives:
        held = " (but held back)" if alarm_of(plain.group) else ""
        return f"{known}got all {plain.messages} messages through{held}"
    if all(spot.never_opened for spot in spots.values()):
        return f"{known}got nothing through ({_commonest(plain.group.messages['detail'])})"
    helps: list[str] = []
    fails: list[str] = []
    for way, spot in spots.items():
        if _is_simple(way) and way != simplest:
            (helps if spot.survives else fails).append(_remedy(way, each.situation.scale))
    saved = [f"saved by {listed(helps, 'or')}"] if helps else []
    saved += [f"not by {listed(fails, 'or')}"] if fails else []
    lost = f"{known}lost {plain.messages - plain.complete} of {plain.messages} messages"
    return f"{lost} ({', '.join(saved)})" if saved else lost


def _is_simple(way: Way) -> bool:
    """One remedy at a time: a heartbeat, or a recovery."""
    return len(way.words) + (way.recovery != "none") == 1


def _remedy(way: Way, scale: float) -> str:
    if way.recovery != "none":
        return {"resume": "resuming", "restart": "starting again"}.get(way.recovery, way.recovery)
    name, _, value = way.words[0].partition("=")
    if name == "heartbeat" and value.replace(".", "", 1).isdecimal():
        return f"a heartbeat every {_seconds(float(value), scale)}"
    return way.words[0]


def _settings(way: Way) -> tuple[str, ...]:
    """What a way sets beyond its transport's defaults."""
    return (*way.words, *([way.recovery] if way.recovery != "none" else []))


def _commonest(details: pd.Series[str]) -> str:
    (text, _count), *_ = Counter(detail.partition(":")[0] for detail in details).most_common(1)
    return text


def how_noticed(messages: pd.DataFrame) -> str:
    """How the clients learnt of their drops: "fin 20×, silence 3×"; empty if there were none."""
    hows = Counter(how for text in messages["noticed_by"] for how in text.split("; ") if how)
    return ", ".join(f"{how} {times}×" for how, times in hows.most_common())


@dataclass(frozen=True)
class Twins:
    """The same cell behind an emulated intermediary and behind the real one."""

    emulated: Group
    real: Group

    @property
    def difference_ms(self) -> float:
        """How much later the emulated one cut, at the median."""
        emulated, real = (estimate(group, "detection_ms_p50").value for group in (self.emulated, self.real))
        return emulated - real


def twins(measured: Measurements) -> list[Twins]:
    """The cells that a run has behind an emulated and a real intermediary of the same name."""
    by_key = {g.key: g for g in measured.groups if len(g.messages)}
    return [
        Twins(by_key[emulated], group)
        for key, group in by_key.items()
        if key.profile.startswith("real:") and (emulated := key._replace(profile=key.profile[5:])) in by_key
    ]


def extra_requests(each: SurvivalMap, spot: Spot) -> float:
    """Requests per message beyond what the same transport takes with nothing in between; NaN if that is not known."""
    plain = each.spot(Way(spot.group.key.transport), _DIRECT)
    if plain is None or spot.never_opened:
        return math.nan
    return spot.per_message("requests") - plain.per_message("requests")

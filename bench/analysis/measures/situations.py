"""What a cell's load and stream look like from outside: the situations into which a run puts its transports.

An intermediary sees pauses between messages and silences within them, so that is how a situation is described. Two that
would get the same words are told apart by what differs between them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import msgspec

from bench.analysis.measures.groups import Key
from bench.run_record import Run
from clients.job import Load
from servers import recording
from servers.stream import StreamSpec, build
from servers.user_errors import StreamError

_SEEDS = range(20)  # answers that are looked at for the model's longest silence
_DIVIDED_BEFORE = ("silence_s", "ttft_ms", "gap_ms", "stall_ms")
_MINOR = frozenset({"streams", "warmup_streams", "description", "profile"})  # named only if nothing else differs

Words = tuple[str, ...]


@dataclass(frozen=True)
class Situation:
    """What was asked, apart from how: `words` of the variant, a `title`, and `when` for the middle of a sentence.

    Times in them are real ones, whatever the run divided them by. `when` is empty if nothing is known.
    """

    words: Words
    title: str
    when: str


def real_plan(run: Run) -> Mapping[str, Any]:
    """The run's plan with all times as real ones: version 1 of `run.json` had answers and silences already divided."""
    plan, scale = run.plan, run.stated_scale
    if scale == 1:
        return plan
    real = {what: _multiplied(plan.get(what), scale) for what in ("load", "stream")}
    named = {
        f"{what}s": {name: _multiplied(each, scale) for name, each in _tables(plan, f"{what}s").items()}
        for what in real
    }
    return {**plan, **real, **named}


def _tables(plan: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = plan.get(key)
    return found if isinstance(found, Mapping) else {}


def _multiplied(table: object, scale: float) -> object:
    if not isinstance(table, Mapping):
        return table
    return {k: v * scale if k in _DIVIDED_BEFORE and isinstance(v, int | float) else v for k, v in table.items()}


def situation_words(key: Key) -> Words:
    """Those of a cell's words that say what was asked."""
    return tuple(word for word in key.words if word.startswith(("load=", "stream=")))


def described(every: Collection[Words], plan: Mapping[str, Any]) -> dict[Words, Situation]:
    """All situations of a run, no two in the same words."""
    found = {words: _situation(words, plan) for words in every}
    whens = _told_apart({words: each.when for words, each in found.items()}, plan)
    titles = _told_apart({words: each.title for words, each in found.items()}, plan)
    return {
        words: replace(
            each,
            when=_sentence_part(each.when, whens[words]),
            title="; ".join(filter(None, [each.title, *titles[words]])) or "the plan's load",
        )
        for words, each in found.items()
    }


def _sentence_part(when: str, clauses: Sequence[str]) -> str:
    """A `when` with more said: "when … and clients wait for ever"."""
    more = " and ".join(clauses)
    return f"{when} and {more}" if when and more else when or (f"when {more}" if more else "")


def real_seconds(real_s: float) -> str:
    """Real seconds for a sentence: "70 s"."""
    return f"{real_s:.3g}\u00a0s"


def _situation(words: Words, plan: Mapping[str, Any]) -> Situation:
    """Describe a load and a stream by what an intermediary sees of them: pauses between messages, and silences."""
    load, stream = _parts(words, plan)
    lasts_s, silent_s = _rhythm(stream)
    parts, when = [], ""
    if lasts_s:
        parts.append(f"answers of {real_seconds(lasts_s)}, silent for up to {real_seconds(silent_s)}")
        when = f"when the model is silent for up to {real_seconds(silent_s)}"
    if load.get("turns", 1) > 1:
        pause = real_seconds(load.get("think_s", 0.0))
        parts.insert(0, f"{load['turns']} messages, {pause} apart")
        when = f"with {pause} between messages"
    if load.get("silence_s"):
        patience = real_seconds(load["silence_s"])
        parts.append(f"clients give up after {patience} without a byte")
        when += f" and clients wait no longer than {patience}" if load["silence_s"] < silent_s else ""
    if load.get("token_silence_s"):
        parts.append(f"clients give up after {real_seconds(load['token_silence_s'])} without a token")
    return Situation(words, "; ".join(parts) or " ".join(words), when or " ".join(words))


def _parts(words: Words, plan: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The load and the stream that `words` name; empty if the plan does not say."""
    named = dict(word.split("=", 1) for word in words)
    return _part(plan, "load", named.get("load")), _part(plan, "stream", named.get("stream"))


def _part(plan: Mapping[str, Any], what: str, name: str | None) -> Mapping[str, Any]:
    """The plan's `[load]` or one of its `[loads]`, `[stream]` or one of its `[streams]`; empty if it does not say."""
    found = (plan.get(f"{what}s") or {}).get(name) if name else plan.get(what)
    return found or {}


def _rhythm(stream: Mapping[str, Any]) -> tuple[float, float]:
    """How long the longest answer takes, and the model's longest silence in one, in seconds; zeros if not known.

    A recording may have moved since the run, or be none of ours; then there is a report all the same.
    """
    if not stream:
        return 0.0, 0.0
    try:
        spec = StreamSpec.parse(_with_recording(stream))
        due_ns = [build(spec, seed).due_ns for seed in _SEEDS]
    except StreamError:
        return 0.0, 0.0
    silent_ns = max(later - earlier for due in due_ns for earlier, later in pairwise([0, *due]))
    return max(due[-1] for due in due_ns) / 1e9, silent_ns / 1e9


def _with_recording(stream: Mapping[str, Any]) -> dict[str, Any]:
    """The stream as requests carry it, with the id of a recording where a plan has its file. Raises StreamError."""
    if "recording" not in stream:
        return dict(stream)
    found = recording.load_recording(str(stream["recording"]))
    recording.register(found)
    return dict(stream) | {"recording": found.id}


def _told_apart(texts: Mapping[Words, str], plan: Mapping[str, Any]) -> dict[Words, list[str]]:
    """What to add to each text so that no two are equal: nothing, or clauses about what differs."""
    alike: dict[str, list[Words]] = {}
    for words, text in texts.items():
        alike.setdefault(text, []).append(words)
    added: dict[Words, list[str]] = {}
    for same in alike.values():
        clauses = {words: _differing(words, same, plan) for words in same}
        if len({tuple(found) for found in clauses.values()}) < len(same):  # equal, or equal when rounded
            clauses = {words: [" ".join(words) or "load and stream are the plan's own"] for words in same}
        added |= clauses if len(same) > 1 else {same[0]: []}
    return added


def _differing(words: Words, same: Collection[Words], plan: Mapping[str, Any]) -> list[str]:
    """The settings of one situation that others of the same text have otherwise, each as a clause."""
    own = _settings(words, plan)
    others = [_settings(each, plan) for each in same]
    names = [name for name in own if any(other.get(name) != own[name] for other in others)]
    telling = [name for name in names if name not in _MINOR] or names
    return [_clause(name, own[name]) for name in telling]


def _settings(words: Words, plan: Mapping[str, Any]) -> dict[str, Any]:
    """All keys of a load and a stream; those that the plan leaves out have their defaults."""
    load, stream = _parts(words, plan)
    try:
        model = msgspec.to_builtins(StreamSpec.parse(dict(stream))) if stream else {}
    except StreamError:
        model = dict(stream)
    return {**msgspec.to_builtins(Load()), **load, **model}


def _clause(name: str, value: object) -> str:
    if name == "silence_s" and not value:
        return "clients wait for ever"
    if name == "silence_s" and isinstance(value, int | float):
        return f"clients wait no longer than {real_seconds(value)}"
    if name == "token_silence_s":
        limit = f"no longer than {real_seconds(value)}" if isinstance(value, int | float) else "for ever"
        return f"clients wait {limit} for a token"
    if name == "fallback" and isinstance(value, list):
        return f"clients go over to {' and then '.join(value)}"
    if name == "attempts":
        return f"clients give up after {value} attempts in a row"
    return f"{name} is {value}"

"""Whether two profiles can be told apart from outside, and where: every scene is played through both (pure)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from bench.probe.rehearsal import Scene, SceneOutcome, rehearse, scenes
from bench.probe.words import cut_words, rounded_seconds
from bench.proxy import profile as profiles
from bench.proxy.profile import Profile
from bench.proxy.rule import Rule

RELATIVE, ABSOLUTE_S = 0.02, 0.05
"""Times are alike within 2 %, or 50 ms."""
LEVELS = 20
"""At so many places of an answer its arrival is looked at."""
TOKEN_BYTES = 300
"""A cut may come a token or two sooner or later."""

SILENCES_S = (7.0, 13.0, 24.0, 40.0, 52.0, 57.0, 70.0, 110.0, 160.0, 285.0, 330.0, 550.0)
HEARTBEATS_S = (None, 5.0, 25.0)


@dataclass(frozen=True)
class Difference:
    """A scene whose outcome is another one: its name, and both outcomes in words."""

    scene: str
    one: str
    other: str


def profile_differences(one: Sequence[Rule], other: Sequence[Rule], up_to_s: float) -> list[Difference]:
    """Where two profiles can be told apart by silences of `up_to_s` at most."""
    pairs = zip(scenes(up_to_s), _outcomes(tuple(one), up_to_s), _outcomes(tuple(other), up_to_s), strict=True)
    return [_difference(scene, *both) for scene, *both in pairs if not is_alike(scene, *both)]


def _difference(scene: Scene, one: SceneOutcome, other: SceneOutcome) -> Difference:
    words = outcome_words(one), outcome_words(other)
    if words[0] == words[1]:  # the same end, and something else before it
        words = f"{words[0]}, {_before(one)}", f"{words[1]}, {_before(other)}"
    return Difference(scene.name, *words)


def _before(out: SceneOutcome) -> str:
    """What had come until the end."""
    if not out.arrivals:
        return "nothing before"
    pieces = len(out.arrivals)
    how = "at once" if pieces == 1 else f"in {pieces} pieces"
    return f"{_bytes(out)} bytes before, {how}, the first after {rounded_seconds(out.arrivals[0][0])}"


@cache
def _outcomes(rules: tuple[Rule, ...], up_to_s: float) -> tuple[SceneOutcome, ...]:
    return tuple(rehearse(rules, scene) for scene in scenes(up_to_s))


def is_alike(scene: Scene, one: SceneOutcome, other: SceneOutcome) -> bool:
    """Whether a client could take one for the other."""
    if (one.status, one.ending) != (other.status, other.ending):
        return False
    if one.at_s is not None and other.at_s is not None and not is_close(one.at_s, other.at_s):
        return False
    first, second = _bytes(one), _bytes(other)
    slack_bytes = TOKEN_BYTES if len(scene.tokens_s) > 1 and one.ending != "none" else RELATIVE * first
    if abs(first - second) > slack_bytes:
        return False
    levels = [min(first, second) * k // LEVELS for k in range(1, LEVELS + 1)]
    return all(is_close(_reached_s(one, level), _reached_s(other, level)) for level in levels)


def is_close(one_s: float, other_s: float) -> bool:
    """Whether two times are within 2 %, or 50 ms."""
    return abs(one_s - other_s) <= max(RELATIVE * max(one_s, other_s), ABSOLUTE_S)


def _bytes(out: SceneOutcome) -> int:
    return out.arrivals[-1][1] if out.arrivals else 0


def _reached_s(out: SceneOutcome, level_bytes: int) -> float:
    """When so many bytes were there."""
    return (
        out.arrivals[bisect_left(out.arrivals, level_bytes, key=lambda arrival: arrival[1])][0] if level_bytes else 0.0
    )


def outcome_words(out: SceneOutcome) -> str:
    """What a client sees, in a few words."""
    if out.ending == "none":
        first_s = out.arrivals[0][0] if out.arrivals else None
        late = f", its first bytes after {rounded_seconds(first_s)}" if first_s and first_s > ABSOLUTE_S else ""
        return f"no cut{late} ({len(out.arrivals)} pieces)" if out.status < 400 else f"status {out.status}"
    return f"{cut_words(out.ending)} after {rounded_seconds(out.at_s or 0)}"


@dataclass(frozen=True)
class Near:
    """A shipped profile, and what differs from it."""

    profile: Profile
    differences: tuple[Difference, ...]


def nearest(rules: Sequence[Rule], up_to_s: float, most: int = 3) -> list[Near]:
    """The shipped profiles that look most alike; those that cannot be told apart first."""
    loaded = (profiles.load_profile(name) for name in profiles.names())
    found = [Near(each, tuple(profile_differences(rules, each.rules, up_to_s))) for each in loaded]
    return sorted(found, key=lambda near: (len(near.differences), near.profile.name))[:most]


def visible_rules(rules: Sequence[Rule], up_to_s: float) -> list[bool]:
    """Of each rule, whether anything looks different without it: else nobody outside can see it."""
    return [
        bool(profile_differences(rules, [*rules[:place], *rules[place + 1 :]], up_to_s)) for place in range(len(rules))
    ]


def survived(rules: Sequence[Rule]) -> dict[tuple[str, float, float | None], bool]:
    """(transport, silence in an answer, heartbeat) → whether the answer comes whole, as the plan `timeouts` asks."""
    return {
        (transport, silence_s, heartbeat_s): _survives(rules, transport, silence_s, heartbeat_s)
        for transport in ("sse", "chunked", "websocket")
        for silence_s in SILENCES_S
        for heartbeat_s in HEARTBEATS_S
    }


def _survives(rules: Sequence[Rule], transport: str, silence_s: float, heartbeat_s: float | None) -> bool:
    beats_s = _beats(silence_s, heartbeat_s)
    is_socket = transport == "websocket"
    scene = Scene(
        transport,
        "websocket" if is_socket else "stream",
        2 * silence_s,
        tokens_s=(0.0, *beats_s, silence_s),
        client_s=tuple(beats_s) if is_socket else (),  # a pong for each ping
        ends=not is_socket,
        content_type="application/x-ndjson" if transport == "chunked" else "text/event-stream",
    )
    return _bytes(rehearse(rules, scene)) == _bytes(rehearse((), scene))


def _beats(silence_s: float, heartbeat_s: float | None) -> Iterable[float]:
    if heartbeat_s is None:
        return []
    return [k * heartbeat_s for k in range(1, int(silence_s / heartbeat_s) + 1) if k * heartbeat_s < silence_s]

"""What nobody can find out from outside, and why: by the kind of a rule, never by a profile's name (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from bench.probe.profile_likeness import visible_rules
from bench.proxy.behaviours import MaxRequests, ResponseBuffering
from bench.proxy.rule import Rule, seconds

SEEN_BY: dict[str, str] = {
    "bandwidth": "`rate`, but not told apart from the network's own rate: it stands in the notes, not in the profile",
    "coalescing": "`buffering`",
    "first_byte_timeout": "`first_byte`, where a server is late with its head (`blocking`, `polling`)",
    "gzip_holdback": "`compression`",
    "head_holdback": "`late_head`",
    "idle_timeout": "`idle`, `keep_alive`, `first_byte`",
    "keepalive_timeout": "`keep_alive`, up to what our own server waits (`--keep-alive`)",
    "latency": "`round_trip`, but not told apart from the network's own: it stands in the notes, not in the profile",
    "max_age": "`age`",
    "max_duration": "`duration`",
    "max_requests": "`requests`, up to about 1100 where silences of 10 minutes are tried",
    "nagle": "`buffering`, as a time for which tokens are held",
    "response_buffering": "`buffering`, `held_at_cut`; that the first bytes alone are held stands in the notes",
    "upgrade": "`upgrade`",
    "upstreams": "`stickiness`; it stands in the notes, not in the profile",
    "websocket_close": "`idle` and `duration` of a WebSocket",
}
"""Behaviour -> the questions that find it."""

UNSEEN: dict[str, str] = {
    "cache": "our servers forbid it (`Cache-Control: no-store`), and their answers are nobody else's",
    "chunked_truncation": "an answer that is never whole looks like a broken server: no stream passes",
    "cut": "an end after so many bytes, or by chance, looks like a broken server or network",
    "cut_all": "an event at a moment looks like a restart: it strikes the control connections too, and does not count",
    "noop": "does nothing",
    "refuse": "a refusal by chance looks like a busy server or a bad network",
    "slicing": "the network cuts into pieces as well",
    "slow_close": "a close that comes late looks like a slow server",
    "unreachable": "the server is there while it is probed",
}
"""Behaviour -> why no question finds it."""

LONGER = "longer than the longest silence that is tried (`--up-to`)"
HIDDEN = "another rule strikes sooner, or shows the same"
MORE = "more requests than are sent over one connection"
NOT_CHUNKED = "spares answers in chunks, and all that streams here is sent in chunks"


def why_unseen(rule: Rule, up_to_s: float) -> str:
    """Why a rule without which nothing looks different cannot be seen."""
    if rule.name in UNSEEN:
        return UNSEEN[rule.name]
    if isinstance(rule, ResponseBuffering) and rule.chunked == "pass":
        return NOT_CHUNKED
    if isinstance(rule, MaxRequests):
        return MORE
    limits = [getattr(rule, name) for name in rule.__struct_fields__ if name.endswith("_s") and name != "forget_s"]
    limits_s = [limit for limit in limits if isinstance(limit, int | float)]
    return LONGER if limits_s and min(limits_s) >= up_to_s else HIDDEN


def unseen(rules: Sequence[Rule], up_to_s: float) -> list[tuple[Rule, str]]:
    """The rules of a profile that nobody outside can see, each with the reason."""
    shown = visible_rules(rules, up_to_s)
    return [(rule, why_unseen(rule, up_to_s)) for rule, is_seen in zip(rules, shown, strict=True) if not is_seen]


def markdown() -> str:
    """Both tables, for docs/probe.md."""
    lines = ["| behaviour | found by, or why not |", "|---|---|"]
    lines += [f"| `{name}` | {words} |" for name, words in sorted(SEEN_BY.items())]
    lines += [f"| `{name}` | not found: {words} |" for name, words in sorted(UNSEEN.items())]
    lines += [f"| any | not found: {words} |" for words in (LONGER, HIDDEN, MORE)]
    lines += [f'| `response_buffering` with `chunked = "pass"` | not found: {NOT_CHUNKED} |']
    return "\n".join(lines)


def rule_in_short(rule: Rule) -> str:
    """A rule, short enough for a table."""
    limits = [getattr(rule, name) for name in rule.__struct_fields__ if name.endswith("_s") and name != "forget_s"]
    numbers = [seconds(limit) for limit in limits if isinstance(limit, int | float)]
    return " ".join([f"`{rule.name}`", *numbers])

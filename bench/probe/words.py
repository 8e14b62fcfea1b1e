"""Findings in plain English (pure)."""

from __future__ import annotations

from bench.probe.finding import BLACK_HOLE
from bench.probe.search import Limit
from bench.proxy.rule import seconds as _seconds

NEARLY = 0.99  # of what was asked for: as good as all
_ENDINGS = {
    "fin": "the connection is closed (FIN)",
    "rst": "the connection is reset (RST)",
    BLACK_HOLE: "nothing passes any more and nobody is told (a black hole)",
}


def rounded_seconds(value_s: float) -> str:
    """A time, to three digits."""
    return _seconds(float(f"{value_s:.3g}"))


def cut_words(ending: str) -> str:
    """How a cut looks."""
    word, _, number = ending.partition(" ")
    if word == "status":
        return f"the answer is status {number}"
    if word == "close":
        return f"the WebSocket is closed with code {number}"
    return _ENDINGS.get(ending, ending)


def no_cut_words(low_s: float, up_to_s: float, what: str) -> str:
    """What the longest wait that survived says; where much longer ones were asked for, that these were not tried.

    >>> no_cut_words(600, 3600, "of silence")
    'no cut within 600 s of silence; longer, up to 1 h, could not be tried'
    """
    if not low_s:
        return "not known: none of the tries counts"
    longer = f"; longer, up to {rounded_seconds(up_to_s)}, could not be tried" if low_s < NEARLY * up_to_s else ""
    return f"no cut within {rounded_seconds(low_s)} {what}{longer}"


def limit_words(limit: Limit) -> str:
    """A limit that was found, up to the `of` of what it limits."""
    after = rounded_seconds(limit.value_s)
    low, high = rounded_seconds(limit.low_s), rounded_seconds(limit.high_s)
    times = f"seen {limit.seen} times" if limit.seen > 1 else "seen once"
    seen = times if limit.is_sure else f"{times} only, too seldom to be sure"
    between = f"between {low} and {high}, " if low != high else ""
    late = ", which shows at the next byte only," if limit.is_between and limit.ending != BLACK_HOLE else ""
    return f"{cut_words(limit.ending)}{late} after {after} ({between}{seen})"

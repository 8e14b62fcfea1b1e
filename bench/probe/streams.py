"""The answers that a probe asks for (pure).

A chat request's `stream` is a table of parameters (servers/stream.py), so no server needs a change to be silent at a
chosen place. A small token imitates a heartbeat: to whoever counts bytes it is one.
"""

from __future__ import annotations

from servers.messages import MAX_TOKENS
from servers.stream import RANGES

Stream = dict[str, float]

_EVEN: Stream = {"ttft_sigma": 0, "gap_sigma": 0, "per_emission": 1}
_LONGEST_MS = RANGES["gap_ms"][1]
LONGEST_SILENCE_S = _LONGEST_MS / 1000


def silent(silence_s: float) -> Stream:
    """A token at once, a silence, another token and the end.

    >>> silent(60)["gap_ms"], silent(60)["tokens"]
    (60000.0, 2)
    """
    return _EVEN | {"ttft_ms": 0, "gap_ms": min(silence_s * 1000, _LONGEST_MS), "tokens": 2}


def late(first_token_s: float) -> Stream:
    """Nothing for so long, then two tokens and the end."""
    return _EVEN | {"ttft_ms": min(first_token_s * 1000, _LONGEST_MS), "gap_ms": 0, "tokens": 2}


def talking(every_s: float, for_s: float) -> Stream:
    """A token at once and then every `every_s`, for `for_s` at least."""
    return _EVEN | {"ttft_ms": 0, "gap_ms": every_s * 1000, "tokens": min(MAX_TOKENS, 2 + int(for_s / every_s))}

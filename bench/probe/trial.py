"""One try at finding a limit: what was waited for, and what became of it (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bench.probe.channel import Heard
from bench.probe.finding import BLACK_HOLE, NO_CUT
from servers.messages import decode_error

PROMPT_S = 0.05  # an answer that comes so soon after its question has not waited
WAITED = 0.9  # of what was asked for: so long at least takes an answer that has waited
LEAST_S = 0.001  # no limit is shorter, whatever the clocks say
_ANSWERED = (0, 101, 200)  # no head, or one that the server means (RFC 9110 §15)


@dataclass(frozen=True)
class Trial:
    """A connection that waited `tried_s`.

    survived: it was as good afterwards as before
    took_s: where a cut was seen as it came, from what the question counts from to the cut; None for a black hole, and
        for a connection whose end shows only at its next byte
    void: why it says nothing
    within_s: the cut came at most so long before or after `took_s`
    """

    tried_s: float
    survived: bool
    took_s: float | None = None
    ending: str = NO_CUT
    void: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    within_s: float = 0.0

    @property
    def is_cut(self) -> bool:
        """A cut that was seen, with its moment."""
        return not self.void and not self.survived and self.took_s is not None

    @property
    def is_hole(self) -> bool:
        """It did not survive, and nothing says since when."""
        return not self.void and not self.survived and self.took_s is None

    @property
    def is_survivor(self) -> bool:
        """It survived, and that counts."""
        return not self.void and self.survived


def is_cut(ending: str) -> bool:
    """Whether an ending is one that an intermediary makes and a client sees."""
    return ending in ("fin", "rst", "end") or ending.startswith(("status ", "close "))


def trial_of(heard: Heard, tried_s: float, took_s: float, rtt_s: float, **facts: Any) -> Trial:
    """What an answer says of a wait of `tried_s`; `took_s` is the time to its end, as the question counts it."""
    if void := _no_wait(heard, tried_s, rtt_s):
        return Trial(tried_s, survived=False, void=void, ending=heard.ending, facts=facts)
    if heard.ending == NO_CUT:
        return Trial(tried_s, survived=True, facts=facts)
    if heard.ending == BLACK_HOLE:
        return Trial(tried_s, survived=False, ending=BLACK_HOLE, facts=facts)
    if not is_cut(heard.ending) or decode_error(bytes(heard.body)) is not None:  # a refusal of the server's own
        return Trial(tried_s, survived=False, void=heard.detail or heard.ending, ending=heard.ending, facts=facts)
    ending = "fin" if heard.ending == "end" else heard.ending
    # The next byte was due then, or before: it may be what met a limit that nobody kept watch on.
    is_seen = _lasted_s(heard) < tried_s
    if is_seen:
        return Trial(tried_s, False, max(LEAST_S, took_s), ending, facts=facts)
    return Trial(max(tried_s, took_s), False, None, ending, facts=facts)  # where the byte was late, it waited longer


def _lasted_s(heard: Heard) -> float:
    return (heard.ended_ns - heard.asked_ns) / 1e9


def _no_wait(heard: Heard, tried_s: float, rtt_s: float) -> str:
    """Why an answer says nothing of a wait: a limit on the rate of requests, or a page that is no answer; "" if none.

    Whoever is tired of waiting says 408 or 5xx, and nobody is tired at once: a connection that is closed then, with
    whatever code, was refused.
    """
    lasted_s = _lasted_s(heard)
    if heard.status not in _ANSWERED and heard.status != 408 and heard.status < 500:
        return f"status {heard.status} is no answer to a wait"
    if heard.ending != NO_CUT and lasted_s <= rtt_s + PROMPT_S:
        return f"{heard.ending} came at once"
    if heard.ending == NO_CUT and lasted_s < WAITED * tried_s - PROMPT_S:
        return "the answer came before its time"
    return ""

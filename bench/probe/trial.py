"""One try at finding a limit: what was waited for, and what became of it (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bench.probe.channel import Heard
from bench.probe.finding import BLACK_HOLE, NO_CUT
from servers.messages import decode_error


@dataclass(frozen=True)
class Trial:
    """A connection that waited `tried_s`.

    survived: it was as good afterwards as before
    took_s: where a cut was seen, from what the question counts from to the cut; None for a black hole
    void: why it says nothing
    """

    tried_s: float
    survived: bool
    took_s: float | None = None
    ending: str = NO_CUT
    void: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

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


def trial_of(heard: Heard, tried_s: float, took_s: float, **facts: Any) -> Trial:
    """What an answer says of a wait of `tried_s`; `took_s` is the time to its end, as the question counts it."""
    if heard.ending == NO_CUT:
        return Trial(tried_s, survived=True, facts=facts)
    if heard.ending == BLACK_HOLE:
        return Trial(tried_s, survived=False, ending=BLACK_HOLE, facts=facts)
    if not is_cut(heard.ending) or decode_error(bytes(heard.body)) is not None:  # a refusal of the server's own
        return Trial(tried_s, survived=False, void=heard.detail or heard.ending, ending=heard.ending, facts=facts)
    ending = "fin" if heard.ending == "end" else heard.ending
    return Trial(tried_s, survived=False, took_s=took_s, ending=ending, facts=facts)

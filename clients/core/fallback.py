"""Recovery `fallback`: which transport carries a message, and when the next one's turn has come (pure).

A transport that is refused for good, or does not speak its format, will be so again: it is left at once and not tried
again for this message. One that was silent for too long is left at once too: what held it back would hold it back
again. After any other failure it is tried once more, and left after FAILURES in a row without a new token. Behind the
last of the order comes the first of those that are left.
"""

from __future__ import annotations

from collections.abc import Sequence

from clients.core.errors import ClientFailure, NetworkFault, NotTheFormat, RequestRefused, SilenceTimeout

FAILURES = 2
DEFAULT_ORDER = ("websocket", "sse", "polling")


def order_from(first: str, order: Sequence[str]) -> tuple[str, ...]:
    """The whole order, round and round, as it begins at `first`; one that is not in it comes before all of it."""
    at = order.index(first) if first in order else 0
    return tuple(dict.fromkeys((first, *order[at:], *order[:at])))


class Turns:
    """The transports of one message that are left, and whose turn it is."""

    def __init__(self, order: Sequence[str]) -> None:
        self.current = order[0]
        self._left = [*order]
        self._failures = 0  # of `current`, in a row without a new token

    def pass_on(self, failure: ClientFailure, *, progressed: bool, stream_lost: bool) -> bool:
        """Enter a failed attempt; whether the turn goes to another transport.

        `stream_lost`: a refusal that is about the answer and not about the transport.
        """
        self._failures = 1 if progressed else self._failures + 1
        is_refused = isinstance(failure, RequestRefused | NotTheFormat) and not failure.is_drop and not stream_lost
        is_tired = isinstance(failure, NetworkFault | RequestRefused) and self._failures >= FAILURES
        if len(self._left) == 1 or not (is_refused or is_tired or isinstance(failure, SilenceTimeout)):
            return False
        at = self._left.index(self.current)
        following = self._left[(at + 1) % len(self._left)]
        if is_refused:
            del self._left[at]
        self.current, self._failures = following, 0
        return True

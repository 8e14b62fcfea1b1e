"""What a client does after a drop: whether it tries again, and when (pure; chance is an argument).

Exponential backoff with full jitter: before attempt k a client waits a random time between 0 and
`base_s` x 2^k, at most `cap_s`, so that many clients that were cut at once do not come back at once. With the backoff
`constant` it waits `base_s` each time, as many clients in the field do, and they do come back at once. What the server
asks for (`retry:` of an event stream, `Retry-After`) is the least that it waits. `attempts` in a row without a
single new token, and it gives up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clients.core.errors import ClientFailure, NetworkFault, NoConnection, SilenceTimeout

Mode = Literal["none", "restart", "resume", "fallback"]
Backoff = Literal["jitter", "constant"]


@dataclass(frozen=True)
class Policy:
    """`none`: a drop ends the message. `restart`: ask again from the start. `resume`: go on at the next index.

    `fallback`: the same, over the next transport where one does not get through (clients.core.fallback).
    """

    mode: Mode = "none"
    base_s: float = 0.1
    cap_s: float = 5.0
    attempts: int = 8
    backoff: Backoff = "jitter"

    def delay_s(
        self,
        failure: ClientFailure,
        without_progress: int,
        chance: float,
        asked_s: float = 0.0,
        *,
        has_other: bool = False,
    ) -> float | None:
        """Seconds to wait before the next attempt, or None to give up.

        `without_progress` counts the attempts in a row that brought nothing new, `chance` is uniform in [0, 1),
        `asked_s` the server's standing wish; the failure may carry one of its own. `has_other`: there is another thing
        to ask for, a new answer where the stream is unknown, or the same over another transport.
        """
        may_recover = failure.is_drop or has_other or isinstance(failure, NoConnection)
        if self.mode == "none" or not may_recover or without_progress >= self.attempts:
            return None
        jittered_s = chance * min(self.cap_s, self.base_s * 2.0 ** min(without_progress, 30))
        backoff_s = jittered_s if self.backoff == "jitter" else self.base_s
        return max(failure.retry_after_s or 0.0, asked_s, backoff_s)


EVENT_SOURCE_WAIT_S = 3.0  # Chromium's before a server has sent `retry:` (WHATWG HTML §9.2.2 leaves it open)


@dataclass(frozen=True)
class EventSourcePolicy(Policy):
    """As a browser's EventSource does it (WHATWG HTML §9.2.2-9.2.3).

    It gives up for good on any status but 200 and on another media type, and comes back from everything that the
    network does, after a constant time: the server's `retry:`, or its own.
    """

    def delay_s(
        self,
        failure: ClientFailure,
        without_progress: int,
        chance: float,
        asked_s: float = 0.0,
        *,
        has_other: bool = False,
    ) -> float | None:
        """See Policy; chance and the number of attempts mean nothing to a browser."""
        if self.mode == "none" or not isinstance(failure, NetworkFault | SilenceTimeout):
            return None
        return asked_s or EVENT_SOURCE_WAIT_S

"""What a client does after a drop: whether it tries again, and when (pure; chance is an argument).

Exponential backoff with full jitter: before attempt k a client waits a random time between 0 and
`base_s` x 2^k, at most `cap_s`, so that many clients that were cut at once do not come back at once. What the server
asks for (`retry:` of an event stream, `Retry-After`) is the least that it waits. `attempts` in a row without a
single new token, and it gives up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clients.core.errors import ClientFailure, NetworkFault, NoConnection, SilenceTimeout

Mode = Literal["none", "restart", "resume"]


@dataclass(frozen=True)
class Policy:
    """`none`: a drop ends the message. `restart`: ask again from the start. `resume`: go on at the next index."""

    mode: Mode = "none"
    base_s: float = 0.1
    cap_s: float = 5.0
    attempts: int = 8

    def delay_s(
        self,
        failure: ClientFailure,
        without_progress: int,
        chance: float,
        asked_s: float = 0.0,
        *,
        stream_lost: bool = False,
    ) -> float | None:
        """Seconds to wait before the next attempt, or None to give up.

        `without_progress` counts the attempts in a row that brought nothing new, `chance` is uniform in [0, 1),
        `asked_s` the server's standing wish; the failure may carry one of its own. `stream_lost`: it says that the
        stream is unknown there, which calls for a new answer.
        """
        may_recover = failure.is_drop or stream_lost or isinstance(failure, NoConnection)
        if self.mode == "none" or not may_recover or without_progress >= self.attempts:
            return None
        backoff_s = chance * min(self.cap_s, self.base_s * 2.0 ** min(without_progress, 30))
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
        stream_lost: bool = False,
    ) -> float | None:
        """See Policy; chance and the number of attempts mean nothing to a browser."""
        if self.mode == "none" or not isinstance(failure, NetworkFault | SilenceTimeout):
            return None
        return asked_s or EVENT_SOURCE_WAIT_S

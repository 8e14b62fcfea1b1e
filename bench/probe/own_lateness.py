"""When the machine that probes was late itself: what it saw then may have come earlier, or not be lost at all."""

from __future__ import annotations

from collections import deque

from bench.probe.search import NEAR_S, WIDTH
from servers.lags import KEPT_LAGS, LoopProbe

LATE_ITSELF = "this machine was late itself"
NOTED_S = NEAR_S / 2
"""A shorter delay moves nothing that is found."""


class OwnLateness:
    """Watches the running event loop until it is closed: the latest spans in which it stood still."""

    def __init__(self) -> None:
        self._spans: deque[tuple[int, int]] = deque(maxlen=KEPT_LAGS)
        self._probe = LoopProbe(self._note)

    def _note(self, now_ns: int, lags_ns: range) -> None:
        if lags_ns[0] > NOTED_S * 1e9:
            self._spans.append((now_ns - lags_ns[0], now_ns))

    def late_s(self, from_ns: int, to_ns: int) -> float:
        """The longest that it stood still between two moments, or at one of them."""
        return (
            max((ended - began for began, ended in self._spans if began <= to_ns and from_ns <= ended), default=0) / 1e9
        )

    def close(self) -> None:
        """Watch no more."""
        self._probe.close()


def void_words(late_s: float) -> str:
    """Why something that was seen then does not count."""
    return f"{LATE_ITSELF} by {late_s * 1000:.0f} ms"


def moves(late_s: float, took_s: float) -> bool:
    """Whether so much makes another number of a limit (pure)."""
    return late_s > max(NEAR_S, WIDTH * took_s)

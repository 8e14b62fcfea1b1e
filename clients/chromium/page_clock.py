"""A page's clock against CLOCK_MONOTONIC (pure).

Both run at one speed: Chromium's performance.now() is CLOCK_MONOTONIC from another beginning. So every round trip
bounds their offset, and all of them together bound it better than the quickest alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class ClockJumped(Exception):
    """The readings contradict each other."""


class PageRoundTrip(NamedTuple):
    """A round trip: the page's ms when it asked, our clock's ns in between, the page's ms when it had the answer."""

    asked_ms: float
    ours_ns: int
    answered_ms: float


@dataclass(frozen=True)
class PageClock:
    """What is added to the page's ms to have ours, in ns, and the most that this can be wrong."""

    offset_ns: int
    error_ns: int

    @classmethod
    def of(cls, readings: Sequence[PageRoundTrip], *, grain_ms: float) -> PageClock:
        """By round trips; `grain_ms` is by how much the page's clock is rounded.

        Raises ClockJumped where they contradict each other: the clocks do not run at one speed, or one has jumped.
        """
        least = max(each.ours_ns - round((each.answered_ms + grain_ms) * 1e6) for each in readings)
        most = min(each.ours_ns - round((each.asked_ms - grain_ms) * 1e6) for each in readings)
        if least > most:
            raise ClockJumped(f"the page's clock has drifted from ours by {(least - most) / 1e6:.3f} ms")
        return cls((least + most) // 2, (most - least + 1) // 2)

    def ns(self, page_ms: float) -> int:
        """CLOCK_MONOTONIC of a moment of the page."""
        return round(page_ms * 1e6) + self.offset_ns

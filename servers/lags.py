"""How late things were that had a known moment: the emitter's tokens, an event loop's beats, Redis's replies.

Open loop: who is late by a second misses a hundred beats of 10 ms, and each counts as late as it was. Looked at only
when it wakes, a loop that stood still for a second would be late once in a hundred times, which no p99 shows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic_ns

from servers.alarm import alarm

KEPT_LAGS = 8192
BEAT_NS = 20_000_000  # of a server's loop and a proxy's; each beat is a wake-up, which costs some 10 to 80 µs
IDLE_BEATS = 10  # so many of them pass between two looks while there is nothing to do


def beats_missed(late_ns: int, every_ns: int) -> range:
    """How late each beat is that has fallen due, where the earliest is `late_ns` late and one follows `every_ns`."""
    return range(late_ns, -1, -every_ns)


def p99(ascending: Sequence[int]) -> int:
    """The 99th percentile of sorted lags; 0 of none."""
    return ascending[int(0.99 * (len(ascending) - 1))] if ascending else 0


class Lags:
    """Lags in ns, each with the moment (CLOCK_MONOTONIC, ns) at which it was noted: the latest, and the largest."""

    def __init__(self) -> None:
        self._latest: deque[tuple[int, int]] = deque(maxlen=KEPT_LAGS)
        # Each is larger than all that came after it, so the first of any time's is the largest: a stall is remembered,
        # however much comes after it.
        self._largest: deque[tuple[int, int]] = deque(maxlen=KEPT_LAGS)

    def note(self, now_ns: int, lag_ns: int) -> None:
        """Note one."""
        noted = now_ns, lag_ns
        self._latest.append(noted)
        largest = self._largest
        while largest and largest[-1][1] <= lag_ns:
            largest.pop()
        largest.append(noted)

    def note_all(self, now_ns: int, lags_ns: Sequence[int]) -> None:
        """Note what has fallen due by `now_ns`, the most late first; of more than are kept, the latest."""
        self.note(now_ns, lags_ns[0])
        self._latest.extend([(now_ns, lag_ns) for lag_ns in lags_ns[1:][-KEPT_LAGS:]])

    def us_since(self, since_ns: int = 0) -> tuple[float, float]:
        """The 99th percentile of the latest `KEPT_LAGS` noted since then and the largest of all, in µs; 0 of none."""
        found = sorted(lag_ns for at_ns, lag_ns in self._latest if at_ns >= since_ns)
        if not found:
            return 0.0, 0.0
        largest_ns = next(lag_ns for at_ns, lag_ns in self._largest if at_ns >= since_ns)
        return p99(found) / 1000, largest_ns / 1000


class LoopProbe:
    """Looks, `every_ns`, how late the running event loop is; more seldom while it is not `is_busy`.

    `on_beats` takes the moment, and how late each beat was that had fallen due by then.
    """

    def __init__(
        self,
        on_beats: Callable[[int, range], object],
        every_ns: int = BEAT_NS,
        is_busy: Callable[[], object] = lambda: True,
    ) -> None:
        self._on_beats, self._every_ns, self._is_busy = on_beats, every_ns, is_busy
        self._due_ns = monotonic_ns() + every_ns
        self._alarm = alarm(self._ring)
        self._alarm.set(self._due_ns)

    def _ring(self) -> None:
        now_ns = monotonic_ns()
        lags_ns = beats_missed(now_ns - self._due_ns, self._every_ns)
        self._due_ns += (len(lags_ns) if self._is_busy() else len(lags_ns) - 1 + IDLE_BEATS) * self._every_ns
        self._on_beats(now_ns, lags_ns)
        self._alarm.set(self._due_ns)

    def close(self) -> None:
        """Look no more."""
        self._alarm.close()

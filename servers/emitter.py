"""The servers' only clock: one alarm for all streams, with absolute deadlines.

A coroutine that sleeps once per token and stream costs more than sending the token. Here a heap holds the next due time
of every answer; when the alarm rings, everything that has fallen due is emitted at once, and the alarm is set to the
next due time, but not sooner than a tick later, so that a crowd of streams costs a bounded number of wake-ups.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from heapq import heapify, heappop, heappush, heapreplace
from time import monotonic_ns
from typing import Protocol

from servers.alarm import Alarm, alarm
from servers.lags import Lags

# Every wake-up of this process, and of whoever reads from it, costs more than a token does.
TICK_NS = 1_000_000
_log = logging.getLogger(__name__)


class Emits(Protocol):
    """Something that has tokens falling due."""

    def emit(self, now_ns: int) -> int | None:
        """Hand out all that is due at `now_ns`; the next due time, or None when there is none."""


class Emitter:
    """Calls `emit` of everything that was started, when it falls due; `lags` are its delays. One per process."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Emits]] = []
        self._count = 0  # breaks ties in the heap, and keeps the order of starting
        self._forgotten: set[Emits] = set()  # still in the heap
        self._alarm: Alarm = alarm(self._tick)
        self._after_tick: list[Callable[[], object]] = []
        self.lags = Lags()

    def start(self, emits: Emits, due_ns: int) -> None:
        """Emit from `due_ns` on (CLOCK_MONOTONIC)."""
        self._count += 1
        heappush(self._heap, (due_ns, self._count, emits))
        if self._heap[0][1] == self._count:
            self._alarm.set(due_ns)

    def forget(self, emits: Emits) -> None:
        """Emit nothing more from what was started and has not ended."""
        self._forgotten.add(emits)
        if len(self._forgotten) > len(self._heap) // 2:  # then looking through the heap costs each a constant
            self._heap = [entry for entry in self._heap if entry[2] not in self._forgotten]
            heapify(self._heap)
            self._forgotten.clear()

    def after_tick(self, callback: Callable[[], object]) -> None:
        """Call back after each tick in which something was emitted, to send what belongs together at once."""
        self._after_tick.append(callback)

    def close(self) -> None:
        """Stop the clock; nothing is emitted any more."""
        self._heap.clear()
        self._alarm.close()

    def _tick(self) -> None:
        heap, forgotten = self._heap, self._forgotten
        lags_ns: list[int] = []
        now_ns = monotonic_ns()
        while heap:
            due_ns, count, emits = heap[0]
            if due_ns > now_ns:
                break
            if forgotten and emits in forgotten:
                forgotten.discard(emits)
                heappop(heap)
                continue
            lags_ns.append(now_ns - due_ns)
            try:
                next_ns = emits.emit(now_ns)
            except Exception:  # one answer's fault must not stop the clock of all others
                _log.exception("an answer could not be emitted; it ends here")
                next_ns = None
            if next_ns is None:
                heappop(heap)
            else:
                heapreplace(heap, (next_ns, count, emits))
        if lags_ns:
            self.lags.note_all(now_ns, lags_ns)
        for callback in self._after_tick:
            callback()
        if heap:
            self._alarm.set(max(heap[0][0], now_ns + TICK_NS))

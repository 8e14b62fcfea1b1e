"""What a load process has to do at which moment: any number of deadlines behind one exact alarm."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from itertools import count
from time import monotonic_ns

from servers.alarm import alarm


class Timer:
    """Wakes coroutines at CLOCK_MONOTONIC nanoseconds."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._alarm = alarm(self._ring)
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = count()  # those of the same moment wake in the order in which they came

    async def until(self, due_ns: int) -> None:
        """Return at or after `due_ns`; at once if it has passed."""
        if due_ns <= monotonic_ns():
            return
        woken: asyncio.Future[None] = self._loop.create_future()
        heappush(self._waiting, (due_ns, next(self._numbers), woken))
        if self._waiting[0][2] is woken:
            self._alarm.set(due_ns)
        await woken

    def _ring(self) -> None:
        now_ns = monotonic_ns()
        while self._waiting and self._waiting[0][0] <= now_ns:
            woken = heappop(self._waiting)[2]
            if not woken.done():  # its coroutine may have been cancelled
                woken.set_result(None)
        if self._waiting:
            self._alarm.set(self._waiting[0][0])

    def close(self) -> None:
        """Free the alarm; whoever still waits is never woken."""
        self._alarm.close()

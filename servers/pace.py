"""How fast a server's core is at the moment: what a small, fixed piece of work costs there.

On a machine that others share, the same work costs a core half as much again for as long as a neighbour is busy on the
core's other half. That is most of what the CPU of two equal cells differs by (docs/statistics.md), and the fixed work,
done by the server itself between its tokens, dears and cheapens with it.
"""

from __future__ import annotations

import json
import socket
from collections import deque
from statistics import median
from time import thread_time_ns

from servers.lags import KEPT

USUAL_PACE_US = 15.0
"""What the work costs on a usual machine of today, roughly: numbers at equal pace are as if it cost this."""
_ROUNDS = 2
_TOKEN = {"type": "token", "i": 12, "text": " word", "due_ns": 123_456_789_012_345, "sent_ns": 123_456_789_123_456}
_MOST_BYTES = 4096


class Pace:
    """Does the fixed work when asked to, some 15 µs, and remembers what it cost: the latest `KEPT` times.

    The work is what a token costs a server, in small: it is put into JSON, given to the kernel, and taken from it.
    """

    def __init__(self) -> None:
        self._costs: deque[tuple[int, int]] = deque(maxlen=KEPT)  # the moment, and the processor time, in ns
        self._from, self._to = socket.socketpair()

    def measure(self, now_ns: int) -> None:
        """Do the work once; `now_ns` (CLOCK_MONOTONIC) is when."""
        before_ns = thread_time_ns()
        for _ in range(_ROUNDS):
            self._from.send(json.dumps(_TOKEN).encode())
            self._to.recv(_MOST_BYTES)
        self._costs.append((now_ns, thread_time_ns() - before_ns))

    def us_since(self, since_ns: int = 0) -> float | None:
        """The median cost since then, in µs of processor time; None if it was never measured."""
        costs_ns = [cost_ns for at_ns, cost_ns in self._costs if at_ns >= since_ns]
        return median(costs_ns) / 1000 if costs_ns else None

    def close(self) -> None:
        """Measure no more."""
        self._from.close()
        self._to.close()

"""How fast a server's core is at the moment: what a small, fixed piece of work costs there.

On a machine that others share, the same work costs a core half as much again for as long as a neighbour is busy on the
core's other half. That is most of what the CPU of two equal cells differs by (docs/statistics.md), and the fixed work,
which the server does itself between its tokens, becomes dearer and cheaper with it.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from statistics import fmean
from time import thread_time_ns

from servers.lags import KEPT_LAGS

USUAL_PACE_US = 20.0
"""What the work costs on a usual core of today, roughly: numbers at equal pace are as if it cost this everywhere."""
_ROUNDS = 3
_PIECE = b"x" * 150  # about a token with its frame


class Pace:
    """Does the fixed work when asked to, and remembers what it cost: the latest `KEPT_LAGS` times.

    The work is what a token costs most: bytes are given to the kernel and taken from it, through a pipe and a socket.
    """

    def __init__(self) -> None:
        self._costs: deque[tuple[int, int]] = deque(maxlen=KEPT_LAGS)  # the moment, and the processor time, in ns
        self._pipe = os.pipe()
        self._sockets = socket.socketpair()

    def measure(self, now_ns: int) -> None:
        """Do the work once; `now_ns` (CLOCK_MONOTONIC) is when."""
        outlet, inlet = self._pipe
        sender, receiver = self._sockets
        before_ns = thread_time_ns()
        for _ in range(_ROUNDS):
            os.write(inlet, _PIECE)
            os.read(outlet, len(_PIECE))
            sender.send(_PIECE)
            receiver.recv(len(_PIECE))
        self._costs.append((now_ns, thread_time_ns() - before_ns))

    def us_since(self, since_ns: int = 0) -> float | None:
        """The mean cost since then without the cheapest and the dearest tenth, in µs of processor time.

        A few dear ones, of what the kernel did meanwhile, would double it. None if there is none.
        """
        costs_ns = sorted(cost_ns for at_ns, cost_ns in self._costs if at_ns >= since_ns)
        cut = len(costs_ns) // 10
        return fmean(costs_ns[cut : len(costs_ns) - cut]) / 1000 if costs_ns else None

    def close(self) -> None:
        """Measure no more."""
        for end in self._pipe:
            os.close(end)
        for end_of_pair in self._sockets:
            end_of_pair.close()

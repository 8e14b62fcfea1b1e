"""A time limit that also ends what never returns to the event loop: a hang fails its test instead of hanging CI."""

from __future__ import annotations

import faulthandler
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def watchdog(limit_s: float) -> Iterator[None]:
    """Raise TimeoutError in the main thread when the time is over; end the process, with its stack, if that is not
    enough."""

    def bark(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"not over after {limit_s:g} s")

    before = signal.signal(signal.SIGALRM, bark)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    faulthandler.dump_traceback_later(2 * limit_s, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

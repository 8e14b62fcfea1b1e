"""A server's log: one line an event, and only so many, whatever clients do."""

from __future__ import annotations

import logging
import time

BURST = 20
PER_S = 1.0


class RateLimit(logging.Filter):
    """Lets `burst` records through at once and `per_s` from then on; says of the next how many it left out before."""

    def __init__(self, burst: int = BURST, per_s: float = PER_S) -> None:
        super().__init__()
        self._burst = float(burst)
        self._per_s = per_s
        self._left = self._burst
        self._at_s = time.monotonic()
        self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written (logging.Filter)."""
        now_s = time.monotonic()
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left < 1:
            self._left_out += 1
            return False
        self._left -= 1
        if self._left_out:
            record.msg, record.args = f"{record.getMessage()} ({self._left_out} before it were left out)", None
            self._left_out = 0
        return True


def set_up(name: str) -> None:
    """Write warnings and errors to standard error, as `name`."""
    handler = logging.StreamHandler()
    handler.addFilter(RateLimit())
    logging.basicConfig(level=logging.WARNING, format=f"{name}: %(message)s", handlers=[handler])

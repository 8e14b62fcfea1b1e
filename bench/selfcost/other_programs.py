"""What other programs take of the cores while something is measured: a token costs more beside them."""

from __future__ import annotations

from time import monotonic

from bench.plan import Validity
from bench.running.machine import busy_seconds, own_seconds
from servers.process import usable_cores


class OtherPrograms:
    """They are watched from when this is made."""

    def __init__(self) -> None:
        self._cores = usable_cores()
        self._begun_s = monotonic()
        self._before_s = self._foreign_s()

    def _foreign_s(self) -> float:
        return busy_seconds(self._cores) - own_seconds()

    @property
    def ratio(self) -> float:
        """CPU seconds of theirs on the usable cores in a second, since then."""
        return max(0.0, self._foreign_s() - self._before_s) / (monotonic() - self._begun_s)

    @property
    def disturb(self) -> bool:
        """Whether it is so much that a run would call its cells void."""
        return self.ratio > Validity().foreign_cpu_ratio

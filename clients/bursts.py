"""How many requests come at once: what clients that were cut together do to a server when they come back (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import numpy as np

_SECOND_NS = 1_000_000_000


def worst_second(requests_at_ns: Iterable[Iterable[int]]) -> int:
    """The most requests that were sent within any second, those of all messages together; 0 of none."""
    at_ns = np.sort(np.fromiter(chain.from_iterable(requests_at_ns), np.int64))
    if not len(at_ns):
        return 0
    return int((np.searchsorted(at_ns, at_ns + _SECOND_NS) - np.arange(len(at_ns))).max())

"""Who works on which answer for whom, and since when: so that it can be told how long a server goes on for nobody.

A span is one connection's way through an answer, from its first token (or the wait for the whole answer) until the
server has handed over the last one, has noticed that nobody is there any more, or is stopping.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from time import monotonic_ns

KEPT_SPANS = 4096  # of the latest that are over, and told of those that are not

Span = tuple[str, int, int | None]
"""Stream id, begin and end (CLOCK_MONOTONIC ns); None: it goes on."""


class Spans:
    """The spans of one server."""

    def __init__(self) -> None:
        self._over: deque[Span] = deque(maxlen=KEPT_SPANS)
        self._running: dict[object, Span] = {}

    @contextmanager
    def of(self, stream_id: str) -> Iterator[None]:
        """One of them."""
        key, begin_ns = object(), monotonic_ns()
        self._running[key] = stream_id, begin_ns, None
        try:
            yield
        finally:
            del self._running[key]
            self._over.append((stream_id, begin_ns, monotonic_ns()))

    def since(self, since_ns: int) -> list[Span]:
        """Those that were over after `since_ns`, and those that go on."""
        over = [span for span in self._over if (span[2] or 0) > since_ns]
        return [*over, *islice(self._running.values(), KEPT_SPANS)]

"""The last seconds of a test in figures, for the tab and for the search of the knee (pure; time is an argument)."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.core.record import Outcome, StreamRecord
from clients.minima import MESSAGES_NEEDED

WINDOW_S = 10.0  # a point is about the messages that ended in so many seconds before it
POINTS = 600  # kept of each line: ten minutes
FIGURES = {  # what a point has: its title
    "ttft_ms_p50": "first token, ms, p50",
    "delay_ms_p50": "token delay, ms, p50",
    "delay_ms_p99": "token delay, ms, p99",
    "drop_percent": "messages dropped or failed, %",
    "tokens_per_s": "tokens per second",
    "requests_per_s": "requests per second",
}

Point = dict[str, float | None]


def for_json(value: float | None) -> float | str | None:
    """JSON has no infinity, so infinitely late is the text "inf"."""
    return "inf" if value == math.inf else value


@dataclass(frozen=True)
class _Ended:
    at_s: float
    ttft_ms: float
    delays_ms: NDArray[np.float64]
    dropped: bool


class Live:
    """Takes what workers report and makes a point for each transport whenever it is asked to."""

    def __init__(self) -> None:
        self._ended: dict[str, deque[_Ended]] = defaultdict(deque)
        self._counts: dict[str, dict[str, Mapping[str, int]]] = defaultdict(dict)  # transport -> worker -> counters
        self._totals: dict[str, deque[tuple[float, int, int]]] = defaultdict(lambda: deque(maxlen=round(WINDOW_S) + 1))
        self.lines: dict[str, deque[tuple[float, Point]]] = defaultdict(lambda: deque(maxlen=POINTS))

    def add(self, transport: str, record: StreamRecord, now_s: float) -> None:
        """A message has ended. A failed one counts as infinitely late, and so does a token that never came."""
        ok = record.outcome is Outcome.OK
        ttft_ms = (record.first_token_ns - record.intended_start_ns) / 1e6 if ok else math.inf
        received, due = (np.frombuffer(column, np.int64) for column in (record.received_ns, record.due_ns))
        delays_ms = np.concatenate([(received - due) / 1e6, np.full(record.tokens_lost, np.inf)])
        self._ended[transport].append(_Ended(now_s, ttft_ms, delays_ms, not ok or record.drops > 0))

    def count(self, worker: str, counters: Mapping[str, Mapping[str, int]]) -> None:
        """What a worker has counted since the test began."""
        for transport, counter in counters.items():
            self._counts[transport][worker] = counter

    def tick(self, now_s: float) -> None:
        """Add a point to each line."""
        for transport, workers in self._counts.items():
            ended = self._ended[transport]
            while ended and ended[0].at_s < now_s - WINDOW_S:
                ended.popleft()
            tokens, requests = (sum(w.get(word, 0) for w in workers.values()) for word in ("tokens", "requests"))
            totals = self._totals[transport]
            totals.append((now_s, tokens, requests))
            self.lines[transport].append((now_s, _point(list(ended)) | _rates(totals)))

    def last(self) -> dict[str, Point]:
        """The newest point of each transport."""
        return {transport: line[-1][1] for transport, line in self.lines.items() if line}


def _point(ended: list[_Ended]) -> Point:
    if not ended:
        return dict.fromkeys(("ttft_ms_p50", "delay_ms_p50", "delay_ms_p99", "drop_percent"))
    delays = np.concatenate([e.delays_ms for e in ended])
    return {
        "ttft_ms_p50": _quantile(np.array([e.ttft_ms for e in ended]), 0.5),
        "delay_ms_p50": _quantile(delays, 0.5),
        "delay_ms_p99": _quantile(delays, 0.99) if len(delays) >= MESSAGES_NEEDED[0.99] else None,
        "drop_percent": 100 * sum(e.dropped for e in ended) / len(ended),
    }


def _quantile(values: NDArray[np.float64], p: float) -> float | None:
    """An order statistic; infinity where so many never came."""
    return float(np.quantile(values, p, method="higher")) if len(values) else None


def _rates(totals: deque[tuple[float, int, int]]) -> Point:
    (then_s, tokens_then, requests_then), (now_s, tokens, requests) = totals[0], totals[-1]
    span_s = now_s - then_s
    if span_s <= 0:
        return {"tokens_per_s": None, "requests_per_s": None}
    return {"tokens_per_s": (tokens - tokens_then) / span_s, "requests_per_s": (requests - requests_then) / span_s}

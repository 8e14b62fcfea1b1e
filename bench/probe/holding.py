"""Who holds a stream back, and until when: told from how the tokens of a few known streams came (pure).

Three streams are asked for, each several times: a `slow` one, whose bytes fill no buffer before any clock strikes, a
`steady` one of many small tokens, and a `large` one. What is held until so many bytes are there lets go at the same
size whatever the rate; what is held for a time lets go after the same time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd
from statistics import median
from typing import Literal

from bench.probe.trace import Delivery, Trace, aligned

HELD_MS = 25.0
"""What comes less late than this is not called held: networks and busy machines do as much."""
HELD_SHARE = 0.2
"""Of the tokens of a stream, above which the stream is called held."""
AGREE_SHARE = 0.5
"""Of the deliveries of a stream: so many have the same size or time at least, where one rule sets all of them free."""
ALIKE_MS = 1.3
"""Times are the same where the usual one is no more than this many times the shortest."""
TOGETHER = 3
"""So many tokens come together at least where they are held: alone they are only late."""
MIN_BUFFER_BYTES = 256
"""Sizes that divide by less than this do so by chance."""

HoldingKind = Literal["none", "until_complete", "bytes", "time", "bytes_or_time", "first_bytes"]


@dataclass(frozen=True)
class Interval:
    """The true number is above `low` and at most `high`; the same where it is known exactly."""

    low: float
    high: float


@dataclass(frozen=True)
class Holding:
    """What happens to a stream on its way.

    bytes: how many are waited for; for `until_complete`, that many were held and more perhaps would be
    whole_buffers: what goes on is a multiple of that number, and the rest waits on
    time_ms: how long the first byte waits at most
    """

    kind: HoldingKind
    bytes: Interval | None = None
    whole_buffers: bool = False
    time_ms: Interval | None = None


NOTHING = Holding("none")


def holding(slow: Sequence[Trace], steady: Sequence[Trace], large: Sequence[Trace]) -> Holding | None:
    """What holds these streams, each asked for several times; None if too few came to their end to say."""
    asked = aligned([[trace for trace in traces if trace.is_complete] for traces in (slow, steady, large)])
    if not all(asked):
        return None
    slow, steady, large = asked
    if not is_held(asked[1]):  # whoever holds anything holds many small tokens
        return NOTHING
    if all(_comes_at_the_end(trace) for trace in large):
        return Holding("until_complete", Interval(*[float(max(trace.reads[-1].raw_bytes for trace in large))] * 2))
    if first := _first_bytes(steady):
        return Holding("first_bytes", first)
    return _periodic(slow, steady, large)


def is_held(traces: Sequence[Trace]) -> bool:
    """Whether the tokens of this steady stream are held back: a delay that chance makes is not there each time."""
    if any(trace.tokens < TOGETHER * len(trace.deliveries) for trace in traces):
        return _first_bytes(traces) is not None
    delays_ms = [min(of_one) for of_one in zip(*(trace.delays_ms for trace in traces), strict=False)]
    return bool(delays_ms) and sum(delay_ms > HELD_MS for delay_ms in delays_ms) / len(delays_ms) > HELD_SHARE


def _comes_at_the_end(trace: Trace) -> bool:
    return trace.deliveries[0].tokens == trace.tokens


def _periodic(slow: Sequence[Trace], steady: Sequence[Trace], large: Sequence[Trace]) -> Holding:
    """Held again and again, until so many bytes are there or so much time is over."""
    time_ms = _held_ms(slow)
    sooner = [traces for traces in (steady, large) if _is_sooner(traces, time_ms)]
    sizes = sorted(map(_size, sooner), key=lambda found: not found[1])  # else of the smaller tokens: they say it finer
    size, whole = sizes[0] if sizes else (None, False)
    if size and time_ms and median(delivery.raw_bytes for delivery in _inner(slow)) >= size.low:
        time_ms = None  # the slow stream filled buffers as well
    if size is None:
        # Small tokens that come sooner than the clock, and at no size, came from a machine that stands still at times.
        return Holding("time", time_ms=time_ms) if time_ms and not _is_sooner(steady, time_ms) else NOTHING
    return Holding("bytes_or_time" if time_ms else "bytes", size, whole, time_ms)


def _is_sooner(traces: Sequence[Trace], time_ms: Interval | None) -> bool:
    """Whether bytes set these free before the clock did, and did hold them before."""
    holds_ms = [delivery.held_ms for delivery in _inner(traces)]
    if not holds_ms or median(holds_ms) < HELD_MS / 2:
        return False
    return time_ms is None or median(holds_ms) < 0.8 * time_ms.low


def _inner(traces: Sequence[Trace]) -> list[Delivery]:
    """The deliveries that something else than the end set free."""
    return [delivery for trace in traces for delivery in trace.deliveries[:-1]]


def _held_ms(traces: Sequence[Trace]) -> Interval | None:
    """How long a first token waits, where that is the same each time: timers are late, never early."""
    # The clock of the first delivery began with the head.
    holds_ms = [delivery.held_ms for trace in traces for delivery in (trace.deliveries[1:-1] or trace.deliveries[:-1])]
    if not holds_ms or median(holds_ms) < HELD_MS or median(holds_ms) > ALIKE_MS * min(holds_ms):
        return None
    return Interval(min(holds_ms), median(holds_ms))


def _size(traces: Sequence[Trace]) -> tuple[Interval | None, bool]:
    """How many bytes set a delivery free, and whether in whole buffers."""
    ends = [[delivery.raw_end for delivery in trace.deliveries[:-1]] for trace in traces]
    whole = _whole_buffer(ends)
    if whole is None:  # a head of its own length, or chunks of its own, whose framing counts too
        whole = _whole_buffer([[b - a for a, b in pairwise(each)] for each in ends])
    if whole is not None:
        return Interval(whole, whole), True
    return _threshold(_inner(traces)), False


def _whole_buffer(numbers: Sequence[Sequence[int]]) -> int | None:
    """The size of which the numbers of most answers are multiples."""
    found = Counter(gcd(*each) for each in numbers if len(each) > 1)
    size, times = max(found.items(), key=lambda item: item[1], default=(0, 0))
    return size if size >= MIN_BUFFER_BYTES and times > len(numbers) / 2 else None


def _threshold(deliveries: Sequence[Delivery]) -> Interval | None:
    """What each delivery has reached with its last token and not before, as far as most of them agree."""
    spans = [
        (delivery.raw_bytes * (1 - 1.3 / delivery.tokens), float(delivery.raw_bytes))  # tokens differ in size
        for delivery in deliveries
        if delivery.tokens > 1
    ]
    if not spans:
        return None
    best = max((high for _, high in spans), key=lambda size: sum(low < size <= high for low, high in spans))
    agreeing = [(low, high) for low, high in spans if low < best <= high]
    if len(agreeing) < AGREE_SHARE * len(deliveries):
        return None
    return Interval(max(low for low, _ in agreeing), min(high for _, high in agreeing))


def _first_bytes(traces: Sequence[Trace]) -> Interval | None:
    """How many bytes the first delivery waited for, if nothing is held behind it."""
    spans = []
    for trace in traces:
        first = trace.deliveries[0]
        if first.tokens < 3 or first.held_ms < HELD_MS or first.tokens == trace.tokens:
            return None
        rest = [delivery.held_ms for delivery in trace.deliveries[1:]]
        if sum(held_ms > HELD_MS for held_ms in rest) / len(rest) > HELD_SHARE:
            return None
        spans.append((first.raw_end * (1 - 1.3 / first.tokens), float(first.raw_end)))
    low, high = max((low for low, _ in spans), default=0.0), min((high for _, high in spans), default=0.0)
    return Interval(low, high) if low < high else None  # else it was not for their bytes

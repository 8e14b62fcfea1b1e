"""One streamed answer as its client saw it: which read brought which bytes and tokens, and when (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from bench.probe.channel import Heard, Token

GROUP_NS = 2_000_000
"""Reads closer than this are one delivery: the kernel may hand a large one over in pieces."""

OTHER_CLOCK_NS = 30_000_000_000
"""Answers whose ways differ by more than this came from servers with other clocks."""


@dataclass(frozen=True)
class Read:
    """What one read brought.

    at_ns: when, on the client's clock
    raw_bytes: of the response up to and with this read, with head and framing
    sent_ns: of each token that it completed, when the server handed it out, on the server's clock
    """

    at_ns: int
    raw_bytes: int
    sent_ns: tuple[int, ...] = ()


@dataclass(frozen=True)
class Delivery:
    """Reads that came together: one flush of whoever held them back.

    raw_bytes: what it brought; raw_end: what of the response is there behind it
    tokens: how many it completed; held_ms: how long the first of them had waited
    """

    raw_bytes: int
    raw_end: int
    tokens: int
    held_ms: float


@dataclass(frozen=True)
class Trace:
    """One streamed answer.

    asked_ns, head_ns: when the request was sent, and when the response's head was complete (None: never)
    is_complete: it came to its end message
    quickest_ns: what a token took at least, by two clocks that nobody has set; None: as far as this answer tells
    """

    asked_ns: int
    head_ns: int | None = None
    reads: tuple[Read, ...] = ()
    is_complete: bool = False
    quickest_ns: int | None = None

    @classmethod
    def of(cls, heard: Heard) -> Trace:
        """What a channel heard of one answer."""
        return cls(heard.asked_ns, heard.head_ns, tuple(_reads(heard)), heard.is_complete)

    @property
    def tokens(self) -> int:
        """How many came."""
        return sum(len(read.sent_ns) for read in self.reads)

    @property
    def delays_ms(self) -> list[float]:
        """How much later than the quickest each token came."""
        ways_ns = self._ways_ns
        least_ns = min(ways_ns, default=0) if self.quickest_ns is None else self.quickest_ns
        return [(way_ns - least_ns) / 1e6 for way_ns in ways_ns]

    @property
    def _ways_ns(self) -> list[int]:
        return [read.at_ns - sent_ns for read in self.reads for sent_ns in read.sent_ns]

    @property
    def first_token_ms(self) -> float:
        """From the request to the first token; infinite if none came."""
        first_ns = next((read.at_ns for read in self.reads if read.sent_ns), None)
        return float("inf") if first_ns is None else (first_ns - self.asked_ns) / 1e6

    @property
    def head_ms(self) -> float:
        """From the request to the response's head; infinite if none came."""
        return float("inf") if self.head_ns is None else (self.head_ns - self.asked_ns) / 1e6

    @property
    def deliveries(self) -> list[Delivery]:
        """What came together, without what brought no token."""
        groups: list[list[Read]] = []
        for read in self.reads:
            if groups and read.at_ns - groups[-1][-1].at_ns < GROUP_NS:
                groups[-1].append(read)
            else:
                groups.append([read])
        found: list[Delivery] = []
        delays_ms, before = iter(self.delays_ms), 0
        for group in groups:
            held_ms, last = [next(delays_ms) for read in group for _ in read.sent_ns], group[-1]
            if held_ms:
                size = last.raw_bytes - before
                found.append(Delivery(size, last.raw_bytes, len(held_ms), held_ms[0]))
                before = last.raw_bytes
        return found


def aligned(groups: Sequence[Sequence[Trace]]) -> list[list[Trace]]:
    """The same traces, by the quickest token of all where one clock stamped them: a held answer has no quick token."""
    least_ns = [min(trace._ways_ns) for group in groups for trace in group if trace.tokens]
    if not least_ns or max(least_ns) - min(least_ns) > OTHER_CLOCK_NS:
        return [list(group) for group in groups]
    return [[replace(trace, quickest_ns=min(least_ns)) for trace in group] for group in groups]


def _reads(heard: Heard) -> Iterator[Read]:
    """Each read with the tokens that were stamped as it was: they are its own."""
    came = {at_ns: list(tokens) for at_ns, tokens in groupby(heard.tokens, lambda token: token.at_ns)}
    raw_bytes = 0
    for read in heard.reads:
        raw_bytes += read.size_bytes
        tokens: list[Token] = came.pop(read.at_ns, [])
        yield Read(read.at_ns, raw_bytes, tuple(token.sent_ns for token in tokens))

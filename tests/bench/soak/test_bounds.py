"""Which figures break which bound."""

from __future__ import annotations

import math

import pytest

from bench.soak import bounds
from bench.soak.bounds import MIB, MemoryBound, ProcessRow, ServerCounts, Size

BOUND = MemoryBound(held_kib_each=1024, held_mib=10, kept_mib=5, again_mib=2)
BEFORE = Size(100 * MIB, 20)


def row(most_mib: float = 0, after_mib: float = 0, again_mib: float | None = None, descriptors: int = 0) -> ProcessRow:
    """A process that grew by so much."""

    def grown(mib: float) -> Size:
        return Size(BEFORE.memory_bytes + round(mib * MIB), BEFORE.descriptors + descriptors)

    again = None if again_mib is None else grown(after_mib + again_mib)
    return ProcessRow("server", BEFORE, grown(most_mib), grown(after_mib), again)


@pytest.mark.parametrize(
    ("given", "broken"),
    [
        (row(30, 5, 2, descriptors=bounds.DESCRIPTORS_MORE), ""),
        (row(-30, -5), ""),
        (row(30.5), "server: 30 MiB more under load, 30 allowed"),
        (row(30, 6), "server: 6 MiB more afterwards, 5 allowed"),
        (row(30, 5, 3), "server: 3 MiB more after the same load again, 2 allowed"),
        (row(descriptors=9), "server: 9 descriptors more afterwards, 8 allowed"),
    ],
)
def test_each_bound_breaks_beyond_it_and_not_at_it(given: ProcessRow, broken: str) -> None:
    assert bounds.broken_by_size(given, BOUND, connections=20) == [broken] * bool(broken)


def test_what_is_still_under_way_or_kept_for_ever_is_named() -> None:
    assert bounds.broken_by_counts(ServerCounts(0, 2, 0), keys_kept=2) == []
    assert bounds.broken_by_counts(ServerCounts(3, 2, 1)) == [
        "3 answers still under way",
        "2 keys in Redis, 0 allowed",
        "1 keys without a time to live",
    ]


def test_a_process_has_its_time_to_end() -> None:
    assert bounds.broken_by_end("proxy", bounds.SIGTERM_S) == []
    assert bounds.broken_by_end("proxy", 5.1) == ["proxy: took 5.1 s to end on SIGTERM, 5 s allowed"]
    assert bounds.broken_by_end("proxy", math.inf) == ["proxy: did not end on SIGTERM, 5 s allowed"]


def test_a_traceback_or_a_flood_in_the_log_is_a_fault() -> None:
    assert bounds.broken_by_log("server", "one line\n" * bounds.LOG_LINES) == []
    assert bounds.broken_by_log("server", "x\n" * 101) == ["server: 101 lines in its log, 100 allowed"]
    traceback = "Traceback (most recent call last):\n  …\n"
    assert bounds.broken_by_log("proxy", traceback) == ["proxy: 1 tracebacks in its log"]

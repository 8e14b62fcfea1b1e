"""Lags are open loop: who stands still is late with everything that fell due meanwhile."""

from __future__ import annotations

import asyncio
import time
import urllib.error
from collections.abc import Callable

import pytest
from support.processes import RunningServer

from servers.lags import IDLE_BEATS, KEPT_LAGS, Lags, LoopProbe, beats_missed
from servers.transport import TRANSPORTS

MS = 1_000_000


def test_a_stall_counts_for_every_beat_that_it_missed() -> None:
    assert list(beats_missed(35 * MS, 10 * MS)) == [35 * MS, 25 * MS, 15 * MS, 5 * MS]
    assert list(beats_missed(0, 10 * MS)) == [0]
    assert len(beats_missed(1000 * MS, 10 * MS)) == 101


def test_one_second_in_a_minute_shows_in_the_99th_percentile() -> None:
    lags = Lags()
    for _ in range(5900):
        lags.note(60, 20_000)
    lags.note_all(61, beats_missed(1000 * MS, 10 * MS))
    p99_us, most_us = lags.us_since()
    assert p99_us > 100_000
    assert most_us == 1_000_000
    assert lags.us_since(62) == (0, 0)


def test_a_stop_of_a_year_takes_no_more_room_than_is_kept() -> None:
    lags = Lags()
    begun = time.monotonic()
    lags.note_all(1, beats_missed(365 * 86_400_000 * MS, 10 * MS))
    assert time.monotonic() - begun < 5
    p99_us, most_us = lags.us_since()
    assert most_us == 365 * 86_400 * 1_000_000
    assert p99_us < KEPT_LAGS * 10_000


def test_a_stall_is_remembered_whatever_comes_after_it() -> None:
    lags = Lags()
    lags.note(1, 900 * MS)
    lags.note(2, 300 * MS)
    for moment in range(3, 3 * KEPT_LAGS):
        lags.note(moment, 1_000 + moment % 7)
    assert lags.us_since() == (1.006, 900_000)
    assert lags.us_since(2) == (1.006, 300_000)
    assert lags.us_since(3) == (1.006, 1.006)


async def test_a_probe_sees_what_stops_its_loop() -> None:
    seen: list[int] = []
    probe = LoopProbe(lambda _, lags_ns: seen.extend(lags_ns), every_ns=5 * MS)
    await asyncio.sleep(0.02)
    before = len(seen)
    time.sleep(0.1)  # noqa: ASYNC251 - this is the stall
    await asyncio.sleep(0.02)
    probe.close()
    late = [lag_ns for lag_ns in seen[before:] if lag_ns > 40 * MS]
    assert max(late) >= 94 * MS
    assert len(late) >= 11, "each missed beat counts"
    assert min(seen) >= 0
    count = len(seen)
    await asyncio.sleep(0.02)
    assert len(seen) == count, "closed, it looks no more"


async def test_an_idle_loop_is_looked_at_seldom_and_its_stalls_count_as_much() -> None:
    looks: list[range] = []
    probe = LoopProbe(lambda _, lags_ns: looks.append(lags_ns), every_ns=2 * MS, is_busy=lambda: False)
    begun_ns = time.monotonic_ns()
    await asyncio.sleep(0.1)
    assert 1 <= len(looks) <= (time.monotonic_ns() - begun_ns) / (2 * MS * IDLE_BEATS) + 1
    time.sleep(0.1)  # noqa: ASYNC251 - this is the stall
    await asyncio.sleep(0.01)
    probe.close()
    assert max(lags_ns[0] for lags_ns in looks) >= 79 * MS
    assert max(map(len, looks)) >= 39


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_tells_its_lags_since_a_moment(server: Callable[[str], RunningServer], transport: str) -> None:
    running = server(transport)
    time.sleep(0.3)
    told = running.get("/stats")
    assert 0 < told["loop_lag_us_p99"] <= told["loop_lag_us_max"]
    assert running.get(f"/stats?since={told['now_ns'] + 3600 * 10**9}")["loop_lag_us_max"] == 0
    assert ("redis_lag_us_max" in told) == TRANSPORTS[transport].needs_redis


@pytest.mark.parametrize("since", ["x", "-1", "9" * 20, "%D9%A3", ""])
def test_a_moment_is_a_number(server: Callable[[str], RunningServer], since: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="400") as refused:
        server("sse").get(f"/stats?since={since}")
    refused.value.close()

"""What holds a stream back is told from how its tokens came: the proxy's own rules, played by a simulated clock."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from bench.probe.holding import NOTHING, Holding, holding, is_held
from bench.probe.rehearsal import Scene, rehearse
from bench.probe.trace import Read, Trace
from bench.proxy.behaviours import Coalescing, Latency, MaxDuration, ResponseBuffering
from bench.proxy.rule import Rule

CLOCKS_APART_NS = 7_654_321_000_000
SLOW = [k * 0.05 for k in range(12)]
STEADY = [k * 0.008 for k in range(75)]
LARGE = [k // 12 * 0.01 for k in range(720)]


def trace(rules: Sequence[Rule], sent_s: Sequence[float], noise: random.Random) -> Trace:
    """A stream of tokens, sent so, as a client with a clock of its own reads it, now and then a little late."""
    scene = Scene("", "stream", 60.0, tokens_s=tuple(sent_s), ends=True)
    plain = rehearse((), scene).arrivals
    token_ends = [n_bytes for _, n_bytes in plain[1:]]
    reads: list[Read] = []
    told = 0
    for at_s, n_bytes in rehearse(rules, scene).arrivals:
        there = sum(end <= n_bytes for end in token_ends[: len(sent_s)])
        late_s = noise.expovariate(2000) + (0.03 if noise.random() < 0.01 else 0)
        at_ns = max(round((at_s + late_s) * 1e9) + CLOCKS_APART_NS, reads[-1].at_ns if reads else 0)
        reads.append(Read(at_ns, n_bytes, tuple(round(s * 1e9) for s in sent_s[told:there])))
        told = there
    return Trace(CLOCKS_APART_NS, reads[0].at_ns if reads else None, tuple(reads), told == len(sent_s))


def look(*rules: Rule) -> Holding | None:
    noise = random.Random("a busy client")
    slow, steady, large = ([trace(rules, sent_s, noise) for _ in range(3)] for sent_s in (SLOW, STEADY, LARGE))
    return holding(slow, steady, large)


@pytest.mark.parametrize("rules", [(), (Latency(latency_ms=300),), (Coalescing(coalesce_ms=5),)])
def test_what_holds_nothing_back(rules: tuple[Rule, ...]) -> None:
    assert look(*rules) == NOTHING


@pytest.mark.parametrize("size", [1024, 4096, 8192, 16_384, 30_000])
def test_whole_buffers_are_known_exactly(size: int) -> None:
    found = look(ResponseBuffering(buffer_bytes=size))
    assert found is not None
    assert (found.kind, found.whole_buffers, found.time_ms) == ("bytes", True, None)
    assert found.bytes is not None
    assert found.bytes.low == found.bytes.high == size


@pytest.mark.parametrize("until_ms", [60, 100, 200])
def test_a_clock_alone(until_ms: int) -> None:
    found = look(Coalescing(coalesce_ms=until_ms, coalesce_bytes=1 << 20))
    assert found is not None
    assert (found.kind, found.bytes) == ("time", None)
    assert found.time_ms is not None
    assert found.time_ms.low == pytest.approx(until_ms, abs=9)  # no finer than the gap of the steady stream


def test_a_clock_and_bytes_whichever_comes_first() -> None:
    found = look(Coalescing(coalesce_ms=200, coalesce_bytes=1448))
    assert found is not None
    assert (found.kind, found.whole_buffers) == ("bytes_or_time", False)
    assert found.bytes is not None
    assert found.bytes.low < 1448 <= found.bytes.high
    assert found.bytes.high == pytest.approx(1448, rel=0.1)  # no finer than a token
    assert found.time_ms is not None
    assert found.time_ms.low == pytest.approx(200, abs=5)


def test_until_complete() -> None:
    found = look(ResponseBuffering(until_complete=True))
    assert found is not None
    assert found.kind == "until_complete"
    assert found.bytes is not None
    assert found.bytes.high > 65_536  # more was held than any usual buffer holds


def test_streams_that_never_come_whole_say_nothing() -> None:
    assert look(MaxDuration(max_duration_s=0.01)) is None


def test_only_the_first_bytes() -> None:
    noise = random.Random(1)

    def one(sent_s: Sequence[float]) -> Trace:
        """Nothing before 2000 bytes are there, then all at once and as it comes."""
        whole = trace((), sent_s, noise)
        first = next(k for k, read in enumerate(whole.reads) if read.raw_bytes >= 2000 or k == len(whole.reads) - 1)
        joined = tuple(ns for read in whole.reads[: first + 1] for ns in read.sent_ns)
        reads = (Read(whole.reads[first].at_ns, whole.reads[first].raw_bytes, joined), *whole.reads[first + 1 :])
        return Trace(whole.asked_ns, reads[0].at_ns, reads, True)

    found = holding(*([one(sent_s) for _ in range(3)] for sent_s in (SLOW, STEADY, LARGE)))
    assert found is not None
    assert found.kind == "first_bytes"
    assert found.bytes is not None
    assert found.bytes.low < 2000 <= found.bytes.high < 2200


def test_a_single_late_stream_is_chance() -> None:
    noise = random.Random(2)
    calm = [trace((), STEADY, noise) for _ in range(2)]
    assert not is_held([*calm, trace((ResponseBuffering(buffer_bytes=4096),), STEADY, noise)])
    assert is_held([trace((ResponseBuffering(buffer_bytes=4096),), STEADY, noise)] * 3)

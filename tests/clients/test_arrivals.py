"""Arrivals: known answers, so that a change in any Python version shows; shapes."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from statistics import mean, stdev

import pytest

from clients.arrivals import gamma_variate, plan_messages, plan_warmup
from clients.job import Arrivals, Load
from servers.stream import message_seed

STREAM: dict[str, object] = {"profile": "fast"}


def offsets_ns(load: Load, seed: int = 1, block: int = 0) -> list[int]:
    return [message.offset_ns or 0 for message in plan_messages(load, STREAM, seed, block)]


@pytest.mark.parametrize(
    ("arrivals", "first_us"),
    [
        ("constant", [50_000, 100_000, 150_000]),
        ("poisson", [30_139, 50_706, 78_636]),
        ("gamma", [12_548, 20_805, 24_131]),
        ("closed", [0, 0, 0]),
    ],
)
def test_the_first_arrivals_are_always_the_same(arrivals: Arrivals, first_us: list[int]) -> None:
    assert offsets_ns(Load(arrivals=arrivals, streams=30))[:3] == [us * 1000 for us in first_us]


def test_a_burst_is_so_many_at_one_moment_at_the_rate_of_all() -> None:
    starts = offsets_ns(Load(arrivals="burst", concurrency=3, streams=8, rate_per_s=6))
    assert starts == [0, 0, 0, 500_000_000, 500_000_000, 500_000_000, 1_000_000_000, 1_000_000_000]


def test_gamma_variates_are_always_the_same() -> None:
    draws = [gamma_variate(shape, Random(f"known/{shape}").random) for shape in (0.37, 1.0, 2.5)]
    assert [round(draw, 9) for draw in draws] == [0.067965203, 0.316990326, 2.607936843]


@pytest.mark.parametrize(("arrivals", "cv"), [("poisson", 1.0), ("gamma", 1.64), ("constant", 0.0)])
def test_rate_and_burstiness(arrivals: Arrivals, cv: float) -> None:
    starts = offsets_ns(Load(arrivals=arrivals, streams=20_000, rate_per_s=50))
    gaps_s = [(b - a) / 1e9 for a, b in pairwise(starts)]
    assert mean(gaps_s) == pytest.approx(1 / 50, rel=0.05)
    assert stdev(gaps_s) / mean(gaps_s) == pytest.approx(cv, abs=0.08)


@pytest.mark.parametrize("shape", [0.2, 1.0, 4.0])
def test_gamma_variates_have_their_mean_and_variance(shape: float) -> None:
    uniform = Random("x").random
    draws = [gamma_variate(shape, uniform) for _ in range(20_000)]
    assert mean(draws) == pytest.approx(shape, rel=0.05)
    assert stdev(draws) ** 2 == pytest.approx(shape, rel=0.1)


def test_every_cell_of_a_block_gets_the_same_and_another_block_other_messages() -> None:
    load = Load(streams=5)
    assert plan_messages(load, STREAM, 1, 0) == plan_messages(load, STREAM, 1, 0)
    first, other = plan_messages(load, STREAM, 1, 0), plan_messages(load, STREAM, 1, 1)
    assert {m.seed for m in first}.isdisjoint(m.seed for m in other)
    assert [m.offset_ns for m in first] != [m.offset_ns for m in other]
    assert [m.seed for m in first] == [message_seed(1, 0, k) for k in range(5)]
    assert [m.k for m in first] == list(range(5))


def test_conversations_have_turns_and_the_last_may_be_short() -> None:
    messages = plan_messages(Load(streams=7, turns=3), STREAM, 1, 0)
    assert [(m.conversation, m.turn) for m in messages] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]
    assert [m.offset_ns is None for m in messages] == [False, True, True, False, True, True, False]


def test_a_closed_loop_is_so_many_conversations_that_start_at_once() -> None:
    messages = plan_messages(Load(arrivals="closed", streams=10, concurrency=4), STREAM, 1, 0)
    assert len(messages) == 10
    assert {m.conversation for m in messages} == {0, 1, 2, 3}
    assert [m.offset_ns for m in messages if m.turn == 0] == [0] * 4


def test_warm_up_messages_are_short_and_others() -> None:
    load = Load(streams=50, warmup_streams=3)
    warmup, measured = plan_warmup(load, STREAM, 1, 0), plan_messages(load, STREAM, 1, 0)
    assert [m.stream["tokens"] for m in warmup] == [16, 16, 16]
    assert {m.seed for m in warmup}.isdisjoint(m.seed for m in measured)
    assert plan_warmup(Load(warmup_streams=0), STREAM, 1, 0) == []

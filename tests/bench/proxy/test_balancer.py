"""Which server is next, as tables: turns, addresses, servers that are down."""

from __future__ import annotations

import pytest

from bench.proxy.balancer import Balancer
from bench.proxy.behaviours import Upstreams

THREE = [("a", 1), ("b", 2), ("c", 3)]


def test_servers_take_turns() -> None:
    balancer = Balancer(THREE, Upstreams())
    assert [balancer.choose(0) for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_a_server_that_is_down_is_left_out_for_a_while() -> None:
    balancer = Balancer(THREE, Upstreams(down_s=10))
    balancer.failed(5, 1)
    assert [balancer.choose(5) for _ in range(4)] == [0, 2, 2, 0]
    assert [balancer.choose(15) for _ in range(3)] == [1, 2, 0]


def test_all_are_tried_once_also_those_that_are_down() -> None:
    balancer = Balancer(THREE, Upstreams())
    tried: list[int] = []
    while (number := balancer.choose(1, tried=tried)) is not None:
        balancer.failed(1, number)
        tried.append(number)
    assert sorted(tried) == [0, 1, 2]
    assert balancer.choose(2) is not None


@pytest.mark.parametrize("sticky", ["source", "none"])
def test_an_address_keeps_its_server_as_long_as_that_is_up(sticky: str) -> None:
    balancer = Balancer(THREE, Upstreams(sticky="source" if sticky == "source" else "none"))
    first = balancer.choose(0, source="10.0.0.7")
    assert first is not None
    again = {balancer.choose(0, source="10.0.0.7") for _ in range(6)}
    assert again == ({first} if sticky == "source" else {0, 1, 2})
    balancer.failed(0, first)
    assert first not in {balancer.choose(0, source="10.0.0.7") for _ in range(6)}


def test_addresses_are_spread() -> None:
    balancer = Balancer(THREE, Upstreams(sticky="source"))
    chosen = [balancer.choose(0, source=f"10.0.0.{n}") for n in range(256)]
    assert all(chosen.count(number) > 50 for number in range(3))


def test_the_wanted_one_comes_unless_it_is_down_or_there_is_none_such() -> None:
    balancer = Balancer(THREE, Upstreams())
    assert [balancer.choose(0, wanted=2) for _ in range(2)] == [2, 2]
    assert balancer.choose(0, wanted=9999) == 0
    balancer.failed(0, 2)
    assert balancer.choose(0, wanted=2) == 1

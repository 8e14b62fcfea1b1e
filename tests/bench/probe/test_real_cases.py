"""The real programs' configurations: what each has to show differs from what its neighbours have to show."""

from __future__ import annotations

from itertools import combinations

import pytest

from bench.probe.foretold import foretold
from bench.probe.judging import judge
from bench.probe.real_cases import REAL_CASES

UP_TO_S = 20.0


@pytest.mark.extra
def test_there_are_five_of_each_and_no_two_look_the_same() -> None:
    assert [case.program for case in REAL_CASES] == ["nginx"] * 5 + ["haproxy"] * 5
    for one, other in combinations(REAL_CASES, 2):
        verdicts = judge(foretold(one.shows, UP_TO_S), foretold(other.shows, UP_TO_S))
        assert not all(verdict.is_right for verdict in verdicts), f"{one.name} looks like {other.name}"

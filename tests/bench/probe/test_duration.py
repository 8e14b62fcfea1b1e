"""How long a stream may last: what trials say together, and what can be asked for at all."""

from __future__ import annotations

from math import inf

import pytest

from bench.probe.channel import BytesRead, Heard
from bench.probe.questions.duration import counted, lasting_s, silent_since_s
from bench.probe.streams import talking
from bench.probe.trial import Trial
from servers.stream import StreamSpec, build

HOUR_S = 3600.0


def survivor(lasts_s: float, age_s: float = 0.0) -> Trial:
    return Trial(lasts_s, True, facts={"age_s": age_s})


def cut(took_s: float, age_s: float = 0.0) -> Trial:
    return Trial(100, False, took_s, "fin", facts={"age_s": age_s})


def test_one_stream_of_three_that_is_cut_is_no_limit() -> None:
    assert counted([survivor(100), cut(20), survivor(100, 5)])[0] is None


@pytest.mark.parametrize(("ages_s", "counts_from"), [((0, 5, 10), "connection"), ((0, 0, 0), "request")])
def test_from_where_it_counts(ages_s: tuple[float, ...], counts_from: str) -> None:
    limit, found = counted([cut(60 - age_s, age_s) for age_s in ages_s])
    assert limit is not None
    assert (limit.sure_s, found) == (60, counts_from)


def test_one_that_is_late_says_nothing_of_where_it_counts_from() -> None:
    limit, found = counted([cut(60), cut(55, 5), cut(62.5, 10)])
    assert limit is not None
    assert (limit.value_s, found) == (60, "connection")
    assert counted([cut(60), cut(60, 5), cut(75, 10)])[1] == "request"


def test_any_server_grants_the_longest_stream_that_is_asked_for() -> None:
    spec = StreamSpec.parse(talking(1.0, lasting_s(HOUR_S, inf)))
    assert build(spec, 1).duration_ns > 0.99 * HOUR_S * 1e9


def test_a_black_hole_is_between_the_last_read_and_the_next() -> None:
    heard = Heard(asked_ns=0, reads=[BytesRead(at_s * 1_000_000_000, 10) for at_s in (0, 1, 2, 5)])
    middle_s, half_s = silent_since_s(heard, every_s=1.0)
    assert (middle_s - half_s, middle_s + half_s) == (5, 8)

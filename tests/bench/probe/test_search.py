from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

import pytest

from bench.probe.finding import BLACK_HOLE
from bench.probe.search import MAX_VOID, SEEN, Limit, Search, agreed, dissent, limit_of, limit_of_cuts, wait_limits
from bench.probe.trial import Trial

UP_TO_S = 0.3


def cut_at(limit_s: float, ending: str = "fin") -> Callable[[float], Trial]:
    def judge(wait_s: float) -> Trial:
        return Trial(wait_s, True) if wait_s < limit_s else Trial(wait_s, False, limit_s, ending)

    return judge


def swallowed_at(limit_s: float) -> Callable[[float], Trial]:
    def judge(wait_s: float) -> Trial:
        return Trial(wait_s, True) if wait_s < limit_s else Trial(wait_s, False, ending=BLACK_HOLE)

    return judge


def cut_at_the_next_byte(limit_s: float) -> Callable[[float], Trial]:
    """As by Go's write deadline, which nobody looks at before something is written."""

    def judge(wait_s: float) -> Trial:
        return Trial(wait_s, True) if wait_s < limit_s else Trial(wait_s, False, ending="fin")

    return judge


def found(judge: Callable[[float], Trial], left_s: float = inf) -> tuple[Limit, list[Trial]]:
    """What a search finds where each wait ends as `judge` says."""

    async def attempt(wait_s: float) -> Trial:
        trial = judge(wait_s)
        await asyncio.sleep(wait_s if trial.took_s is None else trial.took_s)
        return trial

    async def search() -> tuple[Limit, list[Trial]]:
        searching = Search(attempt, UP_TO_S, lambda: left_s, slack_s=0.0)
        return await searching.run(), searching.trials

    return asyncio.run(search())


@pytest.mark.parametrize("limit_s", [0.003, 0.1, 0.25, 0.299])
def test_a_cut_that_is_seen_is_the_limit(limit_s: float) -> None:
    limit, _ = found(cut_at(limit_s, "status 504"))
    assert (limit.value_s, limit.ending) == (limit_s, "status 504")
    assert limit.seen >= SEEN


@pytest.mark.parametrize("limit_s", [0.003, 0.1, 0.25])
def test_a_black_hole_is_found_within_two_percent(limit_s: float) -> None:
    limit, _ = found(swallowed_at(limit_s))
    assert limit.ending == BLACK_HOLE
    assert limit.low_s <= limit_s <= limit.high_s
    assert limit.value_s == pytest.approx(limit_s, rel=0.02)
    assert limit.seen >= SEEN


@pytest.mark.parametrize("limit_s", [0.003, 0.1, 0.25])
def test_an_end_that_shows_at_the_next_byte_is_found_as_a_black_hole_is(limit_s: float) -> None:
    limit, _ = found(cut_at_the_next_byte(limit_s))
    assert limit.ending == "fin"
    assert limit.low_s <= limit_s <= limit.high_s
    assert limit.value_s == pytest.approx(limit_s, rel=0.02)


def test_an_end_that_shows_at_the_next_byte_has_no_moment_of_its_own() -> None:
    """Of three waits of the same length all end alike, and yet the limit may be anywhere below."""
    limit, _ = found(cut_at_the_next_byte(0.2), left_s=0.0)
    assert limit.low_s < 0.2 <= limit.high_s
    assert limit.sure_s is not None
    assert limit.sure_s < UP_TO_S


def test_what_ends_the_longest_waits_alone_is_known_well() -> None:
    limit, _ = found(cut_at_the_next_byte(UP_TO_S), left_s=0.0)
    assert limit.sure_s == pytest.approx(UP_TO_S, rel=0.02)


def test_without_a_limit_the_longest_wait_is_what_is_known() -> None:
    limit, _ = found(lambda wait_s: Trial(wait_s, True))
    assert not limit.is_found
    assert (limit.low_s, limit.seen) == (UP_TO_S, SEEN)


def test_where_no_time_is_left_the_interval_stays_wide() -> None:
    limit, _ = found(swallowed_at(0.1), left_s=0.0)
    assert limit.low_s < 0.1 < limit.high_s
    assert limit.high_s > 1.2 * limit.low_s


def test_what_time_there_is_goes_to_a_closer_look_and_not_to_longer_waits() -> None:
    limit, trials = found(swallowed_at(0.175), left_s=0.18)
    assert max(trial.tried_s for trial in trials) < 0.2
    assert limit.value_s == pytest.approx(0.175, rel=0.05)


def test_what_says_nothing_is_tried_again_but_not_for_ever() -> None:
    limit, trials = found(lambda wait_s: Trial(wait_s, False, void="a bad network"))
    assert not limit.is_found
    assert limit.low_s == 0
    assert MAX_VOID < len(trials) < MAX_VOID + 20


def test_a_try_that_was_void_counts_for_nothing() -> None:
    disturbed = iter([True] * 4)

    def judge(wait_s: float) -> Trial:
        return Trial(wait_s, False, 0.001, "rst", void="restarted") if next(disturbed, False) else cut_at(0.1)(wait_s)

    limit, _ = found(judge)
    assert (limit.value_s, limit.ending) == (0.1, "fin")


def test_what_ends_a_forgotten_connection_at_last_is_not_the_limit() -> None:
    """A NAT forgets at 3 s; much later it resets whoever is still there."""
    trials = [Trial(2, True), Trial(3.5, False, ending=BLACK_HOLE), *[Trial(9, False, 6.0, "rst")] * 3]
    limit = limit_of(trials)
    assert (limit.low_s, limit.high_s, limit.ending) == (2, 3.5, BLACK_HOLE)


def test_a_wait_as_long_as_the_limit_contradicts_no_cut() -> None:
    """At its end the next byte is due: the connection ends, by one or the other."""
    trials = [Trial(3, True), Trial(5, False, ending="fin"), *[Trial(8, False, 5.02, "fin")] * 3]
    limit = limit_of(trials)
    assert (limit.value_s, limit.seen, limit.is_between) == (5.02, 3, False)


def test_two_servers_that_do_not_do_the_same_are_told_of() -> None:
    short, long = [Trial(8, False, 2.0, "fin")] * 3, [Trial(8, True)] * 4
    assert dissent([*short, *long], limit_of([*short, *long])) == "; but 3 others ended after 2 s"
    assert dissent([*short, *long[:2]], limit_of([*short, *long[:2]])) == "; 2 others lasted longer"
    assert not dissent(short, limit_of(short))
    assert not dissent(long, limit_of(long))
    assert not dissent([*short[:1], *long], limit_of([*short[:1], *long]))


def test_a_connection_that_was_forgotten_long_before_it_was_cut_shows_when() -> None:
    """Nothing passes after 0.12 s, and nobody is told until a reset at 0.18 s; no rung is between them."""

    def judge(wait_s: float) -> Trial:
        return swallowed_at(0.12)(wait_s) if wait_s < 0.18 else cut_at(0.18, "rst")(wait_s)

    limit, _ = found(judge)
    assert limit.ending == BLACK_HOLE
    assert limit.value_s == pytest.approx(0.12, rel=0.05)


def test_a_late_cut_is_not_the_limit() -> None:
    assert agreed_s(60.2, 60.0, 71.0, 60.1) == [60.0, 60.1, 60.2]
    assert agreed_s(0.95, 1.0, 1.02, 1.03) == [1.0, 1.02, 1.03]


def agreed_s(*cuts_s: float) -> list[float | None]:
    return [cut.took_s for cut in agreed(Trial(90, False, took_s, "fin") for took_s in cuts_s)]


def test_cuts_that_are_known_only_roughly_agree_where_their_intervals_meet() -> None:
    """A busy machine leaves wide gaps between reads, in which a black hole has begun."""
    roughly = [Trial(9, False, took_s, BLACK_HOLE, within_s=0.15) for took_s in (1.05, 1.2, 1.28)]
    limit = limit_of_cuts(roughly)
    assert limit is not None
    assert limit.seen == 3
    assert limit.sure_s == pytest.approx(1.165)
    apart = limit_of_cuts([Trial(9, False, took_s, BLACK_HOLE, within_s=0.05) for took_s in (1.0, 1.5, 2.0)])
    assert apart is not None
    assert apart.sure_s is None


def test_contradictions_are_settled_by_the_most() -> None:
    lost_once = [Trial(1, True), Trial(2, False), Trial(3, True), Trial(4, True), Trial(5, False), Trial(6, False)]
    assert wait_limits(lost_once) == (4, 5)
    assert wait_limits([]) == (0.0, inf)
    assert wait_limits([Trial(1, False), Trial(2, False)]) == (0.0, 1)


def test_a_cut_by_chance_is_no_limit_where_longer_waits_survived() -> None:
    chance = iter([True])

    def judge(wait_s: float) -> Trial:
        return Trial(wait_s, False, 0.02, "rst") if next(chance, False) else Trial(wait_s, True)

    limit, _ = found(judge)
    assert not limit.is_found
    assert limit.low_s == UP_TO_S


def test_a_cut_by_chance_does_not_hide_the_limit() -> None:
    late = [Trial(90, False, took_s, "fin") for took_s in (60.0, 60.1, 60.2)]
    survived = [Trial(wait_s, True) for wait_s in (10, 20, 40)]
    by_chance = [Trial(40, False, 5.0, "rst"), Trial(8, False, ending=BLACK_HOLE)]
    limit = limit_of([*by_chance, *survived, *late])
    assert (limit.value_s, limit.ending, limit.sure_s) == (60.0, "fin", 60.0)


def test_what_is_just_below_the_longest_wait_is_not_contradicted_by_it() -> None:
    limit = limit_of([Trial(60, False, 59.5, "fin"), *[Trial(60, True)] * 5])
    assert limit.value_s == 59.5
    assert limit.sure_s is None  # seen once


def test_a_cut_may_look_a_little_early() -> None:
    limit = limit_of([Trial(90, False, took_s, "fin") for took_s in (59.95, 60.0, 60.1)])
    assert limit.low_s < 59.9
    assert limit.low_s < limit.value_s <= limit.high_s == 60.1
    alike = limit_of([Trial(9, False, took_s, "fin") for took_s in (2.9983, 2.9990, 2.9992)])
    assert alike.low_s < 3 < alike.high_s
    assert limit_of([Trial(1, False, 0.002, "fin")] * SEEN).low_s == 0


def test_where_cuts_are_known_only_roughly_all_of_them_hold() -> None:
    """Black holes in streams that talk: from the last token to the next."""
    known = ((60.0, 1.0), (60.5, 1.0), (60.2, 0.5))
    roughly = [Trial(90, False, at_s, BLACK_HOLE, within_s=within_s) for at_s, within_s in known]
    limit = limit_of_cuts(roughly)
    assert limit is not None
    assert limit.low_s == pytest.approx(59.7, abs=0.2)
    assert limit.low_s < 59.7 < limit.value_s < limit.high_s == 60.7


def test_a_black_hole_is_sure_when_it_was_seen_twice() -> None:
    """A lost connection by chance looks the same; little time is left for a third try after a division."""
    once = [Trial(10, True), Trial(12, False, ending=BLACK_HOLE)]
    assert limit_of(once).sure_s is None
    assert limit_of([*once, Trial(12.1, False, ending=BLACK_HOLE)]).sure_s == 11

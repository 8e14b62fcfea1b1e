"""What an answer says of a wait, and which answers say nothing."""

from __future__ import annotations

import pytest

from bench.probe.channel import Heard
from bench.probe.finding import BLACK_HOLE, NO_CUT
from bench.probe.trial import Trial, trial_of

RTT_S = 0.2
WAIT_S = 10.0


def judged(status: int, ending: str, lasted_s: float, took_s: float = WAIT_S) -> Trial:
    heard = Heard(status=status, ending=ending, asked_ns=1_000, ended_ns=1_000 + round(lasted_s * 1e9))
    return trial_of(heard, WAIT_S, took_s, RTT_S)


@pytest.mark.parametrize("status", [401, 403, 404, 429])
@pytest.mark.parametrize("lasted_s", [0.1, 5.0])
def test_a_refusal_is_no_cut(status: int, lasted_s: float) -> None:
    assert judged(status, f"status {status}", lasted_s).void


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 524])
def test_a_server_error_is_a_cut_only_after_a_wait(status: int) -> None:
    assert judged(status, f"status {status}", RTT_S + 0.04).void
    assert judged(status, f"status {status}", 5.0).is_cut


@pytest.mark.parametrize(
    ("status", "ending"),
    [(0, "fin"), (200, "fin"), (0, "rst"), (101, "close 1001"), (101, "close 1008"), (101, "close 1013"), (200, "end")],
)
def test_a_connection_that_ends_is_cut_only_after_a_wait(status: int, ending: str) -> None:
    assert judged(status, ending, 5.0).is_cut
    assert not judged(status, ending, 5.0).is_hole
    refused = judged(status, ending, RTT_S + 0.04)
    assert refused.void == f"{ending} came at once"


def test_only_a_wait_that_took_place_was_survived() -> None:
    assert judged(200, NO_CUT, WAIT_S).is_survivor
    assert judged(101, NO_CUT, WAIT_S).is_survivor
    assert judged(200, NO_CUT, 0.8 * WAIT_S).void


@pytest.mark.parametrize(("status", "ending"), [(204, NO_CUT), (302, NO_CUT), (302, "end"), (203, NO_CUT)])
def test_another_answer_than_the_servers_says_nothing(status: int, ending: str) -> None:
    assert judged(status, ending, WAIT_S).void


def test_silence_to_the_end_is_a_black_hole() -> None:
    assert judged(200, BLACK_HOLE, WAIT_S + 2).is_hole


@pytest.mark.parametrize(("status", "ending"), [(200, "fin"), (101, "close 1001"), (502, "status 502")])
def test_a_cut_when_the_next_byte_was_due_has_no_moment_of_its_own(status: int, ending: str) -> None:
    seen = judged(status, ending, WAIT_S + 0.01, took_s=WAIT_S - 0.1)
    assert (seen.is_hole, seen.ending) == (True, ending)


def test_no_cut_comes_before_its_question() -> None:
    took_s = judged(504, "status 504", 0.3, took_s=-0.01).took_s
    assert took_s is not None
    assert took_s > 0

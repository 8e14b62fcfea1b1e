"""When a client tries again, and how long it waits."""

from __future__ import annotations

import pytest

from clients.core.errors import (
    AnswerTruncated,
    ClientFailure,
    ConnectionBroken,
    MessageTimeout,
    NoConnection,
    NotTheFormat,
    OwnFault,
    RequestRefused,
    SilenceTimeout,
    broken,
)
from clients.core.recovery import EVENT_SOURCE_WAIT_S, EventSourcePolicy, Policy

RESUME = Policy("resume", base_s=0.1, cap_s=1.0, attempts=6)
CUT = AnswerTruncated("", "fin")


@pytest.mark.parametrize(
    ("failure", "tries_again"),
    [
        (CUT, True),
        (ConnectionBroken("", "rst"), True),
        (SilenceTimeout(1), True),
        (NoConnection("nobody"), True),
        (RequestRefused("", "status 503", 503), True),
        (RequestRefused("", "status 504", 504), True),
        (RequestRefused("", "status 404", 404), False),
        (RequestRefused("", "error bad_request"), False),
        (NotTheFormat("?"), False),
        (MessageTimeout(1), False),
        (OwnFault(KeyError("x")), False),
    ],
)
def test_which_failures_a_client_recovers_from(failure: ClientFailure, tries_again: bool) -> None:
    assert (RESUME.delay_s(failure, 0, 0.5) is not None) == tries_again
    assert Policy("none").delay_s(failure, 0, 0.5) is None


@pytest.mark.parametrize(
    ("without_progress", "chance", "delay_s"),
    [(0, 0.0, 0.0), (0, 1.0, 0.1), (1, 1.0, 0.2), (2, 0.5, 0.2), (3, 1.0, 0.8), (4, 1.0, 1.0), (6, 0.1, None)],
)
def test_the_backoff_doubles_up_to_a_cap_and_ends(without_progress: int, chance: float, delay_s: float | None) -> None:
    assert RESUME.delay_s(CUT, without_progress, chance) == delay_s


def test_a_constant_backoff_is_the_same_for_all_and_every_time() -> None:
    constant = Policy("resume", base_s=0.5, cap_s=1.0, attempts=6, backoff="constant")
    waits = {constant.delay_s(CUT, without_progress, chance) for without_progress in range(6) for chance in (0, 0.5, 1)}
    assert waits == {0.5}
    assert constant.delay_s(CUT, 6, 0.5) is None
    assert constant.delay_s(CUT, 0, 0.5, asked_s=3.0) == 3.0


@pytest.mark.parametrize(
    ("failure", "comes_back"),
    [
        (CUT, True),
        (ConnectionBroken("", "rst"), True),
        (NoConnection("nobody"), True),
        (SilenceTimeout(1), True),
        (RequestRefused("", "status 503", 503, retry_after_s=1), False),
        (RequestRefused("", "status 404", 404), False),
        (NotTheFormat("text/html"), False),
        (MessageTimeout(1), False),
    ],
)
def test_an_event_source_comes_back_from_the_network_alone(failure: ClientFailure, comes_back: bool) -> None:
    """WHATWG HTML §9.2.3: any status but 200 fails the connection for good; chance and counting mean nothing."""
    policy = EventSourcePolicy("resume", attempts=3)
    for without_progress, chance in ((0, 0.0), (2, 0.5), (99, 1.0)):
        waits_s = EVENT_SOURCE_WAIT_S if comes_back else None
        assert policy.delay_s(failure, without_progress, chance) == waits_s
        assert policy.delay_s(failure, without_progress, chance, 0.7) == (0.7 if comes_back else None)
    assert EventSourcePolicy("none").delay_s(failure, 0, 0.5) is None


def test_the_servers_wish_is_the_least_that_a_client_waits() -> None:
    assert RESUME.delay_s(CUT, 0, 0.5, asked_s=3.0) == 3.0
    assert RESUME.delay_s(RequestRefused("", "status 503", 503, retry_after_s=7), 0, 0.5, asked_s=3.0) == 7
    assert RESUME.delay_s(CUT, 3, 1.0, asked_s=0.01) == 0.8
    assert Policy("resume", base_s=1e300, cap_s=2).delay_s(CUT, 7, 1.0) == 2


def test_what_the_operating_system_says_of_a_connection() -> None:
    assert broken(ConnectionResetError(104, "x")).how == "rst"
    assert broken(BrokenPipeError(32, "x")).how == "rst"
    assert broken(OSError(110, "x")).how == "etimedout"
    assert broken(ConnectionResetError()).how == "rst"


def test_failures_print_as_one_short_line() -> None:
    assert str(RequestRefused("a\nb  c", "status 500", 500)) == "status 500: a b c"
    assert str(AnswerTruncated("", "fin")) == "fin"
    assert len(str(NotTheFormat("x" * 1000))) == 300

"""What failed attempts are counted as, step by step."""

from __future__ import annotations

from contextlib import suppress

import pytest
from support.feeding import schedule_of

from clients.core.errors import (
    AnswerTruncated,
    ClientFailure,
    ConnectionBroken,
    MessageTimeout,
    NoConnection,
    RequestRefused,
    SilenceTimeout,
    refused,
)
from clients.core.exchange import Exchange, Question, leaves_at_work
from clients.core.recovery import Mode, Policy
from servers.messages import TokenMessage

ANSWER = schedule_of(*"abcdefghij")


def exchange(mode: Mode = "none") -> Exchange:
    return Exchange.begin(Question("s", 1, "fast", ANSWER, 0), Policy(mode, base_s=0.001, attempts=3), 0)


def attempt(of: Exchange, failure: ClientFailure, tokens: int = 0, *, asks: bool = True, at_ns: int = 1000) -> None:
    """One attempt that brings so many further tokens and then fails."""
    of.begin_attempt(at_ns)
    if asks:
        of.note_request(at_ns)
        of.note_asked(at_ns)
    held = len(of.ledger.tokens)
    if tokens:
        of.ledger.add([TokenMessage(i, ANSWER.texts[i], 0, 0) for i in range(held, held + tokens)], at_ns + 1)
    with suppress(ClientFailure):
        of.end_attempt(failure, at_ns + 5_000_000)
        of.try_again()


def test_a_connection_that_was_cut_while_nobody_asked_wastes_nothing() -> None:
    of = exchange()
    attempt(of, AnswerTruncated("", "fin"), asks=False)
    record = of.settle(AnswerTruncated("", "fin"))
    assert (record.drops, record.noticed_by, record.detection_ms, record.tokens_wasted) == (1, ["fin"], None, 0)


def test_what_the_model_went_on_with_is_wasted_though_the_server_is_gone_in_the_end() -> None:
    of = exchange("resume")
    attempt(of, ConnectionBroken("", "rst"), 5)
    for _ in range(3):
        attempt(of, NoConnection("gone"))
    record = of.settle(NoConnection("gone"))
    assert (record.tokens_lost, record.tokens_wasted, record.noticed_by) == (5, 5, ["rst"])
    assert record.detection_ms == pytest.approx(5, rel=0.001)


def test_a_token_that_came_before_is_no_progress() -> None:
    of, begun = exchange("resume"), list[int]()
    with suppress(ClientFailure):
        for number in range(9):
            begun.append(number)
            of.begin_attempt(1000)
            of.ledger.add([TokenMessage(0, "a", 0, 0)], 1001)
            of.end_attempt(ConnectionBroken("", "rst"), 2000)
            of.try_again()
    assert begun == [0, 1, 2, 3]  # the first brought it, the policy allows three that bring nothing


def test_a_server_that_is_gone_in_mid_answer_is_one_drop() -> None:
    """Polling: no connection breaks, there is only none for the next poll."""
    of = exchange("resume")
    attempt(of, NoConnection("gone"), 5)
    attempt(of, NoConnection("still"))
    assert (of.record.drops, of.record.noticed_by) == (1, ["refused"])
    of = exchange("resume")
    attempt(of, NoConnection("not there yet"))
    assert of.record.drops == 0
    of = exchange("resume")
    attempt(of, ConnectionBroken("", "rst"), 3)
    attempt(of, NoConnection("gone"), 2)
    attempt(of, NoConnection("still"))
    assert of.record.noticed_by == ["rst", "refused"]


OWN = "code: an error as docs/wire-format.md has it"
SOON, LATE = 5, 750  # ms after the question


@pytest.mark.parametrize(
    ("status", "detail", "after_ms", "wasted"),
    [
        (504, "", SOON, 10),  # a gateway's timeout says what it is, however short it was set
        (524, "error code: 524", LATE, 10),
        (408, "stream timeout", LATE, 10),  # Envoy
        (503, "<!DOCTYPE html>", LATE, 10),  # Heroku, Front Door
        (502, "Bad Gateway", LATE, 10),  # Traefik
        (500, "", LATE, 10),
        (503, "no healthy upstream", SOON, 0),  # at once: there was nobody to ask
        (502, "<html>", SOON, 0),
        (503, OWN, LATE, 0),  # the server's own word, however long the way
        (408, OWN, LATE, 0),
        (429, "slow down", LATE, 0),
        (403, "<html>", LATE, 0),
        (401, OWN, SOON, 0),
    ],
)
def test_a_limit_that_struck_leaves_a_model_at_work_and_a_refusal_does_not(
    status: int, detail: str, after_ms: int, wasted: int
) -> None:
    of, failure = exchange(), RequestRefused(detail, f"status {status}", status, by_server=detail == OWN)
    of.begin_attempt(1000)
    of.note_asked(1000)
    with suppress(ClientFailure):
        of.end_attempt(failure, 1000 + after_ms * 1_000_000)
    assert of.settle(failure).tokens_wasted == wasted


@pytest.mark.parametrize(
    ("failure", "asked_ms", "answered_ms", "wasted"),
    [
        (RequestRefused("no", "status 503", 503), 700, None, 0),  # 50 ms later, though it took long to get there
        (RequestRefused("no", "status 503", 503), 0, 50, 0),  # at once, though its body took long
        (RequestRefused("no", "status 503", 503), 0, 500, 10),
        (SilenceTimeout(0.7), None, None, 0),  # no connection was ever opened
        (SilenceTimeout(0.7), 0, None, 10),
        (MessageTimeout(0.7), None, None, 0),
        (ConnectionBroken("", "rst"), None, None, 0),
    ],
)
def test_only_who_was_asked_is_at_work_and_only_its_own_time_counts(
    failure: ClientFailure, asked_ms: int | None, answered_ms: int | None, wasted: int
) -> None:
    of = exchange()
    of.begin_attempt(0)
    of.note_request(0)
    if asked_ms is not None:
        of.note_asked(asked_ms * 1_000_000)
    if answered_ms is not None:
        of.note_answered(answered_ms * 1_000_000)
    with suppress(ClientFailure):
        of.end_attempt(failure, 750_000_000)
    assert of.settle(failure).tokens_wasted == wasted


def test_an_error_message_over_a_websocket_is_the_server_s_own() -> None:
    assert not leaves_at_work(refused("busy", "too many streams"), LATE * 1_000_000)


def test_a_limit_that_struck_each_attempt_wasted_an_answer_each_time() -> None:
    of, failure = exchange("restart"), RequestRefused("upstream request timeout", "status 503", 503)
    for at_ns in (1000, 2_000_000_000):
        of.begin_attempt(at_ns)
        of.note_asked(at_ns)
        of.end_attempt(failure, at_ns + LATE * 1_000_000)
        of.try_again()
    assert of.record.tokens_wasted == 20


def test_starting_again_wastes_the_first_answer_once() -> None:
    of = exchange("restart")
    attempt(of, ConnectionBroken("", "rst"), 4)
    attempt(of, NoConnection("gone"))
    assert (of.record.tokens_wasted, of.restarts) == (10, 2)

"""The judgement of a message, case by case."""

from __future__ import annotations

from array import array

import pytest
from support.feeding import encoded_end, schedule_of

from clients.core.errors import AnswerTruncated, MessageTimeout
from clients.core.ledger import Ledger
from clients.core.record import Outcome, StreamRecord
from servers.messages import EndMessage, TokenMessage
from servers.stream import Schedule

ANSWER = schedule_of("a", "b", "c", "d")
END = EndMessage(True, 4, ANSWER.sha256)


def token(i: int, text: str | None = None) -> TokenMessage:
    return TokenMessage(i, "abcd"[i] if text is None else text, 10 * i, 10 * i + 1)


def settled(ledger: Ledger, failure: AnswerTruncated | MessageTimeout | None = None) -> StreamRecord:
    record = StreamRecord("s", 0, ANSWER.n)
    ledger.settle(record, ANSWER, failure)
    assert record.tokens_received + record.tokens_lost == record.tokens_expected
    assert len(record.i) == len(record.received_ns) == len(record.read) == record.tokens_received
    return record


def judged(indices: list[int], end: EndMessage | None = END) -> StreamRecord:
    """The verdict on tokens that came in this order, each in a read of its own."""
    ledger = Ledger()
    for at, i in enumerate(indices, 1):
        ledger.add([token(i, None if i < 4 else "x")], at * 100)
    if end is not None:
        ledger.add([end], 1000)
    return settled(ledger)


@pytest.mark.parametrize(
    ("indices", "outcome", "counts"),
    [
        ([0, 1, 2, 3], Outcome.OK, (4, 0, 0, 0)),
        ([], Outcome.LOST, (0, 4, 0, 0)),
        ([0, 1, 2], Outcome.LOST, (3, 1, 0, 0)),
        ([1, 2, 3], Outcome.LOST, (3, 1, 0, 0)),
        ([0, 3], Outcome.LOST, (2, 2, 0, 0)),
        ([0, 1, 1, 2, 3], Outcome.DUPLICATED, (4, 0, 1, 0)),
        ([0, 1, 2, 3, 0, 1, 2, 3], Outcome.DUPLICATED, (4, 0, 4, 0)),
        ([1, 0, 2, 3], Outcome.REORDERED, (4, 0, 0, 1)),
        ([3, 2, 1, 0], Outcome.REORDERED, (4, 0, 0, 3)),
        ([3, 3, 1, 0], Outcome.LOST, (3, 1, 1, 2)),
        ([0, 1, 2, 3, 4], Outcome.ALTERED, (4, 0, 0, 0)),
        ([0, 1, 2, 9], Outcome.ALTERED, (3, 1, 0, 0)),
    ],
)
def test_every_index_once_in_order(indices: list[int], outcome: Outcome, counts: tuple[int, int, int, int]) -> None:
    record = judged(indices)
    assert record.outcome is outcome
    assert (
        record.tokens_received,
        record.tokens_lost,
        record.tokens_duplicated,
        record.tokens_reordered,
    ) == counts
    assert record.text_ok == (outcome in (Outcome.OK, Outcome.DUPLICATED, Outcome.REORDERED))


def test_the_first_arrival_of_an_index_counts() -> None:
    record = judged([0, 2, 1, 2, 3, 0])
    assert (list(record.i), list(record.received_ns), list(record.read)) == (
        [0, 2, 1, 3],
        [100, 200, 300, 500],
        [1, 2, 3, 5],
    )
    assert (record.first_token_ns, record.end_ns) == (100, 1000)


@pytest.mark.parametrize("indices", [[0, 1, 2, 3], [0, 1, 2]])
def test_other_text_is_found_with_and_without_losses(indices: list[int]) -> None:
    ledger = Ledger()
    ledger.add([*(token(i, "X" if i == 1 else None) for i in indices), END], 5)
    record = settled(ledger)
    assert (record.outcome, record.text_ok, record.tokens_received) == (Outcome.ALTERED, False, len(indices))


@pytest.mark.parametrize("end", [EndMessage(True, 3, END.sha256), EndMessage(True, 4, "0" * 64)])
def test_an_end_message_that_tells_something_else_is_an_alteration(end: EndMessage) -> None:
    assert judged([0, 1, 2, 3], end).outcome is Outcome.ALTERED


def test_without_an_end_message_every_answer_has_failed() -> None:
    assert judged([0, 1, 2, 3], None).outcome is Outcome.TRUNCATED
    ledger = Ledger()
    ledger.add([token(0)], 5)
    record = settled(ledger, MessageTimeout(2))
    assert (record.outcome, record.end_ns, record.first_token_ns) == (Outcome.TIMEOUT, 0, 5)
    assert record.detail == "timeout: not complete 2 s after its intended start"


def test_nothing_came() -> None:
    record = settled(Ledger(), AnswerTruncated("", "fin"))
    assert (record.outcome, record.detail, record.first_token_ns, record.tokens_lost) == (
        Outcome.TRUNCATED,
        "fin",
        0,
        4,
    )


def test_reads_are_numbered_whether_they_complete_a_token_or_not() -> None:
    ledger = Ledger()
    reads: tuple[tuple[list[TokenMessage | EndMessage], int], ...]
    reads = (([], 1), ([token(0), token(1)], 2), ([], 3), ([token(2)], 4), ([token(3), END], 5))
    for found, at in reads:
        ledger.add(found, at)
    record = settled(ledger)
    assert (list(record.read), list(record.received_ns), ledger.reads) == ([2, 2, 4, 5], [2, 2, 4, 5], 5)


def test_resuming_after_two_cuts() -> None:
    ledger = Ledger()
    ledger.add([token(0)], 1_000_000)
    ledger.note_drop(2_000_000)
    assert ledger.next_index() == 1
    ledger.note_drop(3_000_000)  # again, before anything new came: the same outage
    ledger.add([token(1)], 7_000_000)
    ledger.note_drop(8_000_000)
    assert ledger.next_index() == 2
    ledger.add([token(2), token(3), END], 10_000_000)
    record = settled(ledger)
    assert (record.outcome, record.recovery_ms) == (Outcome.OK, 5.0 + 2.0)


def test_a_cut_between_the_last_token_and_the_end_message() -> None:
    ledger = Ledger()
    ledger.add([token(i) for i in range(4)], 1_000_000)
    ledger.note_drop(2_000_000)
    ledger.add([END], 5_000_000)
    assert settled(ledger).recovery_ms == 3.0


def test_a_restart_judges_the_new_answer_and_counts_what_came_again() -> None:
    ledger = Ledger()
    ledger.add([token(0), token(1)], 1_000_000)
    ledger.note_drop(2_000_000)
    ledger.restart()
    assert ledger.next_index() == 0
    ledger.add([token(0)], 3_000_000)
    ledger.add([token(1), token(2), token(3), END], 4_000_000)
    record = settled(ledger)
    assert (record.outcome, record.tokens_duplicated, record.recovery_ms) == (Outcome.OK, 2, 2.0)
    assert list(record.received_ns) == [1_000_000, 1_000_000, 4_000_000, 4_000_000]


def test_catching_up_lasts_until_a_token_is_as_punctual_as_before() -> None:
    """The first token was 300 ms late, so up to 400 ms is as punctual."""
    answer = Schedule("abcd", array("q", [0, 1_000_000, 2_000_000_000, 2_010_000_000]))
    ledger = Ledger()
    ledger.add([token(0)], 300_000_000)
    ledger.note_drop(500_000_000)
    ledger.add([token(1)], 2_350_000_000)
    ledger.add([token(2)], 2_399_000_000)
    ledger.add([token(3), EndMessage(True, 4, answer.sha256)], 2_410_000_000)
    record = StreamRecord("s", 0, 4)
    ledger.settle(record, answer, None)
    assert (record.outcome, record.recovery_ms, record.catch_up_ms) == (Outcome.OK, 1850.0, 49.0)


def test_an_answer_that_began_late_has_nothing_to_catch_up() -> None:
    ledger = Ledger()
    ledger.note_drop(2_000_000)
    for i in range(4):
        ledger.add([token(i)], 900_000_000 + i * 1_000_000)
    ledger.add([END], 904_000_000)
    record = settled(ledger)
    assert (record.recovery_ms, record.catch_up_ms) == (898.0, 0.0)


def test_a_drop_without_recovery_has_no_recovery_time() -> None:
    ledger = Ledger()
    ledger.add([token(0)], 1)
    ledger.note_drop(2)
    assert settled(ledger).recovery_ms is None


def test_the_end_message_of_the_feeding_helper_is_the_schedules() -> None:
    assert ANSWER.sha256.encode() in encoded_end(ANSWER)

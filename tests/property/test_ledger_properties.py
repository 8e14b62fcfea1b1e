"""Whatever arrives: the counts add up, and only a perfect answer is one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.feeding import schedule_of

from clients.core.ledger import Ledger
from clients.core.record import Outcome, StreamRecord
from servers.messages import EndMessage, TokenMessage

ANSWER = schedule_of("a", "b", "c", "d", "e")
END = EndMessage(True, ANSWER.n, ANSWER.sha256)


@given(st.lists(st.lists(st.integers(0, 6), max_size=4), max_size=6), st.booleans())
def test_sent_is_seen_plus_lost(reads: list[list[int]], ended: bool) -> None:
    ledger, record = Ledger(), StreamRecord("s", 0, ANSWER.n)
    arrived = [i for read in reads for i in read]
    for at, read in enumerate(reads, 1):
        ledger.add([TokenMessage(i, "abcdexx"[i], 0, 0) for i in read], at)
    if ended:
        ledger.add([END], 99)
    ledger.settle(record, ANSWER, None)
    known = [i for i in arrived if i < ANSWER.n]
    assert record.tokens_received == len(set(known))
    assert record.tokens_received + record.tokens_lost == ANSWER.n
    assert record.tokens_received + record.tokens_duplicated == len(known)
    assert (record.outcome is Outcome.OK) == (ended and arrived == list(range(ANSWER.n)))
    assert sorted(record.i) == sorted(set(known))
    assert list(record.received_ns) == list(record.read) == sorted(record.read)
    assert (record.tokens_reordered == 0) == (list(record.i) == sorted(record.i))

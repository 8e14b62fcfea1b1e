"""Answers that nobody knows beforehand are judged by what their end message says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex

import msgspec
import pytest
from support.asking import question
from support.drivers import AsyncUser
from support.feeding import schedule_of
from support.processes import RunningServer
from support.sources import NAME, TOKENS

from clients.core.errors import AnswerTruncated
from clients.core.exchange import Exchange
from clients.core.ledger import Ledger
from clients.core.record import UNKNOWN_NS, Outcome, StreamRecord
from clients.core.recovery import Policy
from clients.job import Job
from clients.load import run_cell
from servers.messages import MAX_TOKENS, EndMessage, TokenMessage
from servers.transport import TRANSPORTS

Servers = Callable[[str], RunningServer]
MakeClient = Callable[..., AsyncUser]
ANSWER = ("Hel", "lo", " you")
SHA256 = hashlib.sha256(b"Hello you").hexdigest()
END = EndMessage(True, 3, SHA256)


def judged(indices: list[int], end: EndMessage | None, texts: tuple[str, ...] = ANSWER) -> StreamRecord:
    """The record of a message whose tokens came in this order."""
    asked = Exchange.begin(question(schedule_of("not", "known"), is_told=True), Policy("none"), 1)
    tokens = [TokenMessage(i, texts[i] if i < len(texts) else "?", 5 + i, 6 + i) for i in indices]
    asked.ledger.add([*tokens, *([end] if end else [])], 10)
    return asked.settle(None if end else AnswerTruncated("gone", "end"))


def test_what_the_end_message_says_is_what_should_have_come() -> None:
    record = judged([0, 1, 2], END)
    assert (record.outcome, record.text_ok, record.tokens_expected, record.tokens_lost) == (Outcome.OK, True, 3, 0)
    assert record.ttft_scheduled_ns == UNKNOWN_NS


@pytest.mark.parametrize(
    ("indices", "end", "outcome", "expected", "lost"),
    [
        ([0, 2], END, Outcome.LOST, 3, 1),
        ([0, 2, 1], END, Outcome.REORDERED, 3, 0),
        ([0, 1, 1, 2], END, Outcome.DUPLICATED, 3, 0),
        ([0, 1, 2], EndMessage(True, 3, "0" * 64), Outcome.ALTERED, 3, 0),
        ([0, 1, 2], EndMessage(True, 2, SHA256), Outcome.ALTERED, 2, 0),
        ([0, 1, 2], EndMessage(True, 2**62, SHA256), Outcome.ALTERED, 3, 0),
        ([0, 1, 2**62], END, Outcome.ALTERED, 3, 1),
        ([0, 1], None, Outcome.TRUNCATED, 2, 0),
        ([], None, Outcome.TRUNCATED, 0, 0),
    ],
)
def test_whatever_differs_from_it_is_found(
    indices: list[int], end: EndMessage | None, outcome: Outcome, expected: int, lost: int
) -> None:
    record = judged(indices, end)
    assert (record.outcome, record.tokens_expected, record.tokens_lost) == (outcome, expected, lost)


def test_tokens_without_end_are_ended() -> None:
    ledger = Ledger()
    ledger.add([TokenMessage(i, "x", 1, 1) for i in range(MAX_TOKENS)], 10)
    assert ledger.told().n == MAX_TOKENS


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_real_source_is_judged_so(client: MakeClient, sourced: Servers, transport: str) -> None:
    user = client(transport, sourced(transport).url, interval_s=0.02)
    names = [token_hex(8) for _ in range(3)]
    planned = schedule_of("not", "known")
    whole = await user.ask(question(planned, stream_id=names[0], text="good", is_told=True))
    assert (whole.outcome, whole.detail, whole.tokens_received) == (Outcome.OK, "", len(TOKENS))
    assert all(whole.due_ns[k] <= whole.sent_ns[k] <= whole.received_ns[k] for k in range(len(TOKENS)))
    mistaken = await user.ask(question(planned, stream_id=names[1], text="good"))
    assert mistaken.outcome is Outcome.ALTERED
    failed = await user.ask(question(planned, stream_id=names[2], text="breaks", is_told=True))
    assert failed.outcome is Outcome.HTTP_ERROR
    assert failed.tokens_received == (0 if transport == "blocking" else 2)
    assert "source" in failed.detail


async def test_a_load_asks_the_server_what_answers(sourced: Servers, tmp_path: Path) -> None:
    document = {
        "transport": "chunked",
        "url": sourced("chunked").url,
        "out": str(tmp_path / "x"),
        "block": 1,
        "cell": "chunked",
        "seed": 1,
        "load": {"streams": 4, "rate_per_s": 50.0, "warmup_streams": 1},
        "stream": {"profile": "fast"},
    }
    records, result = await run_cell(msgspec.convert(document, Job), lambda done, of: None)
    assert [note for note in result.notes if NAME in note]
    assert [(r.outcome, r.tokens_expected, r.ttft_scheduled_ns) for r in records] == [
        (Outcome.OK, len(TOKENS), UNKNOWN_NS)
    ] * 4

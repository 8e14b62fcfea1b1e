"""Reads that are kept and worked on together leave the record that each alone would: every field of it, stamps too."""

from __future__ import annotations

import base64
import hashlib
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from support.answers import SWITCHING, Case, Ending, every_case
from support.asking import question
from support.feeding import encoded, encoded_end, schedule_of
from support.scripted import chunk, close_frame, frame

from clients.core import kept_reads
from clients.core.exchange import Question
from clients.core.message_script import ask
from clients.core.record import Outcome, StreamRecord
from clients.core.recovery import Policy
from clients.core.session import KEPT_NS, NEVER_NS, Session
from clients.core.settings import ClientSettings
from servers import messages
from servers.chunked import wire as chunked
from servers.sse import wire as sse

MS = 1_000_000
START_NS = 1_000 * MS
SILENCE_S = 3.0
URL = "http://127.0.0.1:9"
KINDS = ("sse", "chunked", "websocket")
ANSWER = schedule_of(*(f" word{k}" for k in range(40)), '"sent": 1', " x" * 100, " é")
_KEY = re.compile(rb"(?i)sec-websocket-key: (\S+)")
_CHUNK = re.compile(rb"(?<=\n\r\n)(?=[0-9a-f]+\r\n)")  # between two that end with a line


LOOK_ALIKE = {
    "an index below 0",
    "no due",
    "two objects",
    "two objects, with a comma",
    "an open list",
    "no JSON",
    "an end that looks like a token",
    "an error that looks like a token",
    "no UTF-8",
    "a NUL",
}


@dataclass(frozen=True)
class LongCase(Case):
    """A question whose answer has many tokens."""

    def question(self) -> Question:
        return question(ANSWER, timeout_s=60)


class Hand:
    """A driver whose reads and whose clock are the test's: a read a millisecond."""

    def __init__(self, case: Case, answers: Sequence[Sequence[bytes]], settings: ClientSettings) -> None:
        self.case = case
        self.session = Session(settings)
        self.now_ns = START_NS
        self._answers = [list(reads) for reads in answers]
        self._reads: list[bytes] = []
        self._wants_connection = self._is_open = False
        self.session.begin(ask(self.session, case.transport, self._question()), START_NS)
        self.session.carry_out(self)

    def _question(self) -> Question:
        return replace(self.case.question(), intended_start_ns=START_NS)

    def connect(self) -> None:
        self._wants_connection = True

    def write(self, data: bytes) -> None:
        if data.startswith((b"POST", b"GET")) or self.case.transport == "websocket":
            reads = self._answers.pop(0) if self._answers else []
            if key := _KEY.search(data):
                accept = base64.b64encode(hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
                reads = [read.replace(b"%ACCEPT%", accept) for read in reads]
            self._reads += reads

    def disconnect(self) -> None:
        self._wants_connection = self._is_open = False
        self._reads.clear()

    def stop_reading(self) -> None:
        raise AssertionError

    read_on = stop_reading

    def step(self) -> None:
        """What happens next: the connection opens, a read comes, the connection ends, or the time runs on."""
        self.now_ns += MS
        session = self.session
        if self._wants_connection:
            self._wants_connection, self._is_open = False, True
            session.connected(self.now_ns, 0, MS)
        elif self._reads:
            session.received(self._reads.pop(0), self.now_ns)
        elif self._is_open and not self._answers and self.case.ending != "hold":
            self._is_open = False
            session.ended(None if self.case.ending == "fin" else ConnectionResetError(104, "reset"), self.now_ns)
        else:
            self.now_ns = max(self.now_ns, session.wake_ns)
            assert self.now_ns < NEVER_NS
            session.woken(self.now_ns)
        session.carry_out(self)

    def record(self) -> StreamRecord:
        """Of the message, when it is over."""
        while self.session.is_busy:
            self.step()
        assert self.session.error is None
        assert isinstance(self.session.result, StreamRecord)
        return self.session.result


RESUME = Policy("resume", 0.01, 0.1, 3)


def seen(case: Case, answers: Sequence[Sequence[bytes]], recovery: Policy = RESUME) -> StreamRecord:
    """The record of these reads; of three tries, where what follows a failure, and when, is to be part of it."""
    random.seed(1)
    return Hand(case, answers, ClientSettings(URL, recovery=recovery, silence_s=SILENCE_S)).record()


@pytest.fixture
def not_kept(monkeypatch: pytest.MonkeyPatch) -> Callable[..., StreamRecord]:
    """As `seen`, but no read is kept."""

    def make(*given: Any) -> StreamRecord:
        with monkeypatch.context() as patched:
            patched.setattr(kept_reads.KeptReads, "keep", lambda *_: False)
            return seen(*given)

    return make


def cut(reads: Sequence[bytes]) -> Iterator[list[bytes]]:
    """The reads as they are, and each of them cut at many places."""
    yield list(reads)
    for k, read in enumerate(reads):
        yield from ([*reads[:k], read[:at], read[at:], *reads[k + 1 :]] for at in range(1, len(read), 7))


@pytest.mark.parametrize("case", [case for case in every_case() if case.transport in KINDS], ids=str)
def test_a_scripted_answer_chunk_by_chunk_and_split(case: Case, not_kept: Callable[..., StreamRecord]) -> None:
    whole = [_CHUNK.split(answer) for answer in case.answers]
    for k, reads in enumerate(whole):
        for parts in cut(reads):
            answers = [*whole[:k], parts, *whole[k + 1 :]]
            assert seen(case, answers) == not_kept(case, answers), parts


def framed(kind: str, message: bytes, i: int | None = None) -> bytes:
    """A message as a transport sends it: a token `i`, or the end."""
    if kind == "websocket":
        return frame(message)
    if kind == "chunked":
        return chunk(chunked.encode_token(message))
    return chunk(sse.encode_end(message) if i is None else sse.encode_token(b"s", i, message))


def parts_of(kind: str) -> tuple[list[list[bytes]], list[bytes]]:
    """What comes before a whole answer, and the answer: a read for the head, where it has one, and for each message."""
    reads = [framed(kind, token, i) for i, token in enumerate(encoded(ANSWER))]
    reads.append(framed(kind, encoded_end(ANSWER)))
    if kind == "websocket":
        return [[SWITCHING]], reads
    content_type = {"sse": sse.CONTENT_TYPE, "chunked": chunked.CONTENT_TYPE}[kind].encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % content_type
    return [], [head, *reads, b"0\r\n\r\n"]


def oddities(kind: str) -> dict[str, bytes]:
    """What may come in the place of a token's read, much of which looks like one at first."""
    token = encoded(ANSWER)[5]
    good = framed(kind, token, 5)
    error = messages.encode_error("busy", 'later, "sent": 1')
    common = {
        "nothing special": good,
        "two in a read": good + good,
        "half of one": good[:-9],
        "the end": framed(kind, encoded_end(ANSWER)),
        "a token and the end": good + framed(kind, encoded_end(ANSWER)),
        "an index below 0": framed(kind, token.replace(b'"i": 5', b'"i": -5'), 5),
        "no due": framed(kind, token.replace(b'"due"', b'"did"'), 5),
        "two objects": framed(kind, token + token, 5),
        "two objects, with a comma": framed(kind, token + b"," + token, 5),
        "an open list": framed(kind, token[:-1] + b', "x": [{}', 5),
        "a blank in front": framed(kind, b" " + token, 5),
        "another text": framed(kind, token.replace(b"word", b"W"), 5),
        "no JSON": framed(kind, b'{"sent": ', 5),
        "an end that looks like a token": framed(kind, b'{"sent": 1, ' + encoded_end(ANSWER)[1:], 5),
        "an error": framed(kind, error, 5),
        "an error that looks like a token": framed(kind, b'{"sent": 1, ' + error[1:], 5),
        "no UTF-8": framed(kind, token.replace(b"word", b"\xff"), 5),
        "a NUL": framed(kind, token.replace(b"word", b"\0"), 5),
        "a CR": framed(kind, token + b"\r", 5),
        "longer than what is kept": framed(kind, token.replace(b"word", b"word" * 500), 5),
    }
    if kind == "websocket":
        return common | {
            "a ping": frame(b"x", opcode=9),
            "a ping behind a token": good + frame(b"x", opcode=9),
            "a Close": close_frame(1001),
            "a binary frame": frame(token, opcode=2),
            "a reserved bit": bytes([good[0] | 0x40]) + good[1:],
            "a fragment": frame(token, fin=False),
            "a length that is too large": good[:1] + bytes([good[1] + 3]) + good[2:],
            "a long length": good[:1] + b"\x7e\0" + good[1:],
        }
    line = b"id: s/5\nevent: end\n" if kind == "sse" else b""
    return common | {
        "the last chunk": b"0\r\n\r\n",
        "a wrong size": b"1" + good,
        "a size in capitals": chunk(b"x" * 0xAB + good).upper()[:4] + good,
        "a size with a 0": b"0" + good,
        "an extension": good.replace(b"\r\n", b";a=b\r\n", 1),
        "a size alone": good[:2],
        "a chunk in a chunk": chunk(good),
        "a heartbeat": chunk(b": hm\n" if kind == "sse" else b"\n"),
        "another kind of event": chunk(line + b"data: " + token + b"\n\n"),
        "an id with a NUL": good.replace(b"id: s", b"id: \0"),
        "no id": good.replace(b"id: ", b"xy: "),
        "a word in front": good.replace(b"id: ", b"aid: "),
        "a line that has moved": good.replace(b"\ndata", b" data") + b"\n",
    }


@pytest.mark.parametrize("ending", ["fin", "rst", "hold"])
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_comes_among_tokens(kind: str, ending: Ending, not_kept: Callable[..., StreamRecord]) -> None:
    """All but what looks like a token is known at once, so that a second try is made at the same moment, too."""
    handshake, body = parts_of(kind)
    case = LongCase(kind, "", (), ending, Outcome.OK)
    for name, odd in oddities(kind).items():
        policy = Policy() if name in LOOK_ALIKE else RESUME
        for position in (1, 17, 18, 30):
            answers = [*handshake, [*body[:position], odd, *([] if ending == "rst" else body[position:])]]
            assert seen(case, answers, policy) == not_kept(case, answers, policy), (name, position)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_kept_and_no_more_of_them_than_said(kind: str) -> None:
    """Without this the others would say nothing."""
    handshake, body = parts_of(kind)
    hand = Hand(LongCase(kind, "", (), "hold", Outcome.OK), [*handshake, body[:-3]], ClientSettings(URL))
    waiting = []
    while hand._wants_connection or hand._reads:
        hand.step()
        waiting.append((hand.session.heard_ns - hand.session.token_ns()) // MS)
    assert max(waiting[4:]) == kept_reads.MOST_READS
    assert hand.session.wake_ns <= hand.now_ns + KEPT_NS
    hand.step()  # nobody says anything any more: what is kept is entered in time all the same
    assert hand.session.token_ns() == hand.session.heard_ns
    assert hand.session.heard_ns >= hand.now_ns - KEPT_NS


def test_a_fault_that_looked_like_a_token_is_found_in_silence_too() -> None:
    _, body = parts_of("sse")
    case = LongCase("sse", "", (), "hold", Outcome.OK)
    hand = Hand(case, [[*body[:4], oddities("sse")["no due"]]], ClientSettings(URL))
    record = hand.record()
    assert (record.outcome, record.tokens_received) == (Outcome.PROTOCOL_ERROR, 3)
    assert hand.now_ns <= START_NS + 7 * MS + KEPT_NS

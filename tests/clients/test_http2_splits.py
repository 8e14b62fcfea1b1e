"""HTTP/2 without sockets: the same bytes, however they are split, are the same records; and what floods lead to.

The core alone is moved here, by hand: drivers know nothing of HTTP/2 (tests/clients/test_http2.py has both of them).
"""

from __future__ import annotations

import gc
import gzip
import struct
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from h2.errors import ErrorCodes
from support.asking import question
from support.feeding import encoded, encoded_end, schedule_of
from support.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Speaker,
    frame,
    goaway,
)

from clients.core.carrier import Carrier, Pool
from clients.core.http2 import STREAM_WINDOW_BYTES
from clients.core.message_script import ask
from clients.core.record import Outcome, StreamRecord
from clients.core.recovery import Policy
from clients.core.session import MAX_UNSENT_BYTES, NEVER_NS, Session
from clients.core.settings import ClientSettings
from servers.chunked.wire import CONTENT_TYPE

SETTINGS_OF_ALL = ClientSettings("http://127.0.0.1:9", http=2)
ANSWER = schedule_of("Hi", " é")
TOKENS = [token + b"\n" for token in encoded(ANSWER)]
END = encoded_end(ANSWER) + b"\n"
RESET = ConnectionResetError(104, "reset")
HEAD = b"\x88\x5f\x14application/x-ndjson"  # status 200 and the media type, as HPACK may have them


class Hands:
    """A driver that does nothing by itself."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.sent = b""
        self.is_closed = False
        session.obey = self.obey

    def obey(self) -> None:
        self.session.carry_out(self)

    def connect(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.sent += data

    def disconnect(self) -> None:
        self.is_closed = True

    def stop_reading(self) -> None:
        raise AssertionError("nobody stops a connection that others share")

    read_on = stop_reading


class HandPool(Pool):
    """Connections that are open at once."""

    def __init__(self, settings: ClientSettings) -> None:
        super().__init__(settings)
        self.started: list[Hands] = []

    def start(self, carrier: Carrier) -> None:
        hands = Hands(carrier.session)
        self.started.append(hands)
        hands.session.begin(carrier.carry(), 0)
        hands.obey()


class Conversation:
    """Users of one connection who have asked, each for the same answer."""

    def __init__(
        self,
        users: int = 1,
        transport: str = "chunked",
        settings: ClientSettings = SETTINGS_OF_ALL,
        *,
        opens: bool = True,
    ) -> None:
        self.pool = HandPool(settings)
        self.users = [Session(settings) for _ in range(users)]
        for session in self.users:
            session.pool = self.pool
            hands = Hands(session)
            asked = replace(question(ANSWER, timeout_s=60.0), intended_start_ns=0)
            session.begin(ask(session, transport, asked), 0)
            hands.obey()
        self.hands = self.pool.started[0]
        self.now_ns = 1
        if opens:
            self.open(self.hands)

    def open(self, hands: Hands) -> None:
        hands.session.connected(self.now_ns, 0, 0)
        hands.obey()

    def wake(self, now_ns: int) -> None:
        """Whoever wants to be woken by then is."""
        self.now_ns = now_ns
        for session in self.users:
            if session.wake_ns <= now_ns:
                session.woken(now_ns)
                session.obey()

    def hear(self, data: bytes) -> None:
        self.now_ns += 1
        self.hands.session.received(data, self.now_ns)
        self.hands.obey()

    def end(self, error: BaseException | None) -> None:
        self.hands.session.ended(error, self.now_ns)
        self.hands.obey()

    def records(self) -> list[StreamRecord | None]:
        """Of those whose message is over."""
        return [session.result for session in self.users]


Say = Callable[[Speaker], bytes | None]
"""What the server says: by h2, and the bytes behind that."""


def whole(speaker: Speaker, stream_id: int = 1) -> None:
    speaker.head(stream_id, CONTENT_TYPE)
    for part in [*TOKENS, END]:
        speaker.h2.send_data(stream_id, part, end_stream=part is END)


def one_token(speaker: Speaker, stream_id: int = 1) -> None:
    speaker.head(stream_id, CONTENT_TYPE)
    speaker.h2.send_data(stream_id, TOKENS[0])


def with_everything_between(speaker: Speaker) -> None:
    speaker.h2.send_headers(1, [(":status", "103"), ("link", "</a>")])
    speaker.head(1, CONTENT_TYPE)
    speaker.h2.ping(b"12345678")
    speaker.h2.send_data(1, TOKENS[0], pad_length=7)
    speaker.h2.increment_flow_control_window(1000)
    speaker.h2.send_data(1, b"")
    speaker.h2.send_data(1, TOKENS[1][:5])
    speaker.h2.send_data(1, TOKENS[1][5:] + END)
    speaker.h2.send_headers(1, [("x-trailer", "y")], end_stream=True)


def packed(speaker: Speaker) -> None:
    speaker.head(1, CONTENT_TYPE, content_encoding="gzip")
    speaker.h2.send_data(1, gzip.compress(b"".join([*TOKENS, END]), mtime=0), end_stream=True)


def token_then_reset(code: ErrorCodes) -> Say:
    def say(speaker: Speaker) -> None:
        one_token(speaker)
        speaker.h2.reset_stream(1, code)

    return say


def behind_a_token(data: bytes) -> Say:
    def say(speaker: Speaker) -> bytes:
        one_token(speaker)
        return data

    return say


def leaving_but_complete(speaker: Speaker) -> bytes:
    """h2 would send nothing after its own GOAWAY; a server may (RFC 9113 §6.8)."""
    one_token(speaker)
    rest = frame(DATA, TOKENS[1] + END, flags=END_STREAM, stream_id=1)
    return goaway(2**31 - 1) + goaway(1) + rest


def shorter_than_it_says(speaker: Speaker) -> bytes:
    speaker.head(1, CONTENT_TYPE, content_length="1000")
    speaker.h2.send_data(1, TOKENS[0])
    return frame(DATA, flags=END_STREAM, stream_id=1)


CASES: dict[str, tuple[Say, str, tuple[Outcome, str, int]]] = {
    "whole, then FIN": (whole, "fin", (Outcome.OK, "", 2)),
    "everything between": (with_everything_between, "hold", (Outcome.OK, "", 2)),
    "gzip": (packed, "hold", (Outcome.OK, "", 2)),
    "leaving, but complete": (leaving_but_complete, "hold", (Outcome.OK, "", 2)),
    "a token, then FIN": (one_token, "fin", (Outcome.TRUNCATED, "fin", 1)),
    "a token, then RST": (one_token, "rst", (Outcome.DROPPED, "rst", 1)),
    "the stream reset": (
        token_then_reset(ErrorCodes.INTERNAL_ERROR),
        "hold",
        (Outcome.DROPPED, "rst_stream internal_error", 1),
    ),
    "leaving, and not processed": (
        behind_a_token(goaway(0, 2)),
        "hold",
        (Outcome.DROPPED, "goaway internal_error", 1),
    ),
    "leaving, then FIN": (behind_a_token(goaway(1)), "fin", (Outcome.DROPPED, "goaway no_error", 1)),
    "leaving with a code of its own, then RST": (
        behind_a_token(goaway(1, 0x777)),
        "rst",
        (Outcome.DROPPED, "goaway 0x777", 1),
    ),
    "a frame too long": (behind_a_token(frame(DATA, size=16_385)), "hold", (Outcome.PROTOCOL_ERROR, "format", 1)),
    "bad padding": (
        behind_a_token(frame(DATA, b"\x09xx", flags=PADDED, stream_id=1)),
        "hold",
        (Outcome.PROTOCOL_ERROR, "format", 1),
    ),
    "a half of GOAWAY": (
        behind_a_token(frame(7, b"\0\0\0\0")),
        "hold",
        (Outcome.PROTOCOL_ERROR, "format", 1),
    ),
    "shorter than it says, then the end": (
        shorter_than_it_says,
        "hold",
        (Outcome.PROTOCOL_ERROR, "format", 1),
    ),
    "no HTTP/2": (lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n", "hold", (Outcome.PROTOCOL_ERROR, "format", 0)),
}


def said_by(conversation: Conversation, say: Say) -> bytes:
    speaker = Speaker()
    speaker.hear(conversation.hands.sent)
    extra = say(speaker) or b""
    return extra if extra.startswith(b"HTTP/1.1") else speaker.h2.data_to_send() + extra


def seen(record: StreamRecord | None) -> tuple[object, ...]:
    assert record is not None, "the message is not over"
    how = record.detail.split(":")[0]
    tokens = (list(record.i), record.tokens_received, record.tokens_lost, record.text_ok)
    return (record.outcome, how, record.requests, record.connections, *tokens, record.noticed_by, record.tokens_wasted)


def converse(parts: Sequence[bytes], ending: str, users: int = 1) -> list[tuple[object, ...]]:
    conversation = Conversation(users)
    for part in parts:
        conversation.hear(part)
    if ending != "hold":
        conversation.end(RESET if ending == "rst" else None)
    return [seen(record) for record in conversation.records()]


@pytest.mark.parametrize("name", CASES)
def test_every_split_is_the_same_record(name: str) -> None:
    say, ending, expected = CASES[name]
    data = said_by(Conversation(), say)
    (record,) = converse([data], ending)
    assert (record[0], record[1], record[5]) == expected
    for at in range(1, len(data)):
        assert converse([data[:at], data[at:]], ending) == [record], f"split at {at}"
    assert converse([data[at : at + 1] for at in range(len(data))], ending) == [record]


def test_two_streams_in_one_read_and_one_is_reset() -> None:
    def say(speaker: Speaker) -> None:
        one_token(speaker, 1)
        one_token(speaker, 3)
        speaker.h2.reset_stream(3, ErrorCodes.REFUSED_STREAM)
        speaker.h2.send_data(1, TOKENS[1] + END, end_stream=True)

    data = said_by(Conversation(2), say)
    records = converse([data], "hold", 2)
    assert [record[:2] for record in records] == [(Outcome.OK, ""), (Outcome.DROPPED, "rst_stream refused_stream")]
    assert [record[3] for record in records] == [1, 0]  # who had it opened
    for at in range(1, len(data), 7):
        assert converse([data[:at], data[at:]], "hold", 2) == records


def test_one_connection_that_ends_is_a_drop_of_each_stream() -> None:
    conversation = Conversation(50)
    speaker = Speaker()
    speaker.hear(conversation.hands.sent)
    for asked in speaker.asked:
        one_token(speaker, asked.stream_id)
    conversation.hear(speaker.h2.data_to_send())
    conversation.end(RESET)
    records = [seen(record) for record in conversation.records()]
    assert len(records) == 50
    assert {record[:2] for record in records} == {(Outcome.DROPPED, "rst")}
    assert {tuple(record[8]) for record in records} == {("rst",)}  # type: ignore[arg-type]  # noticed_by


# Beside what is said over a connection.


def test_a_connection_that_cannot_be_opened_is_nobodys() -> None:
    conversation = Conversation(3, opens=False)
    conversation.hands.session.connect_failed(ConnectionRefusedError("refused"), 1)
    conversation.hands.obey()
    records = [seen(record) for record in conversation.records()]
    assert [record[:4] for record in records] == [(Outcome.REFUSED, "refused", 1, 0)] * 3
    assert not conversation.hands.session.is_busy


def test_who_waits_for_a_connection_has_its_own_patience_and_the_last_one_gives_it_up() -> None:
    conversation = Conversation(2, settings=replace(SETTINGS_OF_ALL, silence_s=1.0), opens=False)
    for session in conversation.users:
        assert not conversation.hands.is_closed
        session.woken(1_000_000_001)
        session.obey()
    assert {seen(record)[:2] for record in conversation.records()} == {(Outcome.TIMEOUT, "silence")}
    assert conversation.hands.is_closed


def test_nobody_asks_again_over_a_connection_that_was_silent() -> None:
    """A black hole: who has waited in vain looks for another place, though others still wait there."""
    settings = replace(SETTINGS_OF_ALL, silence_s=1.0, recovery=Policy("resume", base_s=1e-9))
    conversation = Conversation(2, settings=settings)
    first, second = conversation.users
    conversation.now_ns = 900_000_000
    speaker = Speaker()
    speaker.hear(conversation.hands.sent)
    conversation.hands.session.received(speaker.h2.data_to_send(), 10)
    first.heard_ns = 0  # the first has waited for longer
    for now_ns in (1_000_000_020, 1_000_000_030):
        first.woken(now_ns)
        first.obey()
    assert len(conversation.pool.started) == 2
    assert second.is_busy
    assert not conversation.hands.is_closed
    other = conversation.pool.started[1]
    conversation.open(other)
    answering = Speaker()
    answering.hear(other.sent)
    whole(answering)
    other.session.received(answering.h2.data_to_send(), 1_000_000_040)
    record = first.result
    assert (record.outcome, record.noticed_by, record.connections) == (Outcome.OK, ["silence"], 2)


def test_one_users_timeout_leaves_the_connection_to_the_others() -> None:
    conversation = Conversation(2)
    speaker = Speaker()
    speaker.hear(conversation.hands.sent)
    conversation.hands.sent = b""
    first, second = conversation.users
    first.woken(60_000_000_001)
    first.obey()
    assert first.result.outcome is Outcome.TIMEOUT
    whole(speaker, 3)
    conversation.hear(speaker.h2.data_to_send())
    speaker.hear(conversation.hands.sent)
    assert speaker.resets == [1]
    assert second.result.outcome is Outcome.OK
    assert not conversation.hands.is_closed


def test_what_breaks_while_one_user_sends_is_told_to_the_others() -> None:
    conversation = Conversation(2)
    first, second = conversation.users
    conversation.pool.carriers[0].connection._h2.close_connection()  # h2 takes nothing any more
    first.woken(60_000_000_001)  # its time is over: it resets its stream
    first.obey()
    assert first.result.outcome is Outcome.TIMEOUT
    assert conversation.hands.session.wake_ns <= 60_000_000_001
    conversation.hands.session.woken(60_000_000_002)
    conversation.hands.obey()
    assert seen(second.result)[:2] == (Outcome.PROTOCOL_ERROR, "format")
    assert conversation.hands.is_closed
    assert conversation.hands.session.wake_ns == NEVER_NS


@pytest.mark.parametrize("ending", ["answered and left", "cut"])
def test_nothing_is_left_of_a_connection_where_nobody_collects(ending: str) -> None:
    gc.collect()
    gc.disable()
    try:
        conversation = Conversation()
        speaker = Speaker()
        speaker.hear(conversation.hands.sent)
        conversation.hands.sent = b""
        whole(speaker)
        conversation.hear(speaker.h2.data_to_send())
        kept = weakref.ref(conversation.pool.carriers[0].connection._h2)
        (user,) = conversation.users
        if ending == "cut":
            conversation.end(None)
        user.begin(user.farewell(), 10)
        conversation.pool.carriers.clear()
        speaker.hear(conversation.hands.sent)
        del conversation
        assert speaker.has_said_goodbye is (ending != "cut")
        assert kept() is None
    finally:
        gc.enable()


BEGUN = frame(HEADERS, HEAD, flags=END_HEADERS, stream_id=1)
FLOODS = {  # frames that a hostile server sends without end, behind the head of a response; each is legal, or nearly so
    "PING": frame(PING, b"12345678"),
    "SETTINGS": frame(SETTINGS),
    "SETTINGS that change": frame(SETTINGS, struct.pack(">HI", 1, 0)) + frame(SETTINGS, struct.pack(">HI", 1, 4096)),
    "empty DATA": frame(DATA, stream_id=1),
    "padding alone": frame(DATA, b"\xff" + bytes(255), flags=PADDED, stream_id=1),
    "frames of no known kind": frame(0xEE, b"x" * 50),
    "PRIORITY": frame(PRIORITY, bytes(4) + b"\1", stream_id=5),
    "interim answers behind the head": frame(HEADERS, b"\x08\x03103", flags=END_HEADERS, stream_id=1),
    "window updates": frame(WINDOW_UPDATE, b"\0\0\0\1"),
    "resets": frame(RST_STREAM, bytes(4), stream_id=1),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_answered_within_bounds(name: str) -> None:
    """What is kept does not grow with it, and what is said in answer is bounded by what a driver lets wait."""
    conversation = Conversation()
    connection = conversation.pool.carriers[0].connection
    sizes: list[int] = []
    conversation.hear(PREFACE + BEGUN)
    data = FLOODS[name] * (8_000 // len(FLOODS[name]))
    for _ in range(10):
        conversation.hands.sent = b""
        conversation.hear(data)
        sizes.append(len(conversation.hands.sent))
    assert max(sizes) <= 2 * len(data) < MAX_UNSENT_BYTES
    assert len(connection._partial) < len(FLOODS[name])
    assert not connection._news
    assert not any(response._body for response in connection._responses.values())


def test_a_server_gets_no_more_room_than_stated_while_nobody_reads() -> None:
    conversation = Conversation()
    speaker = Speaker()
    speaker.hear(conversation.hands.sent)
    speaker.head(1, CONTENT_TYPE)
    connection = conversation.pool.carriers[0].connection
    (response,) = conversation.pool.carriers[0].asked
    connection.receive(speaker.h2.data_to_send())
    while room := min(speaker.h2.local_flow_control_window(1), 16_384):
        speaker.h2.send_data(1, bytes(room))
        connection.receive(speaker.h2.data_to_send())
        for data in connection.data_to_send():
            speaker.hear(data)
    assert sum(map(len, response._body)) == STREAM_WINDOW_BYTES
    connection.finish(response)  # it is given up: its room is the connection's again, and its stream is over
    for data in connection.data_to_send():
        speaker.hear(data)
    assert speaker.resets == [1]


HOSTILE = {
    "CONTINUATION without end": frame(HEADERS, b"\x88", stream_id=1) + frame(CONTINUATION, b"", stream_id=1) * 100,
    "a header list of 100 KiB": frame(HEADERS, b"\x88", stream_id=1)
    + b"".join(frame(CONTINUATION, b"\0\1a\x7f\xa1\x7f" + b"x" * 16_288, stream_id=1) for _ in range(6))
    + frame(CONTINUATION, b"", flags=END_HEADERS, stream_id=1),
    "HPACK that is none": frame(HEADERS, b"\xff\xff\xff\xff\xff\xff", flags=END_HEADERS, stream_id=1),
    "CONTINUATION of nothing": frame(CONTINUATION, b"\x88", flags=END_HEADERS, stream_id=1),
    "a push after it was refused": frame(SETTINGS, flags=1) * 2
    + frame(PUSH_PROMISE, b"\0\0\0\2" + HEAD, flags=END_HEADERS, stream_id=1),
    "a head without a status": frame(HEADERS, HEAD[1:], flags=END_HEADERS, stream_id=1),
    "a head behind the head": frame(HEADERS, HEAD, flags=END_HEADERS, stream_id=1) * 2,
    "data before the head": frame(DATA, TOKENS[0], stream_id=1),
    "a window beyond all": frame(WINDOW_UPDATE, b"\x7f\xff\xff\xff"),
    "a window update of nothing": frame(WINDOW_UPDATE, bytes(4)),
    "settings that are none": frame(SETTINGS, b"\0\0\0"),
    "a first window beyond all": frame(SETTINGS, struct.pack(">HI", 4, 2**31)),
    "data for a stream that nobody opened": frame(DATA, b"x", stream_id=7),
    "a stream that the server opens": frame(HEADERS, HEAD, flags=END_HEADERS, stream_id=2),
    "a PING of seven bytes": frame(PING, b"1234567"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_breaks_the_rules_ends_the_connection_at_once(name: str) -> None:
    conversation = Conversation()
    data = PREFACE + HOSTILE[name]
    for at in range(0, len(data), 10_000):
        conversation.hear(data[at : at + 10_000])
    (record,) = conversation.records()
    assert record is not None
    assert (record.outcome, record.detail[:16]) == (Outcome.PROTOCOL_ERROR, "format: HTTP/2: "), record.detail
    assert not conversation.hands.session.is_busy  # its carrier has gone

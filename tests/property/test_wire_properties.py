"""Whatever the bytes and however they are split: the same messages, or the documented error."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.feeding import decoded, encoded, encoded_end, feed, schedule_of, split_at

from servers import messages
from servers.blocking import wire as blocking
from servers.chunked import wire as chunked
from servers.messages import EndMessage, ProtocolError, TokenMessage
from servers.polling import wire as polling
from servers.sse import wire as sse
from servers.sse.events import EventDecoder

texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=12).map(tuple)
cuts = st.lists(st.integers(0, 2000), max_size=12)
# Bytes as an event stream has them, only wrong: what a quick way could misread.
pieces = [
    *(
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"data: ",
        b"data:",
        b"id: s/1",
        b"id",
        b"event: end",
        b"retry: 5",
        b": c",
        b"\0",
    ),
    *(b"\xef\xbb\xbf", b"\xff", "é".encode(), b"{}", b"[DONE]", b'{"i": 1, "t": "x", "due": 2, "sent": 3}'),
    *(b'{"done": true, "n": 1, "sha256": "a"}', b'id: s/2\ndata: {"i": 2, "t": "", "due": 2, "sent": 3}\n\n'),
]
stream_like = st.lists(st.sampled_from(pieces), max_size=20).map(b"".join)


def sse_answer(answer: tuple[str, ...]) -> bytes:
    schedule = schedule_of(*answer)
    tokens = [sse.encode_token(b"s", i, token) for i, token in enumerate(encoded(schedule))]
    return b"".join(tokens) + sse.encode_end(encoded_end(schedule))


def chunked_answer(answer: tuple[str, ...]) -> bytes:
    schedule = schedule_of(*answer)
    return b"".join(map(chunked.encode_token, encoded(schedule))) + chunked.encode_end(encoded_end(schedule))


@given(texts, cuts)
def test_any_split_of_an_answer_gives_the_same_messages(answer: tuple[str, ...], at: list[int]) -> None:
    expected = (decoded(schedule_of(*answer)), "")
    assert feed(sse.Decoder(), split_at(sse_answer(answer), at)) == expected
    assert feed(chunked.Decoder(), split_at(chunked_answer(answer), at)) == expected


@given(texts, st.integers(0, 12))
def test_pages_and_answers_come_out_as_they_went_in(answer: tuple[str, ...], first: int) -> None:
    schedule = schedule_of(*answer)
    tokens, end = encoded(schedule), encoded_end(schedule)
    page = polling.decode_page(polling.encode_page(tokens[first:], schedule.n, end))
    assert [*page.tokens, page.end] == decoded(schedule)[min(first, schedule.n) :]
    whole = blocking.decode_answer(blocking.encode_part(tokens, end, begun=False))
    assert [*whole.tokens, whole.end] == decoded(schedule)


@given(stream_like, cuts, st.sampled_from([64, 1 << 20]))
def test_any_split_of_anything_gives_the_same(data: bytes, at: list[int], limit_bytes: int) -> None:
    for kind in (sse.Decoder, chunked.Decoder):
        whole, split = kind(limit_bytes), kind(limit_bytes)
        assert feed(whole, [data]) == feed(split, split_at(data, at))
        assert whole.finish() == split.finish() or limit_bytes == 64


@given(stream_like, cuts)
def test_the_quick_way_of_sse_agrees_with_the_exact_one(data: bytes, at: list[int]) -> None:
    class Exact(sse.Decoder):
        def feed(self, data: bytes) -> list[TokenMessage | EndMessage]:
            return self._feed_exact(data)

    quick, exact, parts = sse.Decoder(), Exact(), split_at(data, at)
    assert feed(quick, parts) == feed(exact, parts)
    assert (quick.last_event_id, quick.retry_ms) == (exact.last_event_id, exact.retry_ms)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_any_bytes_end_in_messages_or_the_documented_error(parts: list[bytes]) -> None:
    feed(sse.Decoder(64), parts)
    feed(chunked.Decoder(64), parts)
    decoder = EventDecoder()
    for part in parts:
        list(decoder.feed(part))


@given(st.binary(max_size=200) | st.text(max_size=80).map(str.encode))
@pytest.mark.parametrize(
    "decode", [messages.decode, polling.decode_page, polling.decode_accepted, blocking.decode_answer]
)
def test_any_body_is_read_or_refused(decode: object, data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        decode(data)  # type: ignore[operator]

"""Token, end and error messages: what is read, what is refused."""

from __future__ import annotations

import pytest
from support.feeding import decoded, encoded, encoded_end, schedule_of, three_ways

from servers import messages
from servers.blocking import wire as blocking
from servers.chunked import wire as chunked
from servers.messages import EndMessage, ErrorMessage, ProtocolError, TokenMessage
from servers.polling import wire as polling
from servers.sse import wire as sse
from servers.text.hazards import SMALL
from servers.websocket import wire as websocket

HASH = "a" * 64


def test_token_and_end_survive_the_wire() -> None:
    token = messages.encode_token(12, messages.json_text(" thé\n\U0001f469‍\u2028"), 5, 9)
    assert token.isascii()
    assert messages.decode(token) == TokenMessage(12, " thé\n\U0001f469‍\u2028", 5, 9)
    assert messages.decode(messages.encode_end(3, HASH)) == EndMessage(True, 3, HASH)
    assert messages.decode(token.decode()) == messages.decode(token)


@pytest.mark.parametrize("raw", [False, True], ids=["escaped", "raw"])
def test_every_decoder_takes_escapes_and_utf8(raw: bool) -> None:
    answer = schedule_of(*SMALL)
    tokens, end = encoded(answer, raw=raw), encoded_end(answer)
    assert b"".join(tokens).isascii() is not raw
    whole = (decoded(answer), "")
    events = b"".join(sse.encode_token(b"s", i, token) for i, token in enumerate(tokens)) + sse.encode_end(end)
    assert three_ways(sse.Decoder, events) == whole
    assert three_ways(chunked.Decoder, b"".join(map(chunked.encode_token, [*tokens, end]))) == whole
    assert [websocket.decode(frame) for frame in [*tokens, end]] == whole[0]
    assert polling.decode_page(polling.encode_page(tokens, len(tokens), end)).tokens == whole[0][:-1]
    assert blocking.decode_answer(blocking.encode_part(tokens, end, begun=False)).tokens == whole[0][:-1]


def test_texts_that_come_again_are_kept_and_long_ones_are_not() -> None:
    texts = messages.JsonTexts()
    assert texts["é"] is texts["é"]
    assert texts["x" * 1000] is not texts["x" * 1000]


def test_an_error_is_short_whatever_it_quotes() -> None:
    error = messages.decode_error(messages.encode_error("bad", "é" * 1_000_000))
    assert error is not None
    assert len(error.message) <= messages.MAX_ERROR_CHARS + 1


def test_text_may_come_as_plain_utf8_too() -> None:
    assert messages.decode('{"t": "é", "i": 0, "due": 1, "sent": 2, "more": [1]}'.encode()) == TokenMessage(
        0, "é", 1, 2
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"[DONE]",
        b"{}",
        b'{"i": 1, "t": "x", "due": 0}',
        b'{"i": -1, "t": "x", "due": 0, "sent": 0}',
        b'{"i": 9223372036854775808, "t": "x", "due": 0, "sent": 0}',
        b'{"i": 1.5, "t": "x", "due": 0, "sent": 0}',
        b'{"i": true, "t": "x", "due": 0, "sent": 0}',
        b'{"i": 1, "t": null, "due": 0, "sent": 0}',
        b'{"i": 1, "t": "\\ud800", "due": 0, "sent": 0}',
        b'{"i": 1, "t": "\xff", "due": 0, "sent": 0}',
        b'{"done": false, "n": 1, "sha256": "a"}',
        b'{"done": true, "n": -1, "sha256": "a"}',
        b'{"x": ' + b"[" * 100_000,
    ],
    ids=lambda data: repr(data[:50]),
)
def test_anything_else_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        messages.decode(data)


def test_errors_are_told_from_everything_else() -> None:
    assert messages.decode_error(messages.encode_error("busy", "too näny")) == ErrorMessage("busy", "too näny")
    for other in (b"{}", b"", b'{"error": "text"}', messages.encode_end(3, HASH), b'{"x": ' + b"[" * 100_000):
        assert messages.decode_error(other) is None

"""The formats that come in one piece: WebSocket frames, polling pages, blocking answers."""

from __future__ import annotations

import json

import pytest
from support.feeding import decoded, encoded, encoded_end, schedule_of

from servers.blocking import wire as blocking
from servers.messages import EndMessage, ProtocolError
from servers.polling import wire as polling
from servers.websocket import wire as websocket

ANSWER = schedule_of("Hello", "", "\u2028é")
TOKENS, END = encoded(ANSWER), encoded_end(ANSWER)


def test_a_websocket_frame_is_a_message() -> None:
    assert [websocket.decode(frame) for frame in (*TOKENS, END)] == decoded(ANSWER)
    assert websocket.decode(END.decode()) == decoded(ANSWER)[-1]
    with pytest.raises(ProtocolError):
        websocket.decode(b'{"error": {"code": "x", "message": "y"}}')


def test_the_polling_pages() -> None:
    body = polling.encode_accepted("s-1")
    assert json.loads(body) == {"stream_id": "s-1", "poll": "/chat/s-1"}
    assert polling.decode_accepted(body).poll == "/chat/s-1"
    page = polling.decode_page(polling.encode_page(TOKENS[:2], 2, None))
    assert (page.tokens, page.next, page.end) == (decoded(ANSWER)[:2], 2, None)
    last = polling.decode_page(polling.encode_page(TOKENS[2:], 3, END))
    assert ([*last.tokens, last.end], last.next) == (decoded(ANSWER)[2:], 3)
    assert json.loads(polling.encode_page([], 3, END)).keys() == {"tokens", "next", "done", "n", "sha256"}
    assert json.loads(polling.encode_page([], 0, None)) == {"tokens": [], "next": 0, "done": False}


def test_the_blocking_answer() -> None:
    body = blocking.encode_part(TOKENS, END, begun=False)
    assert json.loads(body).keys() == {"tokens", "done", "n", "sha256"}
    answer = blocking.decode_answer(body)
    assert [*answer.tokens, answer.end] == decoded(ANSWER)
    assert blocking.decode_answer(blocking.encode_part([], END, begun=False)).tokens == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"tokens": [], "next": 0}',
        b'{"tokens": [], "next": -1, "done": false}',
        b'{"tokens": [{}], "next": 0, "done": false}',
        b'{"tokens": [], "next": 0, "done": true}',
        b'{"tokens": [], "next": 0, "done": true, "n": 1}',
        b'{"x": ' + b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:50]),
)
def test_other_bodies_are_protocol_errors(body: bytes) -> None:
    for decode in (polling.decode_page, polling.decode_accepted, blocking.decode_answer):
        with pytest.raises(ProtocolError):
            decode(body)


def test_a_blocking_answer_that_is_not_done_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="not done"):
        blocking.decode_answer(b'{"tokens": [], "done": false, "n": 0, "sha256": ""}')
    assert blocking.decode_answer(b'{"tokens": [], "done": true, "n": 0, "sha256": ""}').end == EndMessage(True, 0, "")

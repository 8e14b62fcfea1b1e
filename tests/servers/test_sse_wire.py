"""SSE: the standard's rules line by line, then tokens and end messages on top of them."""

from __future__ import annotations

import pytest
from support.feeding import DUE_NS, decoded, encoded, encoded_end, feed, schedule_of, three_ways

from servers.messages import TokenMessage
from servers.sse import wire
from servers.sse.events import Event, EventDecoder

# WHATWG HTML §9.2.6 and the cases that the web platform's tests list as eventsource/format-*.
ODD_CHARACTERS = "\u200d\U0001f4bbé\u2028\u2029\x85\x0b\x0c"
EVENTS = [
    ("data: x\n\n", [("message", "x", "")]),
    ("data: x\r\n\r\n", [("message", "x", "")]),
    ("data: x\r\r", [("message", "x", "")]),
    ("data: x\n\r\n", [("message", "x", "")]),
    ("data: x\r\ndata: y\rdata: z\n\n", [("message", "x\ny\nz", "")]),
    ("data:x\n\n", [("message", "x", "")]),
    ("data:  x \n\n", [("message", " x ", "")]),
    ("data\n\n", [("message", "", "")]),
    ("data:\n\n", [("message", "", "")]),
    ("data\ndata\n\n", [("message", "\n", "")]),
    ("data: a:b: c\n\n", [("message", "a:b: c", "")]),
    ("\n\n\ndata: x\n\n\n\n", [("message", "x", "")]),
    (": comment\n\n:\n\ndata: x\n: in between\n\n", [("message", "x", "")]),
    ("event: end\ndata: x\n\ndata: y\n\n", [("end", "x", ""), ("message", "y", "")]),
    ("event: end\n\ndata: y\n\n", [("message", "y", "")]),
    ("event:\ndata: y\n\n", [("message", "y", "")]),
    ("id: 7\ndata: x\n\ndata: y\n\n", [("message", "x", "7"), ("message", "y", "7")]),
    ("id: 7\ndata: x\n\nid\ndata: y\n\n", [("message", "x", "7"), ("message", "y", "")]),
    ("id: 7\n\ndata: x\n\n", [("message", "x", "7")]),
    ("id: a\0b\ndata: x\n\n", [("message", "x", "")]),
    ("data: x\0y\n\n", [("message", "x\0y", "")]),
    ("unknown: x\nDATA: y\n data: z\ndatax\n\n", []),
    ("\ufeffdata: x\n\n", [("message", "x", "")]),
    ("\ufeff\ufeffdata: x\n\ndata: \ufeffy\n\n", [("message", "\ufeffy", "")]),
    ("\n\ufeffdata: x\n\n", []),
    (f"data: {ODD_CHARACTERS}\n\n", [("message", ODD_CHARACTERS, "")]),
    ("data: cut", []),
    ("data: cut\n", []),
    ("data: x\n\ndata: cut\n", [("message", "x", "")]),
]  # fmt: skip


class ListDecoder(EventDecoder):
    """Consumes the iterator at once."""

    def feed(self, data: bytes) -> list[Event]:  # type: ignore[override]
        return list(super().feed(data))


@pytest.mark.parametrize(("text", "expected"), EVENTS, ids=[repr(text) for text, _ in EVENTS])
def test_events_by_the_standard(text: str, expected: list[tuple[str, str, str]]) -> None:
    found, error = three_ways(ListDecoder, text.encode(), trailing=b": more")
    assert (found, error) == ([Event(*event) for event in expected], "")


def test_bytes_that_are_not_utf8_become_replacement_characters() -> None:
    assert three_ways(ListDecoder, b"data: a\xff\xc3\n\n")[0] == [Event("message", "a\ufffd\ufffd", "")]


@pytest.mark.parametrize(
    ("line", "retry_ms"),
    [
        *(("retry: 1500", 1500), ("retry:0", 0), ("retry: 1.5", None), ("retry: -1", None), ("retry", None)),
        *(("retry: 1e3", None), ("retry: ٣", None), ("retry: " + "9" * 5000, None), ("retry: 5 ", None)),
    ],
)
def test_retry_takes_digits_only(line: str, retry_ms: int | None) -> None:
    decoder = ListDecoder()
    decoder.feed(line.encode() + b"\n")
    assert decoder.retry_ms == retry_ms


def test_the_id_of_an_event_that_was_cut_off_does_not_count() -> None:
    decoder = ListDecoder()
    decoder.feed(b"id: 1\ndata: x\n\nid: 2\ndata: y\n")
    assert decoder.last_event_id == "1"


@pytest.mark.parametrize("data", [b"data: " + b"x" * 100, b"data: xxxxxxxx\n" * 8, b": " + b"c" * 100, b"x" * 100])
def test_a_line_or_an_event_beyond_the_limit_is_an_error(data: bytes) -> None:
    assert "more than 64 bytes" in three_ways(lambda: ListDecoder(64), data)[1]


def test_comments_of_a_long_silence_do_not_add_up() -> None:
    found, error = three_ways(lambda: ListDecoder(64), b": heartbeat\n" * 100 + b"data: x\n\n")
    assert (found, error) == ([Event("message", "x", "")], "")


def answer(*texts: str) -> bytes:
    schedule = schedule_of(*texts)
    tokens = [wire.encode_token(b"s1", i, token) for i, token in enumerate(encoded(schedule))]
    return wire.encode_retry() + b"".join(tokens) + wire.encode_end(encoded_end(schedule))


def test_an_answer_is_written_as_the_contract_says() -> None:
    assert answer("Hi").split(b'"sha256"')[0] == (
        b'retry: 1000\nid: s1/0\ndata: {"i": 0, "t": "Hi", "due": 1000, "sent": 1500}\n\n'
        b'event: end\ndata: {"done": true, "n": 1, '
    )
    assert answer("Hi").endswith(b'"}\n\ndata: [DONE]\n\n')


def test_an_answer_comes_out_as_it_went_in() -> None:
    texts = ("Hello", " the", "", "\n\n", "\r", "é\u2028", "[DONE]", "data: x\n\nid: 9")
    assert three_ways(wire.Decoder, answer(*texts), b": heartbeat\n") == (decoded(schedule_of(*texts)), "")


def test_crlf_and_heartbeats_change_nothing() -> None:
    texts = ("a", "b")
    assert three_ways(wire.Decoder, answer(*texts).replace(b"\n", b"\r\n"))[0] == decoded(schedule_of(*texts))
    assert three_ways(wire.Decoder, answer(*texts).replace(b"id:", wire.HEARTBEAT + b"id:"))[0] == decoded(
        schedule_of(*texts)
    )


def test_what_is_known_for_resuming() -> None:
    decoder = wire.Decoder()
    data = answer("a", "b", "c")
    first, second = (data.index(b"id: s1/%d" % i) for i in (1, 2))
    decoder.feed(data[:first])
    assert (decoder.last_event_id, decoder.retry_ms) == ("s1/0", 1000)
    decoder.feed(data[first:second])
    assert (decoder.last_event_id, decoder.finish()) == ("s1/1", 0)
    decoder.feed(data[second : second + 60])
    assert decoder.last_event_id == "s1/1"
    assert decoder.finish() > 0


def test_messages_before_a_fault_are_kept() -> None:
    data = wire.encode_token(b"s", 0, encoded(schedule_of("a"))[0]) + b"data: {nonsense}\n\n"
    found, error = three_ways(wire.Decoder, data)
    assert found == [TokenMessage(0, "a", DUE_NS, 1500)]
    assert "neither a token nor an end message" in error


def test_events_of_other_types_are_passed_over() -> None:
    assert feed(wire.Decoder(), [b"event: ping\ndata: {}\n\ndata: [DONE]\n\n"]) == ([], "")


def test_event_ids() -> None:
    assert wire.parse_event_id("a_B-9/0") == ("a_B-9", 0)
    assert wire.parse_event_id("s/120") == ("s", 120)
    for wrong in (
        "",
        "s",
        "s/",
        "/1",
        "s/-1",
        "s/01",
        "s/1 ",
        "s/1\n",
        "s/٣",
        "é/1",
        "s/1/2",
        "x" * 65 + "/1",
        "s/" + "9" * 30,
    ):
        with pytest.raises(ValueError, match="stream_id"):
            wire.parse_event_id(wrong)

"""JSON lines: only LF ends a line, an empty one means nothing, an unfinished one is discarded."""

from __future__ import annotations

import pytest
from support.feeding import DUE_NS, SENT_NS, decoded, encoded, encoded_end, schedule_of, three_ways

from servers.chunked import wire
from servers.messages import TokenMessage


def answer(*texts: str) -> bytes:
    schedule = schedule_of(*texts)
    return b"".join(map(wire.encode_token, encoded(schedule))) + wire.encode_end(encoded_end(schedule))


def test_an_answer_comes_out_as_it_went_in() -> None:
    texts = ("Hello", " the", "", "\n\n", "\r", "é\u2028\x85", "[DONE]")
    assert three_ways(wire.Decoder, answer(*texts), b'{"i": 3') == (decoded(schedule_of(*texts)), "")


def test_heartbeats_and_crlf_mean_nothing() -> None:
    data = wire.HEARTBEAT + answer("a", "b").replace(b"\n", b"\r\n\n\r\n")
    assert three_ways(wire.Decoder, data) == (decoded(schedule_of("a", "b")), "")


def test_raw_line_separators_of_other_alphabets_do_not_end_a_line() -> None:
    raw = '{"i": 0, "t": "a\u2028b\x85c", "due": 1000, "sent": 1500}\n'.encode()
    assert three_ways(wire.Decoder, raw)[0] == [TokenMessage(0, "a\u2028b\x85c", DUE_NS, SENT_NS)]


def test_a_line_that_was_cut_off_is_discarded() -> None:
    decoder = wire.Decoder()
    data = answer("a", "b")
    assert decoder.feed(data[:-1]) == decoded(schedule_of("a", "b"))[:-1]
    assert decoder.finish() == len(data.split(b"\n")[2])


@pytest.mark.parametrize("tail", [b"nonsense\n", b"{}\n", b'{"error": {"code": "x", "message": "y"}}\n', b"\xff\n"])
def test_messages_before_a_fault_are_kept(tail: bytes) -> None:
    found, error = three_ways(wire.Decoder, answer("a") + tail)
    assert found == decoded(schedule_of("a"))
    assert error


@pytest.mark.parametrize("data", [b"x" * 100, b"x" * 100 + b"\n", b"\n" + b"x" * 65])
def test_a_line_beyond_the_limit_is_an_error(data: bytes) -> None:
    assert "more than 64 bytes" in three_ways(lambda: wire.Decoder(64), data)[1]


def test_a_megabyte_token_passes_byte_by_byte() -> None:
    decoder, text = wire.Decoder(), "x" * 2**20
    found = [message for byte in answer(text) for message in decoder.feed(bytes([byte]))]
    assert found == decoded(schedule_of(text))

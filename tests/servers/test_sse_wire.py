"""SSE: the standard's rules line by line, then tokens and end messages on top of them."""

from __future__ import annotations

from typing import Any

import pytest
from support.feeding import DUE_NS, decoded, encoded, encoded_end, feed, schedule_of, three_ways
from support.vectors import data_of, vectors

from servers.messages import TokenMessage
from servers.sse import wire
from servers.sse.events import Event, EventDecoder


class ListDecoder(EventDecoder):
    """Consumes the iterator at once."""

    def feed(self, data: bytes) -> list[Event]:  # type: ignore[override]
        return list(super().feed(data))


@pytest.mark.parametrize("vector", vectors("events"))
def test_events_by_the_standard(vector: dict[str, Any]) -> None:
    found, error = three_ways(ListDecoder, data_of(vector), trailing=b": more")
    assert (found, error) == ([Event(*event) for event in vector["events"]], "")


@pytest.mark.parametrize("vector", vectors("retry"))
def test_retry_takes_digits_only(vector: dict[str, Any]) -> None:
    decoder = ListDecoder()
    decoder.feed(data_of(vector))
    assert decoder.retry_ms == vector["retry_ms"]


@pytest.mark.parametrize("vector", vectors("last_event_id"))
def test_the_id_of_an_event_that_was_cut_off_does_not_count(vector: dict[str, Any]) -> None:
    decoder = ListDecoder()
    decoder.feed(data_of(vector))
    assert decoder.last_event_id == vector["id"]


@pytest.mark.parametrize("vector", vectors("event_limit"))
def test_a_line_or_an_event_beyond_the_limit_is_an_error(vector: dict[str, Any]) -> None:
    """Comments of a long silence do not add up."""
    error = three_ways(lambda: ListDecoder(64), data_of(vector))[1]
    assert ("more than 64 bytes" in error) == vector["too_large"]


def answer(*texts: str, raw: bool = False) -> bytes:
    schedule = schedule_of(*texts)
    tokens = [wire.encode_token(b"s1", i, token) for i, token in enumerate(encoded(schedule, raw=raw))]
    return wire.encode_retry() + b"".join(tokens) + wire.encode_end(encoded_end(schedule))


def test_an_answer_is_written_as_the_contract_says() -> None:
    assert answer("Hi").split(b'"sha256"')[0] == (
        b'retry: 1000\nid: s1/0\ndata: {"i": 0, "t": "Hi", "due": 1000, "sent": 1500}\n\n'
        b'event: end\ndata: {"done": true, "n": 1, '
    )
    assert answer("Hi").endswith(b'"}\n\ndata: [DONE]\n\n')


@pytest.mark.parametrize("vector", vectors("answers"))
def test_an_answer_comes_out_as_it_went_in(vector: dict[str, Any]) -> None:
    texts, data = vector["texts"], vector["sse"].encode()
    assert answer(*texts, raw=vector["raw"]) == data
    assert three_ways(wire.Decoder, data, b": heartbeat\n") == (decoded(schedule_of(*texts)), "")


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

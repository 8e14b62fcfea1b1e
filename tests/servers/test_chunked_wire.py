"""JSON lines: only LF ends a line, an empty one means nothing, an unfinished one is discarded."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.feeding import decoded, encoded, encoded_end, schedule_of, three_ways
from support.vectors import data_of, vectors

from servers.chunked import wire


def answer(*texts: str, raw: bool = False) -> bytes:
    schedule = schedule_of(*texts)
    return b"".join(map(wire.encode_token, encoded(schedule, raw=raw))) + wire.encode_end(encoded_end(schedule))


@pytest.mark.parametrize("vector", vectors("answers"))
def test_an_answer_comes_out_as_it_went_in(vector: dict[str, Any]) -> None:
    texts, data = vector["texts"], vector["chunked"].encode()
    assert answer(*texts, raw=vector["raw"]) == data
    assert three_ways(wire.Decoder, data, b'{"i": 3') == (decoded(schedule_of(*texts)), "")


@pytest.mark.parametrize("vector", vectors("lines"))
def test_only_line_feeds_end_a_line(vector: dict[str, Any]) -> None:
    found, error = three_ways(wire.Decoder, data_of(vector))
    assert (msgspec.to_builtins(found), error) == (vector["messages"], "")


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


@pytest.mark.parametrize("vector", vectors("line_limit"))
def test_a_line_beyond_the_limit_is_an_error(vector: dict[str, Any]) -> None:
    error = three_ways(lambda: wire.Decoder(64), data_of(vector))[1]
    assert ("more than 64 bytes" in error) == vector["too_large"]


def test_a_megabyte_token_passes_byte_by_byte() -> None:
    decoder, text = wire.Decoder(), "x" * 2**20
    found = [message for byte in answer(text) for message in decoder.feed(bytes([byte]))]
    assert found == decoded(schedule_of(text))

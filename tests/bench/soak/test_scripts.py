"""The bytes that a soak sends, and when an answer to wrong ones is right."""

from __future__ import annotations

import pytest

from bench.soak.scripts import HEAVY_EVERY, UPGRADE, bad_request, kept_answer, question_script, refusal_fault
from servers.transport import TRANSPORTS

ERROR = b'{"error":{"code":"bad_json","message":"x"}}'


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_bad_requests_take_turns_and_one_in_a_hundred_is_large(transport: str) -> None:
    names = [bad_request(transport, number)[0] for number in range(3 * HEAVY_EVERY)]
    heavy = names[HEAVY_EVERY - 1 :: HEAVY_EVERY]
    assert len(set(heavy)) == 3
    light = set(names) - set(heavy)
    assert len(light) >= 12
    assert any(name.startswith("frame: ") for name in light) == (transport == "websocket")
    for number in range(HEAVY_EVERY - 1):
        name, script = bad_request(transport, number)
        assert (script.steps[0] == UPGRADE) == name.startswith("frame: ")


@pytest.mark.parametrize(
    ("name", "received", "wrong"),
    [
        ("not JSON", b"HTTP/1.1 400 Bad Request\r\n\r\n" + ERROR, ""),
        ("not JSON", b"HTTP/1.1 500 Internal Server Error\r\n\r\n" + ERROR, "status 500"),
        ("not JSON", b"HTTP/1.1 200 OK\r\n\r\n" + ERROR, "status 200"),
        ("not JSON", b"HTTP/1.1 400 Bad Request\r\n\r\nno JSON", "status 400 without the error as JSON"),
        ("not JSON", b"", "closed without an answer"),
        ("frame: not JSON", b"HTTP/1.1 101 Switching\r\n\r\n\x81\x2b" + ERROR, ""),
        ("frame: unmasked", b"HTTP/1.1 101 Switching\r\n\r\n\x88\x02\x03\xea", ""),
        ("frame: unmasked", b"HTTP/1.1 101 Switching\r\n\r\n", "answered b''"),
        ("frame: binary", b'HTTP/1.1 101 Switching\r\nX: "error"\r\n\r\n\x81\x02{}', "answered b'\\x81\\x02{}'"),
    ],
)
def test_only_a_documented_refusal_is_right(name: str, received: bytes, wrong: str) -> None:
    assert refusal_fault(name, received) == wrong


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_question_is_read_and_a_kept_answer_is_not(transport: str) -> None:
    asked = question_script(transport, {"message": "x", "stream_id": "s"})
    assert asked.reads
    assert len(asked.steps) == (2 if transport in {"websocket", "polling"} else 1)
    assert not kept_answer(transport, "s").reads

"""What is wrong with a value is said in our words, never in those of the library that found it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.chat import ChatRequest, RequestError
from servers.recording import load_recording
from servers.stream import StreamSpec
from servers.user_errors import StreamError

LIBRARY = ("Expected `", "Object ", "got `", "$.")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "message: is missing"),
        ([], "takes an object, not []"),
        ({"message": 1}, "message: takes a text, not 1"),
        ({"message": "x", "from": -1}, "from: takes a whole number from 0 below 2147483648, not -1"),
        ({"message": "x", "seed": 1.5}, "seed: takes a whole number from 0 to 9223372036854775807, not 1.5"),
        ({"message": "x", "stream_id": "a b"}, "stream_id: takes 1 to 64 letters, digits, dashes or underscores"),
    ],
)
def test_a_request(given: object, said: str) -> None:
    with pytest.raises(RequestError) as raised:
        ChatRequest.from_values(given)
    text = str(raised.value.args[-1]) + str(raised.value)
    assert said in text
    assert not any(word in text for word in LIBRARY)


@pytest.mark.parametrize("value", [None, "x", 1.5, 32.0, True, [], {}, -1, float("nan"), 10**30])
def test_every_parameter_of_a_stream(value: object) -> None:
    refusals = dict(_refusals(value))
    assert len(refusals) > len(StreamSpec.__struct_fields__) / 2
    for key, text in refusals.items():
        assert text.startswith(f"stream.{key}: takes ")
        assert not any(word in text for word in LIBRARY)


def _refusals(value: object) -> Iterator[tuple[str, str]]:
    for key in StreamSpec.__struct_fields__:
        try:
            StreamSpec.parse({key: value})
        except StreamError as error:
            yield key, str(error)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"deltas": [1]}', "line 1: deltas: takes a list of texts, not [1]"),
        ('{"deltas": ["a"], "at_ms": ["x"]}', "line 1: at_ms: takes a list of numbers, not ['x']"),
        ('{"delta": ["a"]}', "line 1: no key 'delta' here"),
        ("[]", "line 1: takes an object, not []"),
    ],
)
def test_a_recording(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(line)
    with pytest.raises(StreamError) as raised:
        load_recording(str(path))
    assert said in str(raised.value)
    assert not any(word in str(raised.value) for word in LIBRARY)

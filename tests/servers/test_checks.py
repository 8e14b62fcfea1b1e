"""What people give: each mistake has the same words, whoever checks it."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from servers.checks import check_number, choice, shown, suggestion
from servers.user_errors import InputError


@pytest.mark.parametrize(
    ("value", "options", "least", "most", "takes"),
    [
        (-1, {}, 0, 3600, "a number from 0 to 3600, not -1"),
        (True, {}, 0, 3600, "a number from 0 to 3600, not True"),
        ("1", {}, 0, 1e6, "a number from 0 to 1000000, not '1'"),
        ("soon", {"text": True, "what": "seconds"}, 0.1, 60, "seconds from 0.1 to 60, not 'soon'"),
        (float("nan"), {}, 0, 1, "a number from 0 to 1, not nan"),
        ("nan", {"text": True}, 0, 1, "a number from 0 to 1, not 'nan'"),
        (1.5, {"whole": True}, 0, 9, "a whole number from 0 to 9, not 1.5"),
        (None, {"text": True}, 0, 9, "a number from 0 to 9, not None"),
        pytest.param(10**5000, {}, 0, 9, "a number from 0 to 9, not a number of over 4,000 digits", id="huge"),
        pytest.param([10**5000], {}, 0, 9, "a number from 0 to 9, not [a number of over 4,000 digits]", id="in a list"),
    ],
)
def test_a_number_that_is_none(value: object, options: dict[str, Any], least: float, most: float, takes: str) -> None:
    with pytest.raises(InputError) as error:
        check_number("key", value, least, most, **options)
    assert str(error.value) == f"key: takes {takes}"


def test_numbers_and_choices() -> None:
    assert check_number("key", "0.5", 0, 1, text=True) == 0.5
    assert check_number("key", "7", 0, 9, whole=True, text=True) == 7
    assert choice("key", "a", ("a", "b")) == "a"
    for wrong in ("c", ["a"], None):
        with pytest.raises(InputError, match=r"key: takes one of a, b, not "):
            choice("key", wrong, ("a", "b"))


def test_a_wrong_value_is_cut_whatever_it_is() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in ("x" * 1_000_000, [["x" * 1_000] * 1_000] * 1_000, {"k" * 1_000: 1}, b"x" * 1_000_000, deep):
        assert len(shown(value)) < 200
    assert suggestion("ses" + "x" * 1_000_000, ["sse"]) == "takes: sse"


def test_a_word_of_a_megabyte_is_cut_before_it_is_compared() -> None:
    """Comparing notes each of its characters; a request may be such a word."""
    word = "".join(chr(97 + k % 26) for k in range(1_000_000))
    tracemalloc.start()
    try:
        assert suggestion(word, ["sse"]) == "takes: sse"
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()

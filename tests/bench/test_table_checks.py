"""Tables into structs: each kind of mistake is named, with what the key takes."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from bench.table_checks import PlanError, check_keys, to_struct, unknown


class Table(msgspec.Struct):
    """One field of each kind."""

    count: Annotated[int, Meta(ge=1)] = 1
    share: Annotated[float, Meta(gt=0, le=1)] = 0.5
    kind: Literal["a", "b"] = "a"
    on: bool = True
    name: str | None = None
    most: Annotated[float, Meta(ge=0, description="described")] | None = None
    word: Literal["", "aa"] = ""
    label: Annotated[str, Meta(pattern="^[a-z]{0,9}$", description="up to 9 letters")] = ""


class Needy(msgspec.Struct):
    """One field that cannot be left out."""

    url: str


def test_good_table() -> None:
    assert to_struct({"count": 3, "share": 1, "name": "x"}, Table, "[t]") == Table(count=3, share=1.0, name="x")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"cuont": 1},
            "[t]: no key 'cuont' here; did you mean 'count'? It takes: count, share, kind, on, name, most, word, label",
        ),
        ({"zzz": 1}, "[t]: no key 'zzz' here; takes: count, share, kind, on, name, most, word, label"),
        ({"count": 0}, "[t] count: takes a whole number from 1, not 0"),
        ({"count": 1.5}, "[t] count: takes a whole number from 1, not 1.5"),
        ({"count": True}, "[t] count: takes a whole number from 1, not True"),
        ({"share": 0}, "[t] share: takes a number above 0 to 1, not 0"),
        ({"share": float("nan")}, "[t] share: takes a number above 0 to 1, not nan"),
        ({"share": float("inf")}, "[t] share: takes a number above 0 to 1, not inf"),
        ({"kind": "c"}, "[t] kind: takes one of a, b, not 'c'"),
        ({"on": 1}, "[t] on: takes true or false, not 1"),
        ({"name": 1}, "[t] name: takes a text, not 1"),
        ({"most": -1}, "[t] most: takes a number from 0, not -1"),
        ([], "[t]: takes a table, not []"),
        ({"word": "b b"}, "[t] word: takes one of \"\", aa, not 'b b'"),
        ({"label": "a b"}, "[t] label: takes up to 9 letters, not 'a b'"),
    ],
)
def test_mistakes(table: object, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        to_struct(table, Table, "[t]")
    assert str(caught.value) == message


def test_a_key_that_is_missing_is_named() -> None:
    with pytest.raises(PlanError, match=r"^\[t\] url: is missing$"):
        to_struct({}, Needy, "[t]")


def test_unknown_word_suggests_the_nearest() -> None:
    assert str(unknown("transport", "ses", ["sse", "polling"])) == (
        "transport: unknown 'ses'; did you mean 'sse'? It takes: sse, polling"
    )


def test_check_keys_lets_known_keys_pass() -> None:
    check_keys({"a": 1}, "here", ["a", "b"])

"""How old a connection may become: what its connections say together, and what says nothing."""

from __future__ import annotations

import socket
from time import monotonic
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench.probe.asking import Asking
from bench.probe.channel import Heard
from bench.probe.deployment import Deployment
from bench.probe.probe_clock import Clock
from bench.probe.questions.age import Old, ask, concluded

NOTHING = cast(Any, None)  # what these cases never reach
LATENESS = cast(Any, SimpleNamespace(late_s=lambda _from_ns, _to_ns: 0.0))


def asking(url: str = "http://127.0.0.1:1") -> Asking:
    return Asking(
        "age", Deployment({"sse": url}), "sse", 0.2, monotonic() + 60, Clock(), NOTHING, NOTHING, LATENESS, 0, NOTHING
    )


def old(fine_s: float, closed_s: float | None, requests: int, *, is_void: bool = False) -> Old:
    return Old(fine_s, closed_s, requests, "none" if closed_s is None else "fin", False, Heard(), is_void=is_void)


async def test_connections_that_are_refused_say_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    asked = asking(f"http://127.0.0.1:{port}")
    found = await ask(asked)
    assert (found.value, found.seen) == (None, 0)
    assert found.words == "not seen: 3 of 3 connections say nothing"
    assert all(each.void for each in asked.seen)


@pytest.mark.parametrize(
    ("tried", "value", "words"),
    [
        ([old(59, 60, 50), old(58, 60, 40), old(59.5, 60, 30)], 59.75, "a connection is closed at the age of"),
        ([old(600, None, 200), old(600, None, 140), old(600, None, 110)], None, "no connection was closed within"),
        (
            [old(600, None, 200), old(58, 60, 40), old(59.5, 60, 30)],
            None,
            "no limit on age: one connection was closed at",
        ),
        ([old(60, None, 200), old(60, None, 140), old(59, 60, 30)], None, "no limit on age: 1 of 3 connections was"),
        (
            [old(5, 6, 101), old(7, 8, 101), old(9, None, 96)],
            None,
            "not seen: a connection is closed after 101 requests before",
        ),
        (
            [old(5, 6, 150), old(9, None, 142), old(9, None, 111)],
            None,
            "no limit on age: 1 of 3 connections was closed, at the age of 6 s and request 150, which no other reached",
        ),
        ([old(5, 6, 101), old(7, 8, 101), old(9, None, 111)], None, "no limit on age: one connection was closed at"),
        ([old(3, 6, 1), old(5, 9, 1), old(4, 7, 1)], None, "not seen: a connection is closed before its second"),
        ([old(0, 0.1, 1), old(0, 0.1, 1), old(0, 0.1, 1)], None, "connections are not kept"),
        (
            [old(50, 51, 17), old(70, 71, 17), old(90, 91, 17)],
            None,
            "not seen: a connection is closed after 17 requests before",
        ),
        ([old(0.2, 0.27, 7), old(0.22, 0.3, 7), old(0.2, 0.28, 7)], None, "not seen: a connection is closed after 7"),
        ([old(0.01, 0.3, 2), old(0.01, 0.31, 2), old(0.02, 0.33, 2)], None, "not seen: closed after so few requests"),
        ([old(59, 60, 50), old(0, 1, 9, is_void=True), old(59.5, 60, 30)], 59.75, "a connection is closed at the age"),
        ([old(59, 60, 50), *[old(0, 1, 9, is_void=True)] * 2], None, "not seen: 2 of 3 connections say nothing"),
    ],
)
def test_what_connections_say_together(tried: list[Old], value: float | None, words: str) -> None:
    found = concluded(asking(), tried)
    assert found.value == value
    assert found.words.startswith(words)

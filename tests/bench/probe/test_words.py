"""Findings in plain English."""

from __future__ import annotations

import pytest

from bench.probe.search import SEEN, Limit
from bench.probe.words import limit_words, no_cut_words


@pytest.mark.parametrize(
    ("low_s", "words"),
    [
        (0.0, "not known: none of the tries counts"),
        (600.0, "no cut within 600 s of silence; longer, up to 1 h, could not be tried"),
        (3590.0, "no cut within 3590 s of silence"),
    ],
)
def test_what_was_not_tried_is_said(low_s: float, words: str) -> None:
    assert no_cut_words(low_s, 3600.0, "of silence") == words


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (1, "seen once only, too seldom to be sure"),
        (2, "seen 2 times only, too seldom to be sure"),
        (SEEN, "seen 3 times"),
    ],
)
def test_what_may_be_chance_is_said_to_be(seen: int, words: str) -> None:
    assert "at the next byte" in limit_words(Limit(60.0, 50.0, 70.0, "fin", seen, is_between=True))
    limit = Limit(60.0, 60.0, 60.0, "rst", seen)
    assert limit_words(limit) == f"the connection is reset (RST) after 60 s ({words})"

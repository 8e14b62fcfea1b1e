"""What cannot be found out has a reason, by its kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.probe.question import all_questions
from bench.probe.unseen import HIDDEN, LONGER, NOT_CHUNKED, SEEN_BY, UNSEEN, markdown, unseen
from bench.proxy.behaviours import BEHAVIOURS
from bench.proxy.profile import load_profile

DOCS = Path(__file__).parents[3] / "docs/probe.md"


def test_every_behaviour_is_found_or_has_a_reason_why_not() -> None:
    assert set(BEHAVIOURS) <= set(SEEN_BY) | set(UNSEEN)
    assert not set(SEEN_BY) & set(UNSEEN)


def test_what_finds_it_is_a_question() -> None:
    named = {
        word.strip("`") for words in SEEN_BY.values() for word in words.replace(",", " ").split() if word[0] == "`"
    }
    assert {name for name in named if name in all_questions()} >= {"idle", "duration", "buffering", "upgrade", "age"}
    for behaviour, words in SEEN_BY.items():
        assert any(f"`{name}`" in words for name in all_questions()), behaviour


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("aws-alb", {"max_age": LONGER}),
        ("envoy", {"keepalive_timeout": LONGER, "idle_timeout": HIDDEN, "unreachable": UNSEEN["unreachable"]}),
        ("nginx-http11", {"max_age": LONGER, "response_buffering": NOT_CHUNKED, "unreachable": UNSEEN["unreachable"]}),
        ("oracle-lb", {}),
    ],
)
def test_reasons(name: str, reasons: dict[str, str]) -> None:
    assert {rule.name: why for rule, why in unseen(load_profile(name).rules, 600)} == reasons


def test_the_document_has_the_tables() -> None:
    assert markdown() in DOCS.read_text()

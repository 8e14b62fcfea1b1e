"""A profile, written and read back, is the same profile; whatever stands in it."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.proxy import profile
from bench.proxy.behaviours import Bandwidth, IdleTimeout, Latency, Noop, Refuse, ResponseBuffering
from bench.proxy.profile import Profile, load_profile, parse_profile
from bench.proxy.profile_toml import profile_toml

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def read_back(text: str, name: str = "x") -> Profile:
    return parse_profile(name, tomllib.loads(text))


@pytest.mark.parametrize("name", profile.names())
def test_each_shipped_profile(name: str) -> None:
    loaded = load_profile(name)
    assert read_back(profile_toml(loaded), name) == loaded
    scaled = loaded.scaled(7.3)  # numbers with every digit a float has
    assert read_back(profile_toml(scaled), name) == scaled


@given(title=TEXT, notes=TEXT, body=TEXT, limit_s=st.floats(1e-9, 1e9), comment=TEXT)
def test_whatever_stands_in_it(title: str, notes: str, body: str, limit_s: float, comment: str) -> None:
    rules = (
        IdleTimeout(idle_timeout_s=limit_s, status=504),
        Refuse(mode="status", body=body, unsure=("body",)),
        ResponseBuffering(until_complete=True, content_types=("text/event-stream", "application/json")),
        Latency(latency_ms=0, unscaled=("latency_ms", "jitter_ms")),
        Noop(),
    )
    written = Profile(name="x", title=title, notes=notes, rules=rules)
    comments = {0: {"type": comment, "idle_timeout_s": comment}, 1: {"body": comment}}
    assert read_back(profile_toml(written, comments)) == written


def test_only_what_differs_from_the_defaults_and_what_is_said_of_it() -> None:
    rules = (IdleTimeout(idle_timeout_s=60.0, action="rst", unsure=("action",)), Bandwidth(rate_kbit=0.5))
    text = profile_toml(Profile(name="x", title="Ours", rules=rules), {0: {"idle_timeout_s": "seen 3 times"}})
    assert text == (
        'title = "Ours"\n'
        "\n[[behaviour]]\n"
        'type = "idle_timeout"\n'
        "idle_timeout_s = 60  # seen 3 times\n"
        'action = "rst"\n'
        'unsure = ["action"]\n'
        "\n[[behaviour]]\n"
        'type = "bandwidth"\n'
        "rate_kbit = 0.5\n"
    )

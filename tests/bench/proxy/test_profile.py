"""Profiles: every one loads and says what it does; a mistake in one is an error that names it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.proxy import profile
from bench.proxy.behaviours import BEHAVIOURS, IdleTimeout, Latency
from bench.proxy.profile import ProfileError, load_profile, parse_profile
from bench.proxy.proxy_commands import profiles

DOCS = Path(__file__).parents[3] / "docs/proxy.md"

WANTED = """
none aws-alb aws-nlb aws-api-gateway cloudfront gcp-alb cloudflare heroku azure-app-gateway azure-front-door
azure-load-balancer nginx nginx-unbuffered ingress-nginx haproxy envoy traefik caddy vercel mobile-nat
corporate-proxy
"""


def test_the_intermediaries_promised_are_there() -> None:
    assert set(WANTED.split()) <= set(profile.names())


@pytest.mark.parametrize("name", profile.names())
def test_each_loads_and_says_what_it_does(name: str) -> None:
    loaded = load_profile(name)
    assert loaded.name == name
    assert loaded.title
    assert all(rule.words() for rule in loaded.rules)


@pytest.mark.parametrize("name", sorted(set(profile.names()) - {"none"}))
def test_each_number_has_a_source_or_a_reason(name: str) -> None:
    """A source key that docs/proxy.md explains, or the mark that it is unsure."""
    explained = DOCS.read_text()
    for rule in load_profile(name).rules:
        assert rule.source or rule.unsure
        for key in rule.source.split():
            assert f"| {key} |" in explained, f"{key} is not among the sources of docs/proxy.md"


def test_time_scale_divides_times_and_nothing_else() -> None:
    rule = IdleTimeout(idle_timeout_s=60, status=504).scaled(20)
    assert (rule.idle_timeout_s, rule.forget_s, rule.status) == (3, 15, 504)
    assert Latency(latency_ms=100, jitter_ms=10).scaled(10) == Latency(latency_ms=10, jitter_ms=1)
    scaled = load_profile("aws-alb").scaled(20)
    assert scaled.rules[0] == load_profile("aws-alb").rules[0].scaled(20)


def test_cloudflare_waits_as_long_as_it_says_by_now_and_is_not_sure() -> None:
    (rule,) = (
        rule for rule in load_profile("cloudflare").rules if isinstance(rule, IdleTimeout) and rule.scope == "request"
    )
    assert rule.idle_timeout_s == 120
    assert "idle_timeout_s" in rule.unsure


BAD = [
    ("[[behaviour]]\ntype = 'idle_timeout'\nidle_timout_s = 60", ["'idle_timout_s'", "did you mean 'idle_timeout_s'"]),
    ("[[behaviour]]\ntype = 'idle_timeut'", ["'idle_timeut'", "did you mean 'idle_timeout'"]),
    ("[[behaviour]]\nidle_timeout_s = 60", ["type is missing", "idle_timeout"]),
    ("[[behavior]]\ntype = 'noop'", ["'behavior'", "did you mean 'behaviour'"]),
    ("[behaviour]\ntype = 'noop'", ["behaviour takes tables", "[[behaviour]]"]),
    ("[[behaviour]]\ntype = 'idle_timeout'", ["idle_timeout_s"]),
    ("[[behaviour]]\ntype = 'idle_timeout'\nidle_timeout_s = '60'", ["idle_timeout_s: takes a number"]),
    ("[[behaviour]]\ntype = 'idle_timeout'\nidle_timeout_s = -1", ["idle_timeout_s: takes a number above 0"]),
    ("[[behaviour]]\ntype = 'idle_timeout'\nidle_timeout_s = 1\nreset_by = 'all'", ["reset_by", "'all'"]),
    ("[[behaviour]]\ntype = 'refuse'\nprobability = 1.5", ["probability: takes a number", "to 1, not 1.5"]),
    ("[[behaviour]]\ntype = 'cut'\naction = 'fin'", ["after_bytes", "after_s"]),
    ("[[behaviour]]\ntype = 'cut'\naction = 'fin'\nafter_s = 1\nway = 'up'", ["way", "black_hole"]),
    ("[[behaviour]]\ntype = 'response_buffering'", ["until_complete", "buffer_bytes"]),
    ("[[behaviour]]\ntype = 'response_buffering'\nbuffer_bytes = 5\nfirst_bytes = 5", ["buffer_bytes or first_bytes"]),
    ("[[behaviour]]\ntype = 'latency'\nlatency_ms = 5\nmethods = ['GET']", ["methods means nothing to it"]),
    (
        "[[behaviour]]\ntype = 'first_byte_timeout'\nfirst_byte_timeout_s = 5\ncontent_types = ['a/b']",
        ["content_types"],
    ),
    ("[[behaviour]]\ntype = 'idle_timeout'\nidle_timeout_s = 5\nmethods = ['GET']", ["methods means nothing to it"]),
    ("[[behaviour]]\ntype = 'head_holdback'\nmethods = ['get']", ["methods takes names in capitals", "not 'get'"]),
    (
        "[[behaviour]]\ntype = 'head_holdback'\ncontent_types = ['text/html; charset=utf-8']",
        ["content_types takes types in lower case, without param"],
    ),
    (
        "[[behaviour]]\ntype = 'cut_all'\nat_s = 5\nevery_s = 9\ngrace_s = 9",
        ["every_s takes more than grace_s and outage_s"],
    ),
    ("[[behaviour]]\ntype = 'cut_all'\nat_s = 5\nstatus = 503", ["status is for an outage_s"]),
    ("[[behaviour]]\ntype = 'upstreams'\n[[behaviour]]\ntype = 'noop'", ["upstreams takes the last place"]),
    ("[[behaviour]]\ntype = 'upstreams'\nkeep_s = 5", ["keep_s", 'take each = "request"']),
    ("[[behaviour]]\ntype = 'upstreams'\neach = 'request'\nclose_lag_ms = 5", ["close_lag_ms is for keep_s"]),
    ("[[behaviour]]\ntype = 'slicing'\nslice_bytes = 5\nvariation_bytes = 5", ["variation_bytes"]),
    ("[[behaviour]]\ntype = 'bandwidth'\nrate_kbit = 5\nburst_bytes = -5", ["burst_bytes"]),
    ("[[behaviour]]\ntype = 'websocket_close'", ["after_s", "idle_timeout_s"]),
    (
        "[[behaviour]]\ntype = 'websocket_close'\nafter_s = 1\nclose_code = 1006",
        ["close_code takes one that a Close frame may have", "1006"],
    ),
    ("[[behaviour]]\ntype = 'noop'\nunsure = ['speed']", ["unsure", "'speed'"]),
    ("[[behaviour]]\ntype = 'latency'\nlatency_ms = nan", ["latency_ms", "finite"]),
    ("[[behaviour]]\ntype = 'max_age'\nmax_age_s = inf", ["max_age_s", "finite"]),
    ("[[behaviour]]\ntype = 'max_age'\nmax_age_s = 1e10", ["max_age_s: takes a number", "to 1"]),
    (f"[[behaviour]]\ntype = 'max_age'\nmax_age_s = {'9' * 5000}", ["4,000 digits"]),
    ("a = " + "[" * 5000, ["nested"]),
    ("# " + "x" * 1_048_577, ["larger than 1 MiB"]),
    (
        "[[behaviour]]\ntype = 'gzip_holdback'\n[[behaviour]]\ntype = 'latency'\nlatency_ms = 1",
        ["gzip_holdback takes its place behind latency"],
    ),
    ("title = 5", ["title takes a text"]),
    ("title = ", ["at end of document"]),
]


@pytest.mark.parametrize(("text", "said"), BAD, ids=[str(n) for n in range(len(BAD))])
def test_a_mistake_is_an_error_that_names_it(tmp_path: Path, text: str, said: list[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ProfileError) as error:
        load_profile(str(path))
    message = str(error.value)
    assert "mine" in message
    assert "\n" not in message
    assert [part for part in said if part not in message] == []


def test_the_message_names_the_place() -> None:
    table = tomllib.loads("[[behaviour]]\ntype = 'noop'\n[[behaviour]]\ntype = 'max_age'\nmax_age = 5")
    with pytest.raises(ProfileError, match=r"^profile mine, behaviour 2 \(max_age\): no key 'max_age' here; did"):
        parse_profile("mine", table)


def test_an_unknown_name_and_a_missing_file() -> None:
    with pytest.raises(ProfileError, match="did you mean 'aws-alb'"):
        load_profile("aws-albb")
    with pytest.raises(ProfileError, match="No such file"):
        load_profile("nowhere/mine.toml")


def test_a_users_own_file_works_like_the_shipped_ones(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[[behaviour]]\ntype = 'idle_timeout'\nidle_timeout_s = 5\n")
    assert load_profile(str(path)).rules == (IdleTimeout(idle_timeout_s=5),)


def test_the_table_shows_numbers_sources_and_what_is_unsure() -> None:
    result = CliRunner().invoke(profiles, ["aws-alb", "mobile-nat"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "after 60 s with no byte either way: closes (FIN), or answers 504" in result.output
    assert "idle_timeout_s ?" in result.output
    assert "A1 A2 A3" in result.output
    everything = CliRunner().invoke(profiles, [], env={"COLUMNS": "200"})
    assert [name for name in profile.names() if name not in everything.output] == []


def test_behaviours_are_named_after_their_files() -> None:
    for name, rule in BEHAVIOURS.items():
        assert rule.__module__ == f"bench.proxy.behaviours.{name}"


def test_the_documentation_has_the_table_as_it_is() -> None:
    result = CliRunner().invoke(profiles, ["--markdown"])
    assert result.output.strip() in DOCS.read_text(), "renew it with: tokenderby profiles --markdown"


def test_the_documentations_profiles_are_some() -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    assert [len(parse_profile("example", tomllib.loads(block)).rules) for block in blocks] == [2, 3]


def test_the_documentation_has_every_behaviour_and_parameter() -> None:
    rows = {line.split("`")[1]: line for line in DOCS.read_text().splitlines() if line.startswith("| `")}
    for name, rule in BEHAVIOURS.items():
        parameters = set(rule.__struct_fields__) - {"source", "unsure", "unscaled", "methods", "content_types"}
        assert [field for field in parameters if f"`{field}`" not in rows[name]] == []

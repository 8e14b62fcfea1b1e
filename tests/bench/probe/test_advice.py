"""What follows from findings: each sentence names its finding, and no sentence comes from nothing."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest

from bench.console import Console
from bench.probe.advice import advice
from bench.probe.finding import Finding, Findings
from bench.probe.foretold import foretold
from bench.probe.probe_report import report
from bench.probe.profile_writer import profile_text
from bench.probe.roundest import roundest
from bench.proxy.profile import load, names


def findings(*found: Finding, up_to_s: float = 600.0) -> Findings:
    return Findings(
        urls={"sse": "https://x.example"}, up_to_s=up_to_s, started="2026-11-26T00:00:00+00:00", findings=found
    )


def limit(question: str, transport: str, value: float, **more: Any) -> Finding:
    return Finding(question=question, transport=transport, value=value, low=value, high=value, seen=3, **more)


def test_nothing_found_nothing_advised() -> None:
    assert advice(findings()) == []
    assert advice(foretold(load("none").rules, 600)) == []


def test_a_heartbeat_stays_well_below_the_limit() -> None:
    (one,) = advice(findings(limit("idle", "sse", 60.0, ending="fin", facts={"reset_by": "either"})))
    assert (one.question, one.transport) == ("idle", "sse")
    assert "Send a heartbeat over SSE every 30 s" in one.words
    (one,) = advice(findings(limit("idle", "websocket", 350.0, ending="black_hole", facts={"reset_by": "either"})))
    assert "every 175 s" in one.words
    assert "a limit of their own on silence" in one.words


def test_who_has_to_talk() -> None:
    (up,) = advice(findings(limit("idle", "websocket", 60.0, ending="fin", facts={"reset_by": "up"})))
    assert up.words.startswith("Have the client send")
    (each,) = advice(findings(limit("idle", "websocket", 60.0, ending="fin", facts={"reset_by": "each"})))
    assert each.words.startswith("Both sides must send")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "nginx",
            ["A WebSocket cannot work here", "Send X-Accel-Buffering: no", "Send a heartbeat over SSE every 30 s"],
        ),
        ("corporate-proxy", ["SSE cannot stream here"]),
        ("gcp-alb", ["An answer over SSE that takes longer than 30 s is cut"]),
        ("haproxy", ["Tokens of SSE come in bursts"]),
        ("heroku", ["within 25 s", "every 25 s"]),
    ],
)
def test_what_is_said_of_known_ones(name: str, words: list[str]) -> None:
    said = advice(foretold(load(name).rules, 600))
    for each in words:
        assert [one for one in said if each in one.words], (each, said)


@pytest.mark.parametrize("name", names())
def test_each_sentence_rests_on_a_finding_that_is_there(name: str) -> None:
    found = foretold(load(name).rules, 600)
    for one in advice(found):
        finding = found.get(one.question, one.transport)
        assert finding is not None
        assert finding.value not in (None, "none", "passed", False)


def test_several_servers() -> None:
    words = "2 servers, and no cookie keeps a client with one"
    (one,) = advice(findings(Finding(question="stickiness", value=2, words=words, facts={"sticky_by_cookie": None})))
    assert one.words.startswith(words)
    assert not advice(findings(Finding(question="stickiness", value=2, facts={"sticky_by_cookie": True})))


def test_the_report_says_all_of_it() -> None:
    found = foretold(load("nginx").rules, 600)
    odd = Finding(question="headers", words="adds [x]brackets[/x]", seen=3)
    out = io.StringIO()
    Console(file=out, width=200).print(report(msgspec.structs.replace(found, findings=(*found.findings, odd))))
    text = out.getvalue()
    assert "adds [x]brackets[/x]" in text
    assert "nginx: looks the same from outside" in text
    assert "A WebSocket cannot work here" in text


def test_numbers_are_as_round_as_what_was_seen_allows() -> None:
    assert roundest(59.2, 60.4) == 60
    assert roundest(61.1, 61.3) == 61.25
    assert roundest(3590, 3620) == 3600
    assert roundest(0.7481, 0.7519) == 0.75
    assert roundest(7.0, 7.0) == 7.0


def test_what_is_not_certain_is_unsure_and_what_was_not_found_is_in_the_notes() -> None:
    text = profile_text(
        findings(
            limit("idle", "sse", 60.0, ending="black_hole"),
            Finding(question="duration", transport="sse", words="no cut within 10 min of talking"),
            limit("keep_alive", "", 75.0, ending="fin", facts={"may_be_server": True}),
        )
    )
    assert 'unsure = ["reset_by", "late_data"]' in text
    assert 'unsure = ["keepalive_timeout_s"]' in text
    assert "duration (sse): no cut within 10 min of talking." in text
    assert "# seen 3 times, 60 to 60 s" in text

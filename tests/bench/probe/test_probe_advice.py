"""What follows from findings: each sentence names its finding, and no sentence comes from nothing."""

from __future__ import annotations

import io
import tomllib
from typing import Any

import msgspec
import pytest

from bench.console import Console
from bench.probe.finding import Finding, Findings, Seen
from bench.probe.foretold import foretold
from bench.probe.own_lateness import void_words
from bench.probe.probe_advice import probe_advice
from bench.probe.probe_report import NOTHING_PASSES, findings_report
from bench.probe.profile_writer import profile_of, profile_text
from bench.probe.rehearsal import rehearse, scenes
from bench.probe.roundest import roundest
from bench.proxy.behaviours import IdleTimeout, Upgrade
from bench.proxy.profile import load_profile, names, parse_profile


def findings(*found: Finding, up_to_s: float = 600.0) -> Findings:
    return Findings(
        urls={"sse": "https://x.example"}, up_to_s=up_to_s, started="2026-11-26T00:00:00+00:00", findings=found
    )


def limit(question: str, transport: str, value: float, **more: Any) -> Finding:
    return Finding(question=question, transport=transport, value=value, low=value, high=value, seen=3, **more)


def test_nothing_found_nothing_advised() -> None:
    assert probe_advice(findings()) == []
    assert probe_advice(foretold(load_profile("none").rules, 600)) == []


def test_a_heartbeat_stays_well_below_the_limit() -> None:
    (one,) = probe_advice(findings(limit("idle", "sse", 60.0, ending="fin", facts={"reset_by": "either"})))
    assert (one.question, one.transport) == ("idle", "sse")
    assert "Send a heartbeat over SSE every 30 s" in one.words
    (one,) = probe_advice(
        findings(limit("idle", "websocket", 350.0, ending="black_hole", facts={"reset_by": "either"}))
    )
    assert "every 175 s" in one.words
    assert "a limit of their own on silence" in one.words


def test_the_number_beside_a_heartbeat_is_the_one_that_was_found() -> None:
    seen = msgspec.structs.replace(limit("idle", "sse", 60.0, ending="fin"), low=59.9, high=60.1)
    (one,) = probe_advice(findings(seen))
    assert "every 30 s: the connection is closed (FIN) after 60 s" in one.words
    between = msgspec.structs.replace(limit("idle", "sse", 48.75, ending="fin"), low=37.5, high=60.0)
    (one,) = probe_advice(findings(between))
    assert "every 18 s" in one.words  # well below what is allowed for certain


def test_a_limit_is_written_as_the_round_number_next_to_what_was_found() -> None:
    """Cuts come late: the first is the best estimate, not the middle."""
    late = msgspec.structs.replace(limit("idle", "sse", 3.02, ending="fin"), low=3.0067, high=3.10752)
    (rule,) = profile_of(findings(late)).rules
    assert isinstance(rule, IdleTimeout)
    assert rule.idle_timeout_s == 3


def test_connections_that_are_not_kept_are_not_kept_by_the_profile() -> None:
    closed = Finding(question="keep_alive", words="connections are not kept", seen=1, facts={"is_kept": False})
    written = parse_profile("p", tomllib.loads(profile_text(findings(closed))))
    (scene,) = (each for each in scenes(10) if each.name == "request after request")
    played = rehearse(written.rules, scene)
    assert played.ending == "fin"
    assert played.at_s is not None
    assert played.at_s <= 10 / 200  # at its second request: time does not pass with the first, where clocks are played
    assert "keep_alive" not in written.notes


@pytest.mark.parametrize("lasts", [True, False])
def test_who_holds_a_stream_to_its_end_stands_before_a_limit_that_this_does_not_meet(lasts: bool) -> None:
    """As Varnish, which compresses a whole answer: its limit on the first byte is the server's, not the client's."""
    held = Finding(question="buffering", transport="sse", value="until_complete", seen=3, words="held")
    outlived = Finding(question="duration", transport="sse", words="no cut", low=9.0, seen=3)
    cut = limit("duration", "sse", 6.0, ending="status 503")
    first = limit("first_byte", "blocking", 4.0, ending="status 503")
    rules = profile_of(findings(held, first, outlived if lasts else cut)).rules
    assert [rule.name for rule in rules if rule.name != "max_duration"] == (
        ["response_buffering", "first_byte_timeout"] if lasts else ["first_byte_timeout", "response_buffering"]
    )


def test_who_has_to_talk() -> None:
    (up,) = probe_advice(findings(limit("idle", "websocket", 60.0, ending="fin", facts={"reset_by": "up"})))
    assert up.words.startswith("Have the client send")
    (each,) = probe_advice(findings(limit("idle", "websocket", 60.0, ending="fin", facts={"reset_by": "each"})))
    assert each.words.startswith("Both sides must send")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "nginx",
            ["A WebSocket cannot work here", "Send X-Accel-Buffering: no", "Send a heartbeat over SSE every 30 s"],
        ),
        ("nginx", ["without it, tokens are held until whole buffers of 4096 bytes are there."]),
        ("corporate-proxy", ["SSE cannot stream here"]),
        ("gcp-alb", ["An answer over SSE that takes longer than 30 s is cut"]),
        ("haproxy", ["Tokens of SSE come in bursts"]),
        ("heroku", ["within 25 s", "every 25 s"]),
    ],
)
def test_what_is_said_of_known_ones(name: str, words: list[str]) -> None:
    said = probe_advice(foretold(load_profile(name).rules, 600))
    for each in words:
        assert [one for one in said if each in one.words], (each, said)


@pytest.mark.parametrize("name", names())
def test_each_sentence_rests_on_a_finding_that_is_there(name: str) -> None:
    found = foretold(load_profile(name).rules, 600)
    for one in probe_advice(found):
        finding = found.get(one.question, one.transport)
        assert finding is not None
        assert finding.value not in (None, "none", "passed", False)


def test_several_servers() -> None:
    words = "2 servers, and no cookie keeps a client with one"
    (one,) = probe_advice(
        findings(Finding(question="stickiness", value=2, words=words, facts={"sticky_by_cookie": None}))
    )
    assert one.words.startswith(words)
    assert not probe_advice(findings(Finding(question="stickiness", value=2, facts={"sticky_by_cookie": True})))


def test_the_report_says_all_of_it() -> None:
    found = foretold(load_profile("nginx").rules, 600)
    odd = Finding(question="headers", words="adds [x]brackets[/x]", seen=3)
    out = io.StringIO()
    Console(file=out, width=200).print(findings_report(msgspec.structs.replace(found, findings=(*found.findings, odd))))
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


def test_what_healthz_alone_shows_is_not_good() -> None:
    """A balancer that refuses every chat request still answers /healthz and /stats."""
    refused = "no stream passes: status 403"
    aside = [Finding(question=name, seen=3) for name in ("headers", "stickiness", "round_trip", "age", "keep_alive")]
    said_no = Finding(question="upgrade", transport="websocket", value="refused", ending="status 403", seen=3)
    found = findings(*aside, said_no, Finding(question="idle", transport="sse", words=refused, ending="status 403"))
    assert not found.is_good
    notes = profile_of(found).notes
    assert "No answer was seen to pass of: sse." in notes
    assert refused in notes
    good = findings(*aside, limit("idle", "sse", 60.0))
    assert good.is_good
    assert "No answer" not in profile_of(good).notes


@pytest.mark.parametrize("content_type", ["", "a b/c", "x/y/z", "text/event-stream, text/html", "é/x"])
def test_a_type_that_no_rule_takes_is_left_out(content_type: str) -> None:
    odd = packed("chunked", content_type)
    both = parse_profile(
        "p", tomllib.loads(profile_text(findings(packed("sse", "Text/Event-Stream ; charset=x"), odd)))
    )
    assert [rule.content_types for rule in both.rules] == [("text/event-stream",)]
    alone = parse_profile("p", tomllib.loads(profile_text(findings(odd))))
    assert not alone.rules
    assert "compression (chunked): compressed" in alone.notes


def packed(transport: str, content_type: str) -> Finding:
    facts = {"holds": True, "content_type": content_type}
    return Finding(question="compression", transport=transport, value="gzip", seen=3, words="compressed", facts=facts)


@pytest.mark.parametrize("value", [0.0, -1.0, 1e12])
def test_a_number_that_no_rule_takes_is_said_in_the_notes(value: float) -> None:
    text = profile_text(findings(limit("idle", "sse", value, ending="fin"), limit("keep_alive", "", 60.0)))
    written = parse_profile("p", tomllib.loads(text))
    assert [rule.name for rule in written.rules] == ["keepalive_timeout"]
    assert "No rule, since a proxy does not take it" in written.notes
    assert "idle_timeout_s" in written.notes


def test_a_websocket_that_is_cut_does_not_pass_the_profile() -> None:
    words = "the upgrade ends in rst"
    cut = Finding(question="upgrade", transport="websocket", value="cut", ending="rst", seen=3, words=words)
    written = profile_of(findings(cut))
    (rule,) = written.rules
    assert isinstance(rule, Upgrade)
    assert rule.unsure == ("action", "status")
    assert f"upgrade (websocket): {words}." in written.notes


@pytest.mark.parametrize(
    "finding",
    [
        Finding(question="buffering", transport="websocket", value="time", words="held", seen=3),
        Finding(question="compression", transport="sse", value="br", words="compressed (br)", seen=3),
        limit("idle", "chunked", 30.0, words="another number"),
        limit("first_byte", "sse", 45.0, words="another number"),
    ],
)
def test_what_no_rule_says_is_in_the_notes(finding: Finding) -> None:
    first = (limit("idle", "sse", 60.0, words="said"), limit("first_byte", "blocking", 20.0, words="said"))
    notes = profile_of(findings(*first, finding)).notes
    assert f"{finding.question} ({finding.transport}): {finding.words}." in notes
    assert "said" not in notes


def test_a_limit_of_one_kind_of_stream_alone_is_said_to_be_that() -> None:
    outlived = Finding(question="idle", transport="sse", words="no cut", low=600.0, seen=3)
    told = "The limit of idle was seen of chunked alone, not of sse; its rule cuts both."
    assert told in profile_of(findings(outlived, limit("idle", "chunked", 60.0, ending="fin"))).notes
    shorter = msgspec.structs.replace(outlived, low=50.0)
    assert told not in profile_of(findings(shorter, limit("idle", "chunked", 60.0, ending="fin"))).notes


def test_what_did_not_count_is_said_with_what_it_may_have_been() -> None:
    out = io.StringIO()
    told = msgspec.structs.replace(findings(limit("idle", "sse", 60.0)), disturbances=((1.0, 3.5), (2.0, 4.0)))
    Console(file=out, width=300).print(findings_report(told))
    assert "Something was wrong from 1 s to 4 s of the probe: what ended then does not count." in out.getvalue()
    out = io.StringIO()
    Console(file=out, width=300).print(findings_report(findings(limit("idle", "sse", 60.0))))
    assert "Something was wrong" not in out.getvalue()
    assert "late itself" not in out.getvalue()


def test_what_a_late_machine_saw_is_counted() -> None:
    out = io.StringIO()
    void = Seen(at_s=1, tried="a silence", void=void_words(0.2))
    late = msgspec.structs.replace(
        limit("idle", "sse", 60.0), observations=(void, void, Seen(at_s=2, tried="a silence"))
    )
    Console(file=out, width=300).print(findings_report(findings(late)))
    assert "This machine was late itself: 2 of its observations do not count." in out.getvalue()


def test_where_no_answer_passes_nothing_is_said_to_follow() -> None:
    out = io.StringIO()
    refused = Finding(question="idle", transport="sse", words="no stream passes: status 403")
    Console(file=out, width=300).print(findings_report(findings(refused)))
    assert NOTHING_PASSES in out.getvalue()
    assert "Nearest" not in out.getvalue()

"""Findings become the profile that shows the same: every shipped profile, there and back by a simulated clock."""

from __future__ import annotations

import tomllib

import msgspec
import pytest

from bench.probe.finding import Finding, Findings
from bench.probe.foretold import foretold
from bench.probe.judging import judge
from bench.probe.profile_likeness import nearest, profile_differences, survived, visible_rules
from bench.probe.profile_writer import profile_of, profile_text
from bench.proxy import profile
from bench.proxy.behaviours import FirstByteTimeout, IdleTimeout, KeepaliveTimeout, MaxDuration, MaxRequests, Upgrade
from bench.proxy.profile import load_profile, parse_profile
from bench.proxy.rule import Rule

pytestmark = pytest.mark.slow

UP_TO_S = 600.0


@pytest.mark.parametrize("name", profile.names())
def test_a_profile_written_from_its_own_findings_shows_the_same(name: str) -> None:
    rules = load_profile(name).rules
    findings = foretold(rules, UP_TO_S)
    written = parse_profile("written", tomllib.loads(profile_text(findings)))
    assert written.rules == profile_of(findings).rules
    assert not profile_differences(rules, written.rules, UP_TO_S)
    assert survived(written.rules) == survived(rules)
    assert not [verdict for verdict in judge(foretold(written.rules, UP_TO_S), findings) if not verdict.is_right]
    assert all(visible_rules(written.rules, UP_TO_S)), "a rule that shows nothing was invented"
    assert nearest(written.rules, UP_TO_S)[0].differences == ()


MADE: dict[str, tuple[Rule, ...]] = {
    "a limit within answers, as Varnish has": (
        IdleTimeout(idle_timeout_s=40, scope="response", reset_by="down"),
        FirstByteTimeout(first_byte_timeout_s=70, status=503),
    ),
    "a limit within answers alone": (IdleTimeout(idle_timeout_s=40, scope="response", reset_by="down"),),
    "a limit on their number": (MaxRequests(max_requests=7), KeepaliveTimeout(keepalive_timeout_s=75)),
}


@pytest.mark.parametrize("name", MADE)
def test_so_is_one_that_nobody_ships(name: str) -> None:
    written = parse_profile("written", tomllib.loads(profile_text(foretold(MADE[name], UP_TO_S))))
    assert not profile_differences(MADE[name], written.rules, UP_TO_S)
    assert survived(written.rules) == survived(MADE[name])


@pytest.mark.parametrize(("ending", "is_behind"), [("fin", True), ("black_hole", True), ("status 504", False)])
def test_a_limit_that_knows_of_a_withheld_head_stands_behind_who_withholds_it(ending: str, is_behind: bool) -> None:
    """As behind Node's http-proxy, and nginx that compresses: to the limit the answer has begun, to the client not."""

    def found(question: str, transport: str, ending: str) -> Finding:
        return Finding(question=question, transport=transport, value=5.0, low=4.9, high=5.1, seen=3, ending=ending)

    findings = Findings(
        urls={"sse": "", "blocking": ""},
        up_to_s=10.0,
        started="",
        findings=(
            Finding(question="late_head", transport="sse", value=True, seen=3),
            found("first_byte", "blocking", "status 504"),
            found("first_byte", "sse", ending),
            found("idle", "sse", "fin" if ending == "status 504" else ending),
        ),
    )
    names = [rule.name for rule in profile_of(findings).rules]
    assert (names.index("idle_timeout") > names.index("head_holdback")) is is_behind


def test_what_differs_is_seen() -> None:
    """The comparison can fail: by another number, another ending, a rule too many or too few."""
    alb = load_profile("aws-alb").rules
    idle = alb[0]
    assert isinstance(idle, IdleTimeout)

    def changed(**fields: object) -> tuple[Rule, ...]:
        return (msgspec.structs.replace(idle, **fields), *alb[1:])

    assert not profile_differences(alb, changed(idle_timeout_s=60.9), UP_TO_S)  # within 2 %
    for other in (
        changed(idle_timeout_s=62.0),
        changed(action="rst"),
        changed(status=503),
        changed(reset_by="down"),
        (*alb, Upgrade()),
        (*alb, MaxDuration(max_duration_s=500)),
        alb[1:],
    ):
        assert profile_differences(alb, other, UP_TO_S)
    assert survived(alb) != survived(changed(idle_timeout_s=100.0))


def test_a_wrong_finding_is_judged_wrong() -> None:
    true = foretold(load_profile("nginx").rules, UP_TO_S)
    assert all(verdict.is_right for verdict in judge(true, true))
    other = foretold(load_profile("ingress-nginx").rules, UP_TO_S)
    wrong = {verdict.question for verdict in judge(other, true) if not verdict.is_right}
    assert wrong == {"buffering", "held_at_cut", "upgrade"}

"""After how many requests a connection is closed: exactly, behind real nginx, and as a profile that does the same."""

from __future__ import annotations

import asyncio
import time
import tomllib
from collections.abc import Callable

import msgspec
import pytest
from support.processes import RunningServer

from bench.probe.engine import Engine
from bench.probe.finding import Finding, Findings
from bench.probe.foretold import foretold
from bench.probe.judging import judge
from bench.probe.probe_advice import probe_advice
from bench.probe.profile_likeness import profile_differences
from bench.probe.profile_writer import profile_text
from bench.probe.question import all_questions
from bench.probe.questions.age import FEWEST, PACES, every_s, requests
from bench.probe.real_cases import RealCase, real_deployment
from bench.probe.sweep import ServerAddress, behind
from bench.proxy.behaviours import KeepaliveTimeout, MaxAge, MaxRequests
from bench.proxy.profile import parse_profile
from bench.proxy.rule import Rule

UP_TO_S = 1.0
ASKED = [question for question in all_questions().values() if question.id in ("age", "requests")]


def address(server: Callable[[str], RunningServer]) -> dict[str, ServerAddress]:
    host, _, port = server("sse").url.removeprefix("http://").rpartition(":")
    return {"sse": (host, int(port))}


def written(findings: Findings) -> tuple[Rule, ...]:
    """The rules of the profile that is written."""
    return parse_profile("probe", tomllib.loads(profile_text(findings))).rules


@pytest.mark.needs("nginx")
async def test_a_real_nginx_and_its_emulation_close_after_seven_requests(
    server: Callable[[str], RunningServer],
) -> None:
    case = RealCase("few requests", "nginx", "proxy_http_version 1.1;", "keepalive_requests 7;", ())
    with real_deployment(case, address(server)) as deployment:
        real = await Engine(deployment, UP_TO_S, chosen=ASKED).run()
    assert written(real) == (MaxRequests(max_requests=7),)
    async with behind(written(real), address(server)) as deployment:
        emulated = await Engine(deployment, UP_TO_S, chosen=ASKED).run()
    for findings in (real, emulated):
        found = findings.get("requests", "sse") or findings.get("requests")
        assert found is not None
        assert (found.value, found.unit, found.seen, found.ending) == (7, "requests", len(PACES), "fin")
        assert any("after 7 requests" in each.words for each in probe_advice(findings))
        assert "7 requests" in found.words


@pytest.mark.parametrize("stands_still_s", [0.0, 0.02])
async def test_a_connection_that_is_closed_for_its_age_is_not_counted(
    server: Callable[[str], RunningServer], stands_still_s: float
) -> None:
    """However busy this machine is: then all its connections ask as seldom, and each gets as many answers."""
    busy = asyncio.create_task(_stand_still(stands_still_s))
    try:
        async with behind([MaxAge(max_age_s=0.6)], address(server)) as deployment:
            findings = await Engine(deployment, UP_TO_S, chosen=ASKED).run()
    finally:
        busy.cancel()
    age, number = findings.findings
    assert number.value is None, number.words
    if isinstance(age.value, float):
        assert age.high is not None  # a proxy that is late counts late; it never counts early
        assert age.high >= 0.6


async def _stand_still(so_long_s: float) -> None:
    """Hold up the event loop again and again."""
    while so_long_s:
        time.sleep(so_long_s)  # noqa: ASYNC251  # that is what a busy machine does
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("rules", "number"),
    [
        ((MaxRequests(max_requests=7),), 7),
        ((MaxRequests(max_requests=1),), 1),
        ((MaxRequests(max_requests=10_000),), None),
        ((MaxAge(max_age_s=30),), None),
        ((KeepaliveTimeout(keepalive_timeout_s=0.1),), None),  # before a second request
    ],
)
def test_what_a_rule_has_to_show(rules: tuple[Rule, ...], number: int | None) -> None:
    true = foretold(rules, 60.0, ["sse"])
    found = true.get("requests", "sse")
    assert found is not None
    assert found.value == number
    assert all(verdict.is_right for verdict in judge(true, true))
    if number:
        assert not profile_differences(rules, written(_seen(true)), 60.0)


def _seen(findings: Findings) -> Findings:
    """Of the number alone."""
    seen: list[Finding] = [each for each in findings.findings if each.question == "requests"]
    return msgspec.structs.replace(findings, findings=tuple(seen))


def test_the_more_time_there_is_the_more_requests_are_tried() -> None:
    assert requests(2.0) == sum(round(FEWEST / pace) for pace in PACES)
    assert 600.0 / (PACES[-1] * every_s(600.0)) > 1100  # nginx's default shows at every pace
    assert requests(600.0) < 5000

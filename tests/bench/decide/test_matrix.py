"""The cells that decide: every way behind every profile that ships, and times that fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cli import main
from bench.decide.matrix import HEARTBEATS_S, ExpectedTraffic, farther, fitting_time_scale, heartbeat_s, matrix
from bench.proxy import profile
from bench.proxy.behaviours.idle_timeout import IdleTimeout
from bench.proxy.behaviours.websocket_close import WebsocketClose


def test_the_heartbeat_is_at_most_half_of_what_the_profile_bears() -> None:
    assert heartbeat_s(profile.load_profile("aws-alb")) == 15
    assert heartbeat_s(profile.load_profile("none")) == HEARTBEATS_S[0]
    for name in profile.names():
        idle = [rule.idle_timeout_s for rule in profile.load_profile(name).rules if isinstance(rule, IdleTimeout)]
        assert all(heartbeat_s(profile.load_profile(name)) <= limit / 2 for limit in idle), name


def test_a_limit_on_a_websocket_s_silence_is_one_too() -> None:
    closing = profile.Profile(name="mine", rules=(WebsocketClose(idle_timeout_s=8), WebsocketClose(after_s=1)))
    assert heartbeat_s(closing) == 2


@pytest.mark.parametrize("name", profile.names())
def test_every_shipped_profile_has_a_plan(name: str) -> None:
    plan = matrix(name, heartbeat_s(profile.load_profile(name)), ExpectedTraffic(), {"ttft_ms_p95": 900}, 4)
    assert {cell.profile for cell in plan.cells} == {name}
    assert {(cell.transport, cell.recovery, bool(cell.heartbeat)) for cell in plan.cells} >= {
        ("sse", "none", False),
        ("sse", "resume", True),
        ("websocket", "none", True),
        ("polling", "none", False),
        ("blocking", "none", False),
    }
    assert all((cell.slo == "traffic") == (cell.load != "silence") for cell in plan.cells), "silence breaks any limit"


def test_a_trace_is_a_situation_of_its_own(tmp_path: Path) -> None:
    trace = tmp_path / "azure.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.000000,10,20\n")
    plan = matrix("aws-alb", 15, ExpectedTraffic(trace=str(trace)), {}, 4)
    assert {cell.load for cell in plan.cells} == {"", "silence", "trace"}
    assert plan.loads["trace"].trace == str(trace)


def test_times_are_divided_so_that_a_cell_fits(tmp_path: Path) -> None:
    assert fitting_time_scale(ExpectedTraffic(silence_s=1, think_s=0)) == 2
    assert fitting_time_scale(ExpectedTraffic(silence_s=600)) > 15


def test_a_network_stands_before_the_intermediary() -> None:
    nginx = profile.load_profile("nginx")
    assert [rule.name for rule in farther(nginx, 80).rules] == ["latency", *(rule.name for rule in nginx.rules)]
    assert farther(nginx, 0) == nginx


@pytest.mark.parametrize("words", [("aws-alb", "--silence", "601"), ("nowhere",), ("aws-alb", "--slo", "ttft=1")])
def test_wrong_words_are_named(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["decide", *words])
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1

"""Plans: what is read, what the options change, and every kind of mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.plan import Cell, parse, plan_names, read_plan, with_control
from bench.plan_options import with_options
from bench.slo import from_options
from bench.table_checks import PlanError
from clients.minima import MESSAGES_NEEDED

SSE = {"transport": "sse"}


def plan_table(**changes: Any) -> dict[str, Any]:
    return {"name": "p", "cells": [SSE, {"transport": "polling"}], **changes}


@pytest.mark.parametrize("name", ["quick", "article", "full", pytest.param("http2", marks=pytest.mark.needs("nginx"))])
def test_shipped_plans_are_good(name: str) -> None:
    assert name in plan_names()
    plan = with_control(read_plan(name))
    assert plan.name == name
    assert plan.description
    assert sum(cell.copy == "aa" and not cell.load for cell in plan.cells) == 1


def test_the_plan_of_timeouts() -> None:
    plan = read_plan("timeouts")
    assert with_control(plan) == plan  # nothing in it is compared by speed
    assert plan.parallel > 1
    assert {cell.recovery for cell in plan.cells} == {"none", "restart", "resume"}
    assert len({cell.profile for cell in plan.cells}) > 5
    assert {cell.transport for cell in plan.cells if cell.wait} == {"polling"}  # long polling has a place in it
    assert {cell.transport for cell in plan.cells if cell.heartbeat} == {"chunked", "sse", "websocket"}


def test_shipped_plans_are_large_enough_for_p99() -> None:
    for name in ("quick", "full"):
        plan = read_plan(name)
        assert plan.blocks >= 5
        assert plan.blocks * plan.load.streams >= MESSAGES_NEEDED[0.99]


def test_defaults() -> None:
    plan = parse(plan_table())
    assert (plan.blocks, plan.seed, plan.time_scale) == (10, 1, 1.0)
    assert plan.stream == {"profile": "hosted"}
    assert plan.validity.generator_lag_ms_p99 == 5.0


def test_a_list_stands_for_a_cell_per_value() -> None:
    plan = parse(plan_table(cells=[{"transport": ["sse", "chunked"], "reuse": [True, False]}]))
    assert [cell.key for cell in plan.cells] == ["sse", "sse reuse=off", "chunked", "chunked reuse=off"]


@pytest.mark.parametrize(
    ("cell", "key"),
    [
        (Cell(transport="sse"), "sse"),
        (Cell(transport="sse", copy="aa"), "sse copy=aa"),
        (Cell(transport="polling", interval=0.1), "polling interval=0.1"),
        (Cell(transport="polling", interval=1.0), "polling"),
        (Cell(transport="polling", wait=20.0, reuse=False), "polling reuse=off wait=20"),
        (Cell(transport="websocket", profile="aws-alb", recovery="resume"), "websocket aws-alb resume"),
        (Cell(transport="chunked", heartbeat=15.0, load="bursty"), "chunked heartbeat=15 load=bursty"),
        (Cell(transport="chunked", head="late", heartbeat=15.0), "chunked head=late heartbeat=15"),
    ],
)
def test_cell_keys(cell: Cell, key: str) -> None:
    assert cell.key == key


def test_named_load_inherits_and_named_stream_does_not() -> None:
    plan = parse(
        plan_table(
            load={"streams": 7, "rate_per_s": 3.0},
            loads={"bursty": {"arrivals": "gamma"}},
            stream={"profile": "hosted", "tokens": 5},
            streams={"long": {"profile": "article"}},
            cells=[SSE, SSE | {"load": "bursty", "stream": "long"}],
        )
    )
    plain, other = plan.cells
    assert plan.load_of(plain).arrivals == "poisson"
    assert (plan.load_of(other).arrivals, plan.load_of(other).streams) == ("gamma", 7)
    assert plan.stream_of(other) == {"profile": "article"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"blcoks": 3}, ["blcoks", "did you mean 'blocks'"]),
        ({"blocks": 0}, ["blocks", "from 1", "not 0"]),
        ({"blocks": "3"}, ["blocks", "a whole number"]),
        ({"seed": -1}, ["seed", "from 0"]),
        ({"time_scale": 0}, ["time_scale", "from 0.01"]),
        ({"name": "a b"}, ["name"]),
        ({"control": "ses"}, ["control", "did you mean 'sse'"]),
        ({"load": {"stream": 3}}, ["[load]", "'stream'", "did you mean 'streams'"]),
        ({"load": {"arrivals": "poison"}}, ["[load] arrivals", "poisson", "gamma", "'poison'"]),
        ({"load": {"rate_per_s": -1}}, ["[load] rate_per_s", "from 1e-06", "-1"]),
        ({"load": {"streams": 0}}, ["[load] streams", "from 1"]),
        ({"load": {"arrivals": "trace"}}, ["[load] trace", "takes a file"]),
        ({"load": {"trace": "none.csv"}}, ["[load] trace", "none.csv"]),
        ({"load": 3}, ["[load]", "takes a table"]),
        ({"loads": {"x": {"speedup": 2}}}, ["[loads.x]", "speedup", "speed_up"]),
        ({"stream": {"profile": "hostd"}}, ["[stream]", "hostd", "hosted"]),
        ({"stream": {"gap": 3}}, ["[stream]", "stream.gap", "gap_ms"]),
        ({"stream": {"gap_ms": -3}}, ["[stream]", "stream.gap_ms", "from 0"]),
        ({"stream": {"recording": "none.jsonl"}}, ["[stream] recording", "none.jsonl"]),
        ({"streams": {"x": {"gap": 3}}}, ["[streams.x]", "gap_ms"]),
        ({"validity": {"steal": 3}}, ["[validity]", "steal_ratio"]),
        ({"slo": 3}, ["[slo]: takes a table"]),
        ({"slo": {"ttft_ms_p9": 3}}, ["[slo]: no key 'ttft_ms_p9'", "did you mean 'ttft_ms_p99'"]),
        ({"slo": {"streams": 3}}, ["[slo]: no key 'streams'"]),
        ({"slo": {"ttft_ms_p95": -1}}, ["[slo] ttft_ms_p95: takes a number from 0 to 1000000000, not -1"]),
        ({"slo": {"drops": True}}, ["[slo] drops: takes a number", "not True"]),
        ({"slo": {"completed_ratio": 99}}, ["[slo] completed_ratio: takes a number from 0 to 1, not 99"]),
        ({"slo": {"message": {"ttft": 3}}}, ["[slo.message]: no key 'ttft'", "'ttft_ms'"]),
        ({"slo": {"message": 3}}, ["[slo.message]: takes a table"]),
        ({"slos": {"x": {"delay": 3}}}, ["[slos.x]: no key 'delay'"]),
        ({"slos": {"x": {"message": {"e2e_ms": "1"}}}}, ["[slos.x.message] e2e_ms: takes a number"]),
        ({"cells": [SSE | {"slo": "strict"}]}, ["slo: unknown 'strict'", "[slos.NAME]"]),
        ({"validity": {"steal_ratio": 3}}, ["[validity] steal_ratio", "to 1"]),
        ({"cells": []}, ["[[cells]]"]),
        ({"cells": [{}]}, ["[[cells]] 1", "transport"]),
        ({"cells": [{"transport": "ssse"}]}, ["[[cells]] 1 transport", "'sse'", "polling"]),
        ({"cells": [SSE | {"intervall": 1}]}, ["[[cells]] 1", "intervall", "interval"]),
        ({"cells": [SSE, {"transport": []}]}, ["[[cells]] 2 transport: takes a value, or a list of at least one"]),
        ({"cells": [SSE | {"interval": 1}]}, []),
        ({"cells": [{"transport": "websocket", "head": "late"}]}, ["[[cells]] 1 head", "means nothing to websocket"]),
        ({"cells": [SSE | {"head": "late", "stack": "fastapi"}]}, ["[[cells]] 1 head", "means nothing to a stack"]),
        ({"cells": [SSE | {"interval": 2}]}, ["[[cells]] 1 interval", "means nothing to sse", "polling"]),
        ({"cells": [{"transport": "polling", "interval": 0}]}, ["[[cells]] 1 interval", "from 0.001"]),
        ({"cells": [{"transport": "polling", "wait": [1, "x"]}]}, ["[[cells]] 1 wait", "a number", "'x'"]),
        ({"cells": [{"transport": "chunked", "method": "get"}]}, ["method", "sse"]),
        ({"cells": [SSE | {"recovery": "retry"}]}, ["recovery", "fallback, none, restart, resume"]),
        ({"cells": [{"transport": "blocking", "recovery": "fallback"}]}, ["[[cells]] 1 recovery", "not blocking"]),
        ({"cells": [SSE | {"recovery": "fallback", "method": "get"}]}, ["1 method", "no recovery fallback"]),
        (
            {"cells": [SSE | {"recovery": "fallback", "stack": "fastapi"}]},
            ["1 stack", "no recovery fallback"],
        ),
        ({"load": {"fallback": ["blocking"]}, "cells": [SSE]}, ["[load] fallback", "'blocking'", "websocket"]),
        ({"cells": [{"transport": "polling", "unread": 3}]}, ["[[cells]] 1 unread", "means nothing to polling"]),
        ({"cells": [SSE | {"backoff": "linear"}]}, ["backoff", "constant, jitter"]),
        ({"cells": [SSE | {"profile": "awsalb"}]}, ["profile", "direct"]),
        ({"cells": [SSE | {"load": "bursty"}]}, ["load", "bursty", "[loads.NAME]"]),
        ({"cells": [SSE, SSE]}, ["sse", "stands twice"]),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], words: list[str]) -> None:
    if not words:
        parse(plan_table(**changes))
        return
    with pytest.raises(PlanError) as caught:
        parse(plan_table(**changes))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_files_are_found_beside_the_plan_or_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, here = tmp_path / "plans", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    (folder / "answers.jsonl").write_text('{"deltas": ["a", "b"]}\n')
    (here / "trace.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6,3,4\n")
    (folder / "mine.toml").write_text(
        '[stream]\nrecording = "answers.jsonl"\n[load]\narrivals = "trace"\ntrace = "trace.csv"\n'
        '[[cells]]\ntransport = "sse"\n'
    )
    monkeypatch.chdir(here)
    plan = read_plan(str(folder / "mine.toml"))
    assert plan.name == "mine"
    assert plan.stream["recording"] == str(folder / "answers.jsonl")
    assert plan.load.trace == str(here / "trace.csv")


def test_a_plan_that_is_not_there_or_not_toml(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="did you mean 'quick'"):
        read_plan("quik")
    with pytest.raises(PlanError, match="No such file"):
        read_plan(str(tmp_path / "no.toml"))
    (tmp_path / "bad.toml").write_text("blocks = = 3")
    with pytest.raises(PlanError, match="not TOML"):
        read_plan(str(tmp_path / "bad.toml"))


def test_options_change_the_plan() -> None:
    plan = parse(plan_table(loads={"b": {"streams": 9}}, cells=[SSE, SSE | {"load": "b"}, {"transport": "polling"}]))
    other = with_options(plan, transports=["sse", "chunked"], streams=5, blocks=2, seed=7, time_scale=20.0)
    assert [cell.key for cell in other.cells] == ["sse", "sse load=b", "chunked"]
    assert (other.blocks, other.seed, other.time_scale) == (2, 7, 20.0)
    assert [other.load_of(cell).streams for cell in other.cells] == [5, 5, 5]


def test_limits_of_options_stand_beside_the_plans() -> None:
    plan = parse(plan_table(slo={"drops": 0, "ttft_ms_p95": 500, "message": {"ttft_ms": 500}}))
    other = with_options(plan, slo=from_options({"ttft_ms_p95": 800, "message.e2e_ms": 9000}))
    assert other.slo == {"drops": 0, "ttft_ms_p95": 800, "message": {"ttft_ms": 500, "e2e_ms": 9000}}
    assert with_options(plan, blocks=2).slo == plan.slo


def test_options_spread_recoveries_over_every_cell() -> None:
    plan = with_options(parse(plan_table(cells=[SSE, SSE | {"recovery": "resume"}])), recoveries=["none", "restart"])
    assert [cell.key for cell in plan.cells] == ["sse", "sse restart"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"transports": ["sse", "pollin"]}, ["--transports", "polling"]),
        ({"blocks": 0}, ["blocks", "from 1"]),
        ({"streams": -1}, ["streams", "from 1"]),
        ({"recoveries": ["again"]}, ["recovery", "restart"]),
        ({"profiles": ["nowhere"]}, ["profile", "direct"]),
    ],
)
def test_options_are_checked_like_the_plan(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(PlanError) as caught:
        with_options(parse(plan_table()), **changes)
    for word in words:
        assert word in str(caught.value)


def test_control_copies_one_cell() -> None:
    assert [cell.key for cell in with_control(parse(plan_table())).cells] == ["sse", "polling", "sse copy=aa"]
    without_sse = with_options(parse(plan_table()), transports=["websocket", "polling"])
    assert with_control(without_sse).cells[-1].key == "polling copy=aa"


@pytest.mark.parametrize(
    "table",
    [
        plan_table(control="none"),
        plan_table(cells=[SSE]),
        plan_table(cells=[SSE, SSE | {"copy": "aa"}]),
    ],
)
def test_control_is_not_added(table: dict[str, Any]) -> None:
    plan = parse(table)
    assert with_control(plan) == plan


def test_a_plan_as_saved_reads_back() -> None:
    plan = with_control(read_plan("quick"))
    assert parse(msgspec.json.decode(msgspec.json.encode(plan))) == plan

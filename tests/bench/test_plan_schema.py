"""The plan's JSON Schema and the plan's reader agree: what one takes the other takes, and what one refuses too."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

import pytest
from jsonschema import Draft7Validator

from bench.plan import parse, plan_names
from bench.plan_schema import plan_schema
from bench.slo import LIMITED
from bench.table_checks import PlanError
from servers.transport import TRANSPORTS

SSE = {"transport": "sse"}
VALIDATOR = Draft7Validator(plan_schema())


def test_the_schema_is_one() -> None:
    Draft7Validator.check_schema(plan_schema())
    assert r"\Z" not in str(plan_schema())  # means "the letter Z" to editors written in JavaScript


@pytest.mark.parametrize("name", plan_names())
def test_every_shipped_plan_is_valid(name: str) -> None:
    table = tomllib.loads(files("bench.plans").joinpath(f"{name}.toml").read_text("utf-8"))
    assert [error.message for error in VALIDATOR.iter_errors(table)] == []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"blocks": 3, "time_scale": 20, "control": "none", "story": True},
        {"load": {"streams": 3, "silence_s": 40}, "loads": {"b": {"arrivals": "gamma"}}},
        {"cells": [{"transport": ["sse", "polling"], "heartbeat": 0, "recovery": ["none", "resume"]}]},
        {"cells": [SSE | {"profile": "aws-alb"}, SSE | {"load": "", "reuse": [True, False]}]},
        {"stream": {"profile": "article", "tokens": 5, "text": "hazards"}, "streams": {"x": {}}},
        {"slo": dict.fromkeys(LIMITED, 1) | {"message": {"ttft_ms": 800, "e2e_ms": 1e4}}},
        {"slos": {"x": {"drops": 0}}, "cells": [SSE | {"slo": "x"}]},
        {"cells": [SSE | {"tls": [True, False]}, SSE | {"tls": True, "http": 2, "share": [1, 50]}]},
    ],
)
def test_both_take(changes: dict[str, Any]) -> None:
    table = {"name": "p", "cells": [SSE], **changes}
    assert [error.message for error in VALIDATOR.iter_errors(table)] == []
    parse(table)


@pytest.mark.parametrize(
    "changes",
    [
        {"blcoks": 3},
        {"blocks": 0},
        {"blocks": "3"},
        {"seed": -1},
        {"cells": [SSE | {"http": 3}]},
        {"cells": [SSE | {"http": 2, "tls": True, "share": 0}]},
        {"name": "a b"},
        {"control": "ses"},
        {"load": {"stream": 3}},
        {"load": {"arrivals": "poison"}},
        {"load": {"rate_per_s": -1}},
        {"load": 3},
        {"loads": {"x": {"speedup": 2}}},
        {"loads": {"a b": {}}},
        {"loads": {f"x{k}": {} for k in range(33)}},
        {"stream": {"profile": "hostd"}},
        {"stream": {"gap": 3}},
        {"stream": {"gap_ms": -3}},
        {"stream": {"flush": "never"}},
        {"streams": {"x": {"tokens": 0}}},
        {"validity": {"steal_ratio": 3}},
        {"validity": {"steal": 3}},
        {"slo": {"ttft_ms_p9": 3}},
        {"slo": {"completed_ratio": 99}},
        {"slo": {"message": {"ttft": 3}}},
        {"slos": {"x": {"drops": -1}}},
        {"cells": []},
        {"cells": [{}]},
        {"cells": SSE},
        {"cells": [{"transport": "ssse"}]},
        {"cells": [{"transport": []}]},
        {"cells": [SSE | {"intervall": 1}]},
        {"cells": [SSE | {"recovery": ["retry"]}]},
        {"cells": [SSE | {"profile": "awsalb"}]},
        {"cells": [{"transport": "polling", "wait": [1, "x"]}]},
    ],
)
def test_both_refuse(changes: dict[str, Any]) -> None:
    table = {"name": "p", "cells": [SSE], **changes}
    assert not VALIDATOR.is_valid(table)
    with pytest.raises(PlanError):
        parse(table)


def test_it_knows_every_name_that_an_editor_can_complete() -> None:
    cell = plan_schema()["$defs"]["Cell"]["properties"]
    assert cell["transport"]["anyOf"][0]["enum"] == list(TRANSPORTS)
    assert {"direct", "aws-alb", "real:nginx"} <= set(cell["profile"]["anyOf"][0]["anyOf"][0]["enum"])
    assert set(plan_schema()["$defs"]["Slo"]["properties"]) == {*LIMITED, "message"}


def test_comments_beside_fields_are_what_an_editor_says_of_them() -> None:
    parts = plan_schema()["$defs"]
    assert parts["Cell"]["properties"]["reuse"]["description"] == "keep connections for later requests"
    assert parts["Load"]["properties"]["silence_s"]["description"].startswith("the client gives a connection up after")
    assert parts["Slo"]["properties"]["drops"]["description"] == "the most that it may be"
    assert parts["MessageLimits"]["properties"]["e2e_ms"]["description"].startswith("the whole answer")

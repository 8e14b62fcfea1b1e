"""What is asked of stacks beside plans: who notices that a client has left, and how many streams a core bears."""

from __future__ import annotations

import math
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner

from bench.stacks import stream_limit
from bench.stacks.leaving import leave_each_way
from bench.stacks.stacks_command import stacks
from bench.stacks.stream_limit import most_streams

SECONDS = 0.6
TOKENS = 12


def test_who_notices_that_a_client_has_left() -> None:
    """At once; with the next token; or never, as with any client that vanishes without a word."""
    asked = (("sse", "fastapi"), ("chunked", "flask-gthread"), ("websocket", "fastapi-hypercorn"))
    with ThreadPoolExecutor(len(asked)) as threads:
        at_once, next_token, never = threads.map(lambda ask: leave_each_way(ask[0], ask[1], SECONDS), asked)
    for left in (at_once, next_token):
        assert left["FIN"].noticed
        assert left["RST"].noticed
        assert left["FIN"].tokens < TOKENS - 1
    assert [left["black hole"].noticed for left in (at_once, next_token, never)] == [False] * 3
    assert (at_once["FIN in a silence"].tokens, next_token["FIN in a silence"].tokens) == (0, 1)
    assert not never["FIN"].noticed
    assert not never["RST"].noticed


def test_the_command_prints_a_row_per_stack_and_says_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--no-such-option")
    monkeypatch.setitem(sys.modules, "granian", None)  # as where it is not installed
    asked = [
        "leaving",
        "--stacks",
        "picows,flask-gthread,fastapi-granian",
        "--transports",
        "websocket,chunked",
        "--seconds",
        "0.5",
    ]
    result = CliRunner().invoke(stacks, asked)
    assert result.exit_code == 0
    picows, flask = (next(line for line in result.output.splitlines() if name in line) for name in ("picows", "flask"))
    assert "to its end" in picows
    assert "failed" in flask
    assert "left out: fastapi-granian needs granian: in the project's folder" in result.stderr


def test_a_stack_is_loaded_and_its_cost_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_limit, "RAMP_S", 0.2)
    monkeypatch.setattr(stream_limit, "STEADY_S", 0.5)
    monkeypatch.setattr(stream_limit, "STACK_LIMIT_MS", 5_000.0)
    borne = most_streams("sse", "flask-gevent", steps=(2,), most_steps=1)
    assert borne.streams == 2
    assert 0 < borne.cpu_us_per_token < math.inf
    assert math.isfinite(borne.bytes_per_stream)

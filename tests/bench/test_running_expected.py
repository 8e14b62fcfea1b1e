"""How long a run will take: worked out on paper."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest

from bench.plan import parse, plan_names, read_plan, with_control
from bench.running.blocks import schedule
from bench.running.expected import BLOCK_S, START_S, Expected, duration, expected


def of(**changes: Any) -> Expected:
    """One cell of 21 messages, one each 100 ms, answers of exactly 1 s."""
    plan = parse(
        {
            "name": "p",
            "blocks": 1,
            "load": {"arrivals": "constant", "rate_per_s": 10, "streams": 20, "warmup_streams": 0, "timeout_s": 30},
            "stream": {"ttft_ms": 1000, "ttft_sigma": 0, "gap_ms": 0, "gap_sigma": 0, "tokens": 5},
            "cells": [{"transport": "sse"}],
        }
        | changes
    )
    return expected(plan, schedule(plan))


ALONE_S = BLOCK_S + START_S + 2.0 + 1.0


def test_starts_then_the_last_answer() -> None:
    assert of() == Expected(ALONE_S, ALONE_S)
    assert of(blocks=3).at_best_s == pytest.approx(3 * ALONE_S)
    assert of(time_scale=20).at_best_s == pytest.approx(BLOCK_S + START_S + 3 / 20)


def test_cells_one_after_the_other_or_side_by_side() -> None:
    cells = [{"transport": ["sse", "chunked", "websocket", "blocking"]}]
    assert of(cells=cells).at_best_s == pytest.approx(BLOCK_S + 4 * (ALONE_S - BLOCK_S))
    assert of(cells=cells, parallel=2).at_best_s == pytest.approx(BLOCK_S + 2 * (ALONE_S - BLOCK_S))
    assert of(cells=cells, parallel=64).at_best_s == pytest.approx(ALONE_S)


def test_polls_conversations_and_drops() -> None:
    assert of(cells=[{"transport": "polling", "interval": 5}]).at_best_s == pytest.approx(ALONE_S + 5)
    talk = {"arrivals": "constant", "rate_per_s": 10, "streams": 20, "turns": 2, "think_s": 7, "warmup_streams": 0}
    assert of(load=talk).at_best_s == pytest.approx(BLOCK_S + START_S + 1 + (1 + 7 + 1))
    dropped = of(cells=[{"transport": "sse", "profile": "aws-alb"}])
    assert (dropped.at_best_s, dropped.at_worst_s) == pytest.approx((ALONE_S, ALONE_S + 29))
    assert dropped.text() == "about 5 s, up to 35 s where messages are dropped"


def test_only_what_is_left_counts() -> None:
    plan = with_control(read_plan("quick"))
    cells = schedule(plan)
    assert expected(plan, cells[:6]).at_best_s == pytest.approx(expected(plan, cells).at_best_s / 5)


def test_the_shipped_plans_take_what_they_say() -> None:
    """Under 3, 4, 30 and 10 minutes; about 6 and 2; under 5, 4 and 3."""
    limits_s = {"quick": 180, "timeouts": 240, "full": 1800, "article": 390, "calibrate": 130, "stacks": 600}
    limits_s |= {"dialects": 300, "browser": 160}  # the latter and half as much again for void cells: under 4 minutes
    assert set(plan_names()) == set(limits_s) | {"http2"}
    if shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        plan = with_control(read_plan("http2"))  # its intermediaries drop nothing for good
        assert expected(plan, schedule(plan)).at_best_s < 180
    for name, limit_s in limits_s.items():
        plan = with_control(read_plan(name))
        assert expected(plan, schedule(plan)).at_worst_s < limit_s, name


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.3, "5 s"),
        (42, "40 s"),
        (55, "1 min"),
        (148, "2 min 30 s"),
        (599, "10 min"),
        (1463, "24 min"),
        (3599, "1 h"),
        (4200, "1 h 10 min"),
    ],
)
def test_durations_are_rounded(seconds: float, text: str) -> None:
    assert duration(seconds) == text

"""A server under load: what both sides spent, requests and tokens apart."""

from __future__ import annotations

import os

import numpy as np
import pytest

from bench.selfcost.child_process import ChildError
from bench.selfcost.loaded_server import Loaded, run_load
from bench.selfcost.transport_cost import Parts, SteadyTraffic, apart, medians
from clients.job import Load

TINY = SteadyTraffic(streams=3, tokens_per_s=50, seconds=0.2)


def loaded(messages: int, tokens_each: int, server_cpu_s: float) -> Loaded:
    of_tokens = np.zeros(messages * tokens_each, np.int64)
    return Loaded(messages, 2 * server_cpu_s, server_cpu_s, 0, 0.0, of_tokens, of_tokens, of_tokens)


def test_two_runs_tell_a_request_from_a_token() -> None:
    # 700 µs a request and 30 µs a token: 200 × 700 + 50,000 × 30 µs; 1,000 × 700 + 5,000 × 30 µs.
    parts = apart(loaded(200, 250, 1.64), loaded(1000, 5, 0.85))
    assert parts.us_per_request == pytest.approx(700)
    assert parts.us_per_token == pytest.approx(30)
    assert medians([parts, Parts(1, 1), Parts(900, 900)]).us_per_request == pytest.approx(700)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no pinning here")
def test_one_usable_core_that_is_not_the_first_will_do() -> None:
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(usable)})
    try:
        run = run_load("chunked", TINY.load, TINY.stream(3, ttft_ms=50))
    finally:
        os.sched_setaffinity(0, usable)
    assert (run.messages, run.tokens) == (3, 9)


def test_a_server_that_does_not_start_is_an_error() -> None:
    with pytest.raises(ChildError, match="ended"):
        run_load("pigeon", Load(streams=1), {})

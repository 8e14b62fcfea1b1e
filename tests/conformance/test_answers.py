"""Every transport × every kind of answer: an independent client gets exactly the scheduled text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.processes import RunningServer
from support.transports import ASK

from servers.stream import PROFILES, StreamSpec, build
from servers.transport import TRANSPORTS

Servers = Callable[[str], RunningServer]
SHORT: dict[str, Any] = {"profile": "fast", "tokens": 12}
CASES: dict[str, dict[str, Any]] = {
    "normal": SHORT,
    "one token": {"profile": "fast", "tokens": 1},
    "bursts": {"profile": "fast", "tokens": 40, "flush": "geometric", "per_emission": 4},
    "speculative": {"profile": "speculative", "tokens": 30, "ttft_ms": 10, "gap_ms": 2},
    "everything at once": {"profile": "fast", "tokens": 3000, "ttft_ms": 0, "gap_ms": 0, "gap_sigma": 0},
    "a stall": {"profile": "fast", "tokens": 3, "stall_probability": 1, "stall_ms": 300},
    "hazards": {"profile": "hazards"},
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("case", CASES)
def test_the_scheduled_text_arrives(server: Servers, transport: str, case: str) -> None:
    body = {"message": "hello", "seed": 7, "stream": CASES[case]}
    answer = ASK[transport](server(transport).url, body).check()
    schedule = build(StreamSpec.parse(CASES[case]), 7)
    assert [token["t"] for token in answer.tokens] == list(schedule.texts)
    first_due = answer.tokens[0]["due"] - schedule.due_ns[0]
    assert [token["due"] - first_due for token in answer.tokens] == list(schedule.due_ns)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_profile_by_name_and_the_defaults(server: Servers, transport: str) -> None:
    answer = ASK[transport](server(transport).url, {"message": "", "stream": "hazards", "seed": 0}).check()
    assert answer.text == "".join(build(PROFILES["hazards"], 0).texts)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("first", [1, 11, 12])
def test_an_answer_can_be_resumed_at_any_index(server: Servers, transport: str, first: int) -> None:
    url, body = server(transport).url, {"message": "hello", "seed": 3, "stream": SHORT}
    body["stream_id"] = f"resumed-{transport}-{first}"
    whole = ASK[transport](url, body).check()
    rest = ASK[transport](url, body | {"from": first}).check(first)
    assert [t["t"] for t in rest.tokens] == [t["t"] for t in whole.tokens[first:]]
    assert rest.end == whole.end


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_counters_add_up(server: Servers, transport: str) -> None:
    running = server(transport)
    before = running.get("/stats")
    ASK[transport](running.url, {"message": "hello", "stream": SHORT}).check()
    after = running.get("/stats")
    assert after["transport"] == transport
    assert after["streams_started"] - before["streams_started"] == 1
    assert after["streams_completed"] - before["streams_completed"] == 1
    assert after["tokens_sent"] - before["tokens_sent"] == 12
    assert after["streams_active"] == 0
    assert after["requests"] > before["requests"]
    assert after["cpu_seconds"] >= before["cpu_seconds"]
    assert after["rss_bytes"] > 1_000_000
    assert after["emit_lag_us_p99"] > 0
    assert (after["redis_commands"] > before["redis_commands"]) == TRANSPORTS[transport].needs_redis


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_clock_is_this_machine_s_monotonic_clock(server: Servers, transport: str) -> None:
    import time

    before = time.monotonic_ns()
    told = server(transport).get("/clock")["monotonic_ns"]
    assert before < told < time.monotonic_ns()
    assert server(transport).get("/healthz") == {"transport": transport}

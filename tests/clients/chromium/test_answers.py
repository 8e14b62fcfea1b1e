"""What a page tells becomes the same records as any client's, and what it painted."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from clients.chromium.answers import PageAnswer, failure_of, painted_of, record_of
from clients.chromium.page_clock import PageClock
from clients.core.exchange import Question
from clients.core.record import Outcome
from clients.job import Load
from servers.stream import StreamSpec, build

STREAM = {"profile": "fast", "tokens": 4, "ttft_ms": 10, "gap_ms": 10}
SCHEDULE = build(StreamSpec.parse(STREAM), 1)
CLOCK = PageClock(offset_ns=1_000_000, error_ns=50_000)
QUESTION = Question("s", 1, STREAM, SCHEDULE, intended_start_ns=CLOCK.ns(100))
WHOLE: dict[str, Any] = {
    "k": 0,
    "intendedMs": 100,
    "startMs": 101,
    "endMs": 150,
    "failure": "",
    "tokens": {
        "i": [0, 1, 2, 3],
        "text": list(SCHEDULE.texts),
        "due": [0, 0, 0, 0],
        "sent": [0, 0, 0, 0],
        "atMs": [112, 122, 122, 140],
        "read": [1, 2, 2, 3],
    },
    "frames": [[120, 1], [136, 2], [152, 1]],
    "dropped": 2,
    "attempts": [{"cause": "", "tokens": 4, "startMs": 0, "endMs": 49}],
    "requests": 1,
    "seen": [{"protocol": "h2", "waitedMs": 3, "headMs": 5, "isConnecting": True, "dnsMs": 0, "tcpMs": 1, "tlsMs": 2}],
    "longTasksMs": [60, 55],
    "shownMs": 121,
}


def answer(**changes: Any) -> PageAnswer:
    return msgspec.convert(WHOLE | changes, PageAnswer)


def test_a_whole_answer() -> None:
    record = record_of(answer(), QUESTION, CLOCK, Load(), is_socket=False)
    assert (record.outcome, record.text_ok, record.tokens_received, record.drops) == (Outcome.OK, True, 4, 0)
    assert list(record.received_ns) == [CLOCK.ns(ms) for ms in (112, 122, 122, 140)]
    assert record.read[1] == record.read[2] != record.read[3]
    assert (record.start_ns, record.first_token_ns, record.end_ns) == tuple(map(CLOCK.ns, (101, 112, 150)))
    assert (record.requests, record.connections, record.head_ms, record.tcp_ms, record.tls_ms) == (1, 1, 5, 1, 2)
    assert record.bytes_in is None


def test_what_was_painted() -> None:
    painted = painted_of(answer(), "s", CLOCK)
    assert (painted.first_painted_ns, painted.last_painted_ns) == (CLOCK.ns(120), CLOCK.ns(152))
    assert (painted.frames, painted.tokens_painted, painted.frames_dropped) == (3, 4, 2)
    assert (painted.painted_gap_ms_max, painted.long_tasks, painted.long_tasks_ms) == (16, 2, 115)
    assert (painted.waited_ms, painted.protocol, painted.clock_error_ns) == (3, "h2", 50_000)


def test_nothing_was_painted() -> None:
    painted = painted_of(answer(frames=[], seen=[], shownMs=0), "s", CLOCK)
    assert (painted.first_painted_ns, painted.first_shown_ns, painted.painted_gap_ms_max) == (0, 0, None)


def test_the_ledger_judges_what_the_module_let_through() -> None:
    wrong = WHOLE["tokens"] | {"text": ["x", *SCHEDULE.texts[1:]]}
    assert record_of(answer(tokens=wrong), QUESTION, CLOCK, Load(), is_socket=False).outcome is Outcome.ALTERED


def test_a_drop_and_what_it_cost() -> None:
    attempts = [
        {"cause": "network", "tokens": 1, "startMs": 0, "endMs": 14, "waitMs": 3},
        {"cause": "", "tokens": 3, "startMs": 17, "endMs": 49},
    ]
    record = record_of(answer(attempts=attempts, requests=2), QUESTION, CLOCK, Load(), is_socket=True)
    assert (record.outcome, record.drops, record.noticed_by, record.connections) == (Outcome.OK, 1, ["network"], 2)
    assert record.requests == 4  # two upgrades, and a request on each
    assert record.recovery_ms == pytest.approx(122 - 115)
    assert math.isnan(record.tcp_ms)


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("timeout", Outcome.TIMEOUT),
        ("silence", Outcome.TIMEOUT),
        ("token silence", Outcome.TIMEOUT),
        ("status 502", Outcome.HTTP_ERROR),
        ("error busy", Outcome.HTTP_ERROR),
        ("refused", Outcome.REFUSED),
        ("close 1006", Outcome.TRUNCATED),
        ("end", Outcome.TRUNCATED),
        ("network", Outcome.DROPPED),
        ("gap", Outcome.PROTOCOL_ERROR),
        ("TypeError: x is not a function", Outcome.CLIENT_ERROR),
    ],
)
def test_every_reason_has_its_outcome(reason: str, outcome: Outcome) -> None:
    assert failure_of(reason, Load()).outcome is outcome
    cut = {"failure": reason, "tokens": {name: values[:2] for name, values in WHOLE["tokens"].items()}}
    record = record_of(answer(**cut), QUESTION, CLOCK, Load(), is_socket=False)
    assert (record.outcome, record.tokens_lost) == (outcome, 2)

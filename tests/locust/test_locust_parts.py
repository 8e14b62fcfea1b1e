"""The parts of the locustfile that need no Locust, each on paper."""

from __future__ import annotations

import math
import socket
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import gevent
import pytest

from clients.core.clock import Account, get_json
from clients.core.record import Outcome, StreamRecord
from clients.core.settings import ClientSettings
from clients.drivers.gev import GeventClient
from clients.job import Job, Load
from clients.load import Phase, Users, _result
from clients.locusts.batch import MAX_TOKENS, Batch, Health, pack, portions, unpack
from clients.locusts.knee_climb import Climb
from clients.locusts.live import Live, Point
from clients.locusts.options import (
    OptionError,
    Options,
    add_arguments,
    check_knee,
    check_token,
    endpoints_in,
)
from clients.locusts.recorder import Recorder, block_count, edges_ns
from clients.locusts.request_events import fire_events
from clients.locusts.worker_load import WorkerLoad
from clients.timer import Timer
from servers.transport import STREAMING

MS = 1_000_000
_NOBODY = "http://127.0.0.1:9"


def record_of(delays_ms: list[float], outcome: Outcome = Outcome.OK, lost: int = 0) -> StreamRecord:
    """A message that began at 1,000 ms with a token every 10 ms from 1,100 ms on, each late by its delay."""
    n = len(delays_ms)
    due = array("q", [(1100 + 10 * k) * MS for k in range(n)])
    received = array("q", [d + round(delay * MS) for d, delay in zip(due, delays_ms, strict=True)])
    record = StreamRecord("s", 1000 * MS, n + lost, start_ns=1001 * MS, outcome=outcome, tokens_received=n)
    record.tokens_lost, record.requests, record.bytes_in = lost, 2, 500
    record.i, record.due_ns, record.received_ns = array("q", range(n)), due, received
    record.sent_ns, record.read = array("q", due), array("q", range(n))
    record.first_token_ns = received[0] if n else 0
    record.end_ns = received[-1] if outcome is Outcome.OK else 0
    return record


class _Parser:
    """Collects options as Locust's parser does."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}

    def add_argument(self, name: str, default: object = False, **_: object) -> None:
        self.given[name.removeprefix("--").replace("-", "_")] = default


def given(**changes: object) -> dict[str, Any]:
    parser = _Parser()
    add_arguments(parser)
    urls = {f"{transport}_url": "http://127.0.0.1:1" for transport in STREAMING}
    return parser.given | urls | changes


class TestOptions:
    def test_defaults(self) -> None:
        options = Options.of(given(), None, STREAMING)
        assert set(options.urls) == set(STREAMING)
        assert (options.silence_s, options.recovery, options.stream) == (None, "none", {"profile": "hosted"})
        assert [options.cell(transport) for transport in STREAMING] == list(STREAMING)

    def test_words_of_a_cell(self) -> None:
        changes = {"poll_interval": 0.1, "server_heartbeat": 15.0, "network_profile": "aws-alb", "recovery": "resume"}
        options = Options.of(given(**changes), None, STREAMING)
        assert options.cell("polling") == "polling heartbeat=15 interval=0.1 aws-alb resume"
        assert options.cell("sse") == "sse heartbeat=15 aws-alb resume"
        assert options.settings("polling").interval_s == 0.1

    def test_who_goes_over_has_the_test_s_other_servers(self) -> None:
        urls = {f"{name}_url": f"http://127.0.0.1:1/{name}" for name in STREAMING}
        options = Options.of(given(recovery="fallback", token_silence=3, **urls), None, ("websocket", "polling"))
        settings = options.settings("websocket")
        assert settings.others == {"polling": "http://127.0.0.1:1/polling"}
        assert (settings.recovery.mode, settings.token_silence_s) == ("fallback", 3)
        assert Options.of(given(recovery="resume"), None, STREAMING).settings("websocket").others == {}

    def test_long_polling_has_no_interval(self) -> None:
        options = Options.of(given(poll_wait=20, poll_interval=0.1), None, ("polling",))
        assert options.cell("polling") == "polling wait=20"

    def test_stream_parameters(self) -> None:
        options = Options.of(given(stream_parameters="tokens=40 text=hazards"), None, ("sse",))
        assert options.stream == {"profile": "hosted", "tokens": 40, "text": "hazards"}

    def test_host_serves_a_single_class(self) -> None:
        assert Options.of(given(sse_url=""), "http://h:2/", ("sse",)).urls == {"sse": "http://h:2"}

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"sse_url": ""}, "--sse-url: not given, but there are users of sse"),
            ({"chunked_url": "ftp://x"}, "--chunked-url: takes an address"),
            ({"stream_parameters": "tokens"}, "--stream-parameters: takes key=value words"),
            ({"stream_parameters": "token=4"}, "did you mean 'tokens'?"),
            ({"think_time": "soon"}, "--think-time: takes seconds"),
            ({"message_timeout": 0}, "--message-timeout: takes seconds from 0.1"),
            ({"recovery": "hope"}, "--recovery: takes one of none, restart, resume"),
            ({"seed": -1}, "--seed: takes a whole number"),
            ({"sse_url": "http://["}, "--sse-url: takes an address"),
            ({"sse_url": "http://h:99999"}, "--sse-url: takes an address"),
            ({"stream_parameters": "recording=answers.jsonl"}, "--stream-parameters: recording: only a plan"),
            ({"stream_parameters": "tokens=20000 gap_ms=500"}, "the answer would last over 3600 s"),
            ({"stream_parameters": "gap_ms=600000"}, "the answer would last over 3600 s"),
            ({"stream_parameters": "tokens_median=1 tokens_max=20000 gap_ms=1000"}, "would last over 3600 s"),
        ],
    )
    def test_mistakes_name_the_option(self, changes: dict[str, object], told: str) -> None:
        with pytest.raises(OptionError, match=r"^--") as error:
            Options.of(given(**changes), None, STREAMING)
        assert told in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("knee_step", 0), ("knee_step", "1.5"), ("knee_step", "many"), ("knee_most", -1), ("knee_delay_ms", math.nan)],
)
def test_a_search_that_could_not_climb_is_refused(name: str, value: object) -> None:
    with pytest.raises(OptionError, match=f"--{name.replace('_', '-')}: takes a (whole )?number from"):
        check_knee(given(**{name: value}))
    check_knee(given(knee_step=10, knee_most=1000, knee_delay_ms=20.0, knee_hold="12"))


class TestToken:
    """The servers' token goes to those that were named at the start."""

    NAMED = endpoints_in(given(sse_url="http://a:80/", chunked_url="http://b:8003"), "http://c:1")

    @pytest.mark.parametrize("url", ["http://a", "http://A:80", "http://b:8003/x", "http://c:1"])
    def test_to_a_configured_server(self, url: str) -> None:
        check_token(Options.of(given(sse_url=url, auth_token="secret"), None, ("sse",)), self.NAMED)

    @pytest.mark.parametrize(
        "url", ["http://evil.example", "http://b", "http://a:81", "https://a:80", "http://a@evil:80"]
    )
    def test_to_nobody_else(self, url: str) -> None:
        options = Options.of(given(sse_url=url, auth_token="secret"), None, ("sse",))
        with pytest.raises(OptionError, match=r"--sse-url: .* was not named when Locust was started") as error:
            check_token(options, self.NAMED)
        assert "secret" not in str(error.value)

    def test_without_a_token_any_server_will_do(self) -> None:
        check_token(Options.of(given(sse_url="http://evil.example"), None, ("sse",)), self.NAMED)

    def test_a_redirect_is_not_followed(self) -> None:
        """Else `/stats` of a configured server could have the token sent anywhere."""
        with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as (elsewhere, asked):
            head = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere}/stats\r\nContent-Length: 0\r\n\r\n"
            with answering(head.encode()) as (server, _):
                client = GeventClient("sse", ClientSettings(server, "secret"))
                with pytest.raises(ValueError, match="status 302"):
                    client.run(get_json(client.session, "/stats"))
        assert asked == []


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers every connection so; its URL, and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                connection, _ = listening.accept()
                with connection:
                    if not (question := connection.recv(65_536)):
                        return
                    asked.append(question)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
        socket.create_connection(listening.getsockname()).close()
        thread.join(5)


class TestBatch:
    def test_what_was_packed_comes_out(self) -> None:
        record = record_of([1.0, 2.5])
        record.drops_at_ns = [(1, 3)]
        assert unpack(pack(record)) == record

    def test_another_clock(self) -> None:
        dropped = record_of([1.0], Outcome.TRUNCATED)
        dropped.requests_at_ns, dropped.drops_at_ns = [1, 2], [(1, 3)]
        shifted = unpack(pack(dropped), 7)
        assert (shifted.requests_at_ns, shifted.drops_at_ns) == ([8, 9], [(8, 10)])
        assert (shifted.intended_start_ns, shifted.received_ns[0]) == (1000 * MS + 7, 1101 * MS + 7)
        assert shifted.end_ns == 0  # never stays never

    def test_encoding(self) -> None:
        batch = Batch(
            "1",
            5,
            [("sse", pack(record_of([1.0])))],
            {"sse": {"tokens": 2}},
            Health(1, 2, 0.5, [3]),
            {"sse": 4},
            ["note"],
        )
        assert Batch.decode(batch.encode()) == batch

    def test_portions_are_bounded(self) -> None:
        long = record_of([0.0] * (MAX_TOKENS // 2))
        found = list(portions([("sse", long)] * 5))
        assert [len(portion) for portion in found] == [2, 2, 1]
        assert list(portions([])) == []


@pytest.mark.parametrize(
    ("messages", "blocks"), [(0, 1), (4, 1), (10, 2), (25, 5), (99, 5), (120, 6), (400, 20), (10_000, 20)]
)
def test_block_count(messages: int, blocks: int) -> None:
    assert block_count(messages) == blocks


@pytest.mark.parametrize("first_ns", [1, 1 << 55])
@pytest.mark.parametrize(("starts", "blocks"), [([0], 1), ([0, 1], 2), ([0, 7, 8, 1_000_000_006], 3)])
def test_every_start_is_in_one_block(first_ns: int, starts: list[int], blocks: int) -> None:
    """Also where the machine has been up for longer than whole numbers of ns fit into a float."""
    starts_ns = [first_ns + start for start in starts]
    edges = edges_ns(starts_ns, blocks)
    assert len(edges) == blocks + 1
    assert [sum(a <= start < b for a, b in pairwise(edges)) for start in starts_ns] == [1] * len(starts)
    assert max(b - a for a, b in pairwise(edges)) - min(b - a for a, b in pairwise(edges)) <= 1


def _recovered() -> StreamRecord:
    """Its tokens came again and so were sent late; that was the drop's doing."""
    record = record_of([900.0] * 4)
    record.sent_ns = array("q", [sent_ns + 800 * MS for sent_ns in record.sent_ns])
    record.drops, record.attempts, record.requests_at_ns = 1, 2, [1001 * MS, 1900 * MS]
    return record


@pytest.mark.parametrize(
    "records",
    [
        [record_of([], Outcome.REFUSED, lost=4)],
        [_recovered()],
        [record_of([1.0, 2.0]), _recovered(), record_of([3.0], Outcome.TRUNCATED, lost=1)],
    ],
    ids=["refused", "recovered", "all kinds"],
)
async def test_the_same_messages_are_judged_as_the_load_process_judges_them(
    records: list[StreamRecord], tmp_path: Path
) -> None:
    job = Job(transport="sse", url=_NOBODY, out="", block=1, cell="sse", seed=1, load=Load(), stream={})
    timer = Timer()
    phase = Phase(job, Users("sse", ClientSettings(_NOBODY)), timer, "s", [])
    timer.close()
    result = _result("sse", phase, records, Account("", 0, []), cpu_s=0.1)
    recorder = Recorder(Options.of(given(sse_url=_NOBODY, results_dir=str(tmp_path)), None, ("sse",)))
    epoch_ns = time.time_ns() - time.monotonic_ns()
    health = Health(1000 * MS, 1100 * MS, 0.1)
    list(recorder.receive(Batch("1", epoch_ns, [("sse", pack(record)) for record in records], {}, health)))
    folder = recorder.finish([], {})
    (cell,) = folder.load().cells
    alike = ("emit_lag_ms_p99", "emit_early_ms_max", "delay_ms_p50", "generator_lag_ms_p99", "requests_worst_second")
    assert {name: getattr(cell, name) for name in alike} == {name: getattr(result, name) for name in alike}
    assert (cell.messages, cell.failed_messages, cell.reasons) == (result.messages, result.failed, [])
    assert cell.client_cpu_ratio is None, "within a tenth of a second nobody can tell"


class TestEvents:
    def fired(self, record: StreamRecord) -> dict[str, tuple[float, str]]:
        seen: dict[str, tuple[float, str]] = {}

        def fire(**event: Any) -> None:
            assert event["request_type"] == "sse"
            seen[event["name"]] = (event["response_time"], str(event["exception"] or ""))

        record.response_ms = [3.0]
        fire_events(fire, "sse", record, 5000 * MS)
        return seen

    def test_a_whole_message(self) -> None:
        seen = self.fired(record_of([float(k) for k in range(1, 101)]))
        assert seen["TTFT"] == (101.0, "")
        assert seen["delay p50"] == (50.0, "")
        assert seen["delay p99"] == (99.0, "")
        assert seen["message"] == (100.0 + 990.0 + 100.0, "")
        assert seen["requests"] == (3.0, "")

    def test_no_p99_of_a_few_tokens(self) -> None:
        assert "delay p99" not in self.fired(record_of([1.0] * 99))

    def test_a_truncated_message_is_a_failure(self) -> None:
        record = record_of([1.0], Outcome.TRUNCATED, lost=3)
        record.detail = "fin: the connection was closed within the response"
        seen = self.fired(record)
        assert seen["message"] == (4000.0, "truncated: fin: the connection was closed within the response")
        assert seen["TTFT"] == (101.0, "")

    def test_nothing_came(self) -> None:
        seen = self.fired(record_of([], Outcome.REFUSED, lost=3))
        assert seen["message"] == seen["TTFT"] == (4000.0, "refused")


class TestLive:
    def test_a_point(self) -> None:
        live = Live()
        live.count("0", {"sse": {"tokens": 0, "requests": 0}})
        live.tick(99.0)
        live.add("sse", record_of([float(k) for k in range(400)]), 99.5)
        live.count("0", {"sse": {"tokens": 400, "requests": 3}})
        live.count("1", {"sse": {"tokens": 20, "requests": 1}})
        live.tick(101.0)
        point = live.last()["sse"]
        assert point["ttft_ms_p50"] == 100.0
        assert (point["delay_ms_p50"], point["delay_ms_p99"]) == (200.0, 396.0)
        assert (point["tokens_per_s"], point["requests_per_s"]) == (210.0, 2.0)
        assert point["drop_percent"] == 0

    def test_failures_are_infinitely_late(self) -> None:
        live = Live()
        live.count("0", {"sse": {}})
        live.add("sse", record_of([1.0], Outcome.TRUNCATED, lost=9), 1.0)
        live.tick(1.0)
        point = live.last()["sse"]
        assert point["ttft_ms_p50"] == point["delay_ms_p50"] == math.inf
        assert (point["drop_percent"], point["delay_ms_p99"]) == (100, None)

    def test_the_window_passes(self) -> None:
        live = Live()
        live.count("0", {"sse": {}})
        live.add("sse", record_of([1.0]), 1.0)
        live.tick(12.0)
        assert live.last()["sse"]["ttft_ms_p50"] is None


def climb_through(climb: Climb, delay_of: dict[int, float]) -> int | None:
    users: int | None = 0
    for second in range(1000):
        points: dict[str, Point] = {"sse": {"delay_ms_p99": delay_of.get(climb.users, 1.0), "drop_percent": 0.0}}
        users = climb.next(float(second), points)
        if users is None:
            return climb.knee
    raise AssertionError("the climb does not end")


class TestKnee:
    def test_the_step_before_the_limit_broke(self) -> None:
        climb = Climb(20.0, 10, 100, 12.0)
        assert climb_through(climb, {40: 25.0}) == 30
        assert [step["sse"] for step in climb.seen] == [1.0, 1.0, 1.0, 25.0]

    def test_even_the_first_step_broke(self) -> None:
        climb = Climb(20.0, 10, 100, 12.0)
        assert climb_through(climb, {10: 25.0}) == 0
        assert climb.sentence == "the knee is below the first step (sse: p99 delay 25.0 ms > 20 ms at 10 users)"

    def test_a_last_step_that_is_smaller(self) -> None:
        assert climb_through(Climb(20.0, 10, 25, 12.0), {25: 25.0}) == 20

    def test_no_limit_was_reached(self) -> None:
        climb = Climb(20.0, 10, 25, 12.0)
        assert climb_through(climb, {}) == 25
        assert climb.sentence.startswith("no knee up to 25 users: no limit was reached")
        assert [step["users"] for step in climb.seen] == [10, 20, 25]

    def test_one_slow_second_is_no_knee(self) -> None:
        climb = Climb(20.0, 10, 20, 10.0)
        quiet, slow = (dict[str, Point]({"sse": {"delay_ms_p99": ms, "drop_percent": 0.0}}) for ms in (1.0, 30.0))
        assert [climb.next(t, p) for t, p in ((0.0, quiet), (11.0, slow), (12.0, quiet))] == [10, 10, 20]

    def test_drops_break_it_too(self) -> None:
        climb = Climb(20.0, 10, 20, 10.0)
        points: dict[str, Point] = {"sse": {"delay_ms_p99": None, "drop_percent": 5.0}}
        assert [climb.next(t, points) for t in (0.0, 11.0, 12.0)] == [10, 10, None]
        assert climb.why == "sse: 5.0 % of the messages dropped or failed at 10 users"

    def test_what_it_has_found_so_far(self) -> None:
        """A test that is ended early has no knee, and JSON no infinity."""
        climb = Climb(20.0, 10, 30, 10.0)
        points: dict[str, Point] = {"sse": {"delay_ms_p99": math.inf, "drop_percent": 0.0}}
        assert [climb.next(t, points) for t in (0.0, 11.0)] == [10, 10]
        assert climb.sentence == "the knee was not found: the search was ended at 10 users"
        assert climb.next(12.0, points) is None
        assert climb.told["users"] == 0
        assert climb.told["p99_delay_ms"] == [{"users": 10, "sse": "inf"}]


def test_a_worker_that_stands_still_is_late_with_every_beat_that_it_missed() -> None:
    told: list[Batch] = []
    load = WorkerLoad(Options.of(given(), None, ()), 0, lambda data: told.append(Batch.decode(data)))
    gevent.sleep(0.05)
    time.sleep(0.3)  # as a user's own code might do
    gevent.sleep(0.05)
    load.finish()
    late = [lag for batch in told if batch.health for lag in batch.health.loop_lags_ns if lag > 50 * MS]
    assert max(late) >= 270 * MS
    assert len(late) >= 11

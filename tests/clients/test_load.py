"""The load process, as the runner starts it, against real servers; and its parts."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from support.processes import RunningServer, running_server
from support.scripted import closed_port

from clients.core.session import Script, Session
from clients.core.settings import ClientSettings
from clients.job import Job, JobResult
from clients.load import Users, main, run_cell
from clients.timer import Timer
from servers.stream import Schedule, StreamSpec, build, message_seed
from servers.transport import TRANSPORTS

STREAM = {"profile": "fast", "ttft_ms": 20, "gap_ms": 2, "tokens": 20}
STREAM_COLUMNS = [
    *("block", "cell", "transport", "variant", "profile", "recovery", "stream_id", "intended_start_ns", "start_ns"),
    *("first_token_ns", "end_ns", "outcome", "tokens_expected", "tokens_received", "tokens_lost", "tokens_duplicated"),
    *("tokens_reordered", "text_ok", "requests", "connections", "drops", "bytes_in", "bytes_out", "recovery_ms"),
    *("detail", "ttft_scheduled_ns", "conversation", "turn"),
    *("noticed_by", "detection_ms", "catch_up_ms", "tokens_discarded", "tokens_wasted"),
    *("dns_ms", "tcp_ms", "tls_ms"),
    *("packets_in", "packets_out", "wire_bytes", "head_ms"),
    *("attempts", "causes", "finished_by", "stop_s", "usage_tokens"),
]


def job(transport: str, url: str, out: Path, load: dict[str, Any] | None = None, **given: Any) -> dict[str, Any]:
    quick = {"streams": 12, "rate_per_s": 60.0, "warmup_streams": 2, "timeout_s": 10.0}
    cell = {"out": str(out / "cell"), "block": 3, "cell": f"{transport} copy=aa", "seed": 5, "stream": STREAM}
    return {"transport": transport, "url": url, "load": quick | (load or {}), **cell, **given}


def load_process(document: object, **options: Any) -> subprocess.CompletedProcess[str]:
    text = document if isinstance(document, str) else json.dumps(document)
    return subprocess.run(
        [sys.executable, "-m", "clients.load"], input=text, capture_output=True, text=True, timeout=60, **options
    )


def ran(document: dict[str, Any]) -> tuple[JobResult, pd.DataFrame, pd.DataFrame]:
    done = load_process(document)
    assert (done.returncode, done.stderr) == (0, "")
    *progress, last = done.stdout.splitlines()
    assert json.loads(progress[-1]) == {"done": 12, "of": 12}
    streams, tokens = (pd.read_parquet(f"{document['out']}.{name}.parquet") for name in ("streams", "tokens"))
    return msgspec.json.decode(last, type=JobResult), streams, tokens


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_cell_over_each_transport(server: Callable[[str], RunningServer], tmp_path: Path, transport: str) -> None:
    variant = {"copy": "aa"} | ({"interval": 0.02} if TRANSPORTS[transport].pulls else {})
    result, streams, tokens = ran(job(transport, server(transport).url, tmp_path, variant=variant))
    assert (result.messages, result.failed, result.clock_offset_ns, result.notes) == (12, 0, 0, [])
    assert result.cpu_s > 0
    assert result.measured_s > 0.05
    assert list(streams.columns) == STREAM_COLUMNS
    assert list(tokens.columns) == ["stream_id", "i", "due_ns", "sent_ns", "received_ns", "read"]
    assert set(streams.outcome) == {"ok"}
    assert set(streams.variant) == {" ".join(f"{key}={value}" for key, value in sorted(variant.items()))}
    assert (streams.block == 3).all()
    assert streams.stream_id.is_unique
    assert len(tokens) == 12 * 20
    assert set(tokens.stream_id) == set(streams.stream_id)
    assert (tokens.due_ns <= tokens.sent_ns).all()
    assert (tokens.sent_ns <= tokens.received_ns).all()
    assert streams.bytes_in.notna().all() == sys.platform.startswith("linux")
    assert list(streams.ttft_scheduled_ns) == [
        build(StreamSpec.parse(STREAM), message_seed(5, 3, k)).ttft_ns for k in range(12)
    ]


def test_conversations_start_their_turns_after_the_answer_and_a_pause(
    server: Callable[[str], RunningServer], tmp_path: Path
) -> None:
    load = {"turns": 4, "think_s": 0.05}
    _, streams, _ = ran(job("websocket", server("websocket").url, tmp_path, load))
    assert list(streams.turn) == [0, 1, 2, 3] * 3
    for _, turns in streams.groupby("conversation"):
        pauses_ms = (turns.intended_start_ns.shift(-1) - turns.end_ns).dropna() / 1e6
        assert (pauses_ms >= 50).all()
        assert (pauses_ms < 80).all()
        assert list(turns.connections)[1:] == [0, 0, 0]


def test_a_closed_loop_never_has_more_messages_under_way_than_users(
    server: Callable[[str], RunningServer], tmp_path: Path
) -> None:
    load = {"arrivals": "closed", "concurrency": 3}
    _, streams, _ = ran(job("chunked", server("chunked").url, tmp_path, load))
    events = sorted([*((at, 1) for at in streams.start_ns), *((at, -1) for at in streams.end_ns)])
    under_way = pd.Series([change for _, change in events]).cumsum()
    assert under_way.max() == 3


def test_failures_are_rows_too(tmp_path: Path) -> None:
    with closed_port() as url:
        result, streams, tokens = ran(job("sse", url, tmp_path))
    assert (result.messages, result.failed) == (12, 12)
    assert set(streams.outcome) == {"refused"}
    assert len(tokens) == 0
    assert "could not be read" in result.notes[0]


def test_a_server_with_a_token(tmp_path: Path) -> None:
    with running_server("sse", "--auth-token", "s3cret") as own:
        result, _, _ = ran(job("sse", own.url, tmp_path, auth_token="s3cret"))
    assert result.failed == 0


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("not JSON", "malformed"),
        ("{}", "missing required field"),
        (job("sse", "http://127.0.0.1:1", Path("/tmp"), variant={"reuse": "maybe"}), "reuse: takes one of"),
        (job("sse", "http://127.0.0.1:1", Path("/tmp"), stream={"profile": "nosuch"}), "nosuch"),
        (
            job("sse", "http://127.0.0.1:1", Path("/tmp"), {"arrivals": "trace", "trace": "/nowhere.csv"}),
            "/nowhere.csv",
        ),
        (job("smoke", "http://127.0.0.1:1", Path("/tmp")), "transport: there is no 'smoke'"),
        (
            job("sse", "http://127.0.0.1:1", Path("/tmp"), recovery="pray"),
            "recovery: takes one of none, restart, resume",
        ),
    ],
)
def test_a_wrong_job_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], document: object, complaint: str
) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert main() == 2
    complained = capsys.readouterr().err
    assert complained.startswith("load: the job is wrong: ")
    assert complained.count("\n") == 1
    assert complaint in complained


def test_results_that_cannot_be_written_are_one_clear_line(tmp_path: Path) -> None:
    with closed_port() as url:
        done = load_process(job("sse", url, tmp_path / "nowhere"))
    assert done.returncode == 1
    assert "nowhere" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_promptly_without_files(
    server: Callable[[str], RunningServer], tmp_path: Path, number: int
) -> None:
    slow = job("sse", server("sse").url, tmp_path, stream={"profile": "fast", "ttft_ms": 60_000}) | {
        "out": str(tmp_path / "x")
    }
    slow["load"] = {"streams": 3, "rate_per_s": 100.0, "warmup_streams": 0, "timeout_s": 100.0}
    command = [sys.executable, "-m", "clients.load"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(slow))
        process.stdin.close()
        assert json.loads(process.stdout.readline()) == {"done": 0, "of": 3}  # the measured phase has begun
        process.send_signal(number)
        before = time.monotonic()
        assert process.wait(10) == 130
        assert time.monotonic() - before < 3
        assert process.stderr is not None
        assert process.stderr.read() == "load: interrupted\n"
    assert not list(tmp_path.iterdir())


async def test_the_servers_clock_is_turned_into_ours(
    monkeypatch: pytest.MonkeyPatch, server: Callable[[str], RunningServer], tmp_path: Path
) -> None:
    def an_hour_ahead(session: Session) -> Script[tuple[int, list[str]]]:
        yield from session.sleep(0)
        return 3600 * 10**9, ["an hour"]

    monkeypatch.setattr("clients.core.clock.clock_offset_ns", an_hour_ahead)
    document = job("sse", server("sse").url, tmp_path)
    records, result = await run_cell(msgspec.convert(document, Job), lambda done, of: None)
    assert (result.clock_offset_ns, result.notes) == (3600 * 10**9, ["an hour"])
    assert all(3599e9 < record.received_ns[0] - record.sent_ns[0] < 3601e9 for record in records)


@pytest.mark.parametrize("load", [{}, {"arrivals": "closed", "concurrency": 3}], ids=["open", "closed"])
async def test_what_can_be_made_before_the_first_message_is(
    monkeypatch: pytest.MonkeyPatch, server: Callable[[str], RunningServer], tmp_path: Path, load: dict[str, Any]
) -> None:
    made: list[int] = []

    def counting(spec: StreamSpec, seed: int) -> Schedule:
        made.append(seed)
        return build(spec, seed)

    monkeypatch.setattr("clients.load.build", counting)
    made_by: dict[int, int] = {}
    document = job("sse", server("sse").url, tmp_path, load)
    await run_cell(msgspec.convert(document, Job), lambda done, of: made_by.setdefault(done, len(made)))
    assert made_by[0] == made_by[12] == len(made) == 2 + 12  # warm-up and measured messages


@pytest.mark.parametrize("load", [{}, {"arrivals": "closed", "concurrency": 3}], ids=["open", "closed"])
async def test_a_stall_is_late_for_as_long_as_it_lasts(
    server: Callable[[str], RunningServer], tmp_path: Path, load: dict[str, Any]
) -> None:
    """In a closed loop nothing else tells: nobody asks while the process stands still."""

    def stall(done: int, of: int) -> None:
        if done == 6:
            time.sleep(0.3)

    document = job("sse", server("sse").url, tmp_path, load)
    _, result = await run_cell(msgspec.convert(document, Job), stall)
    assert result.loop_lag_ms_max is not None
    assert result.loop_lag_ms_max >= 289
    assert result.loop_lag_ms_p99 is not None
    assert result.loop_lag_ms_p99 >= 200, "each beat that was missed counts"


async def test_an_idle_user_is_used_again() -> None:
    users = Users("sse", ClientSettings("http://127.0.0.1:1"))
    first, second = users.take(), users.take()
    assert first is not second
    users.give_back(first)
    users.give_back(second)
    assert [users.take(), users.take()] == [second, first]
    await users.close()


async def test_the_agenda_wakes_in_order_and_never_early() -> None:
    timer = Timer()
    woken: list[tuple[int, int]] = []

    async def sleeper(after_ms: int) -> None:
        due_ns = begin + after_ms * 1_000_000
        await timer.until(due_ns)
        woken.append((after_ms, time.monotonic_ns() - due_ns))

    begin = time.monotonic_ns()
    cancelled = asyncio.create_task(sleeper(4))
    sleepers = [asyncio.create_task(sleeper(after_ms)) for after_ms in (9, 3, 6, -5, 3)]
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.gather(*sleepers)
    timer.close()
    assert [after_ms for after_ms, _ in woken] == [-5, 3, 3, 6, 9]
    assert all(late_ns >= 0 for _, late_ns in woken)

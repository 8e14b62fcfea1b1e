"""A page in Chromium asks the real servers: exact answers, times that fit the server's, six connections to a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from support.processes import running_server

from bench.proxy.real import real_proxy
from clients.chromium.chromium_load import page_options, run_cell
from clients.core.record import Outcome, StreamRecord
from clients.core.settings import ClientSettings
from clients.job import Job

pytestmark = pytest.mark.needs("chromium")
# Long pauses: on a slow machine too, one of several has its first token before another is over.
STREAM = {"profile": "fast", "tokens": 4, "ttft_ms": 50, "ttft_sigma": 0, "gap_ms": 300, "gap_sigma": 0}
SEVEN = {"arrivals": "burst", "concurrency": 7, "streams": 7, "rate_per_s": 1, "warmup_streams": 0, "timeout_s": 30}


async def asked(
    transport: str, url: str, out: Path, **job: Any
) -> tuple[list[StreamRecord], pd.DataFrame, list[tuple[int, int]]]:
    """Records, what was painted, and what progress was told."""
    words = {"block": 1, "cell": transport, "seed": 1, "stream": STREAM, "load": SEVEN}
    told: list[tuple[int, int]] = []
    document = words | job | {"transport": transport, "url": url, "out": str(out / "cell")}
    records, _ = await run_cell(msgspec.convert(document, Job), lambda done, of: told.append((done, of)))
    assert {record.outcome for record in records} == {Outcome.OK}, [record.detail for record in records]
    return records, pd.read_parquet(out / "cell.painted.parquet"), told


async def test_the_seventh_waits_for_one_of_six_connections(tmp_path: Path) -> None:
    with running_server("sse", "--auth-token", "s3cret") as server:
        records, painted, told = await asked("sse", server.url, tmp_path, auth_token="s3cret")
    first_end_ns = min(record.end_ns for record in records)
    (late,) = (record for record in records if record.first_token_ns > first_end_ns)
    assert painted["stream_id"].iloc[int(painted["waited_ms"].argmax())] == late.stream_id
    assert set(painted["protocol"]) == {"http/1.1"}
    assert sum(record.connections for record in records) in (5, 6)  # one may be open before: browsers guess
    assert told[0] == (0, 7)
    assert told[-1] == (7, 7)
    check_times(records, painted)


def check_times(records: list[StreamRecord], painted: pd.DataFrame) -> None:
    """Due, sent, received and painted are in this order, to the error that is told, and that is small."""
    rows = {row["stream_id"]: row for row in painted.to_dict("records")}
    for record in records:
        row = rows[record.stream_id]
        error_ns = row["clock_error_ns"]
        assert 0 < error_ns < 20_000_000  # a busy machine's round trips; far below a millisecond on a quiet one
        for due_ns, sent_ns, received_ns in zip(record.due_ns, record.sent_ns, record.received_ns, strict=True):
            assert due_ns <= sent_ns <= received_ns + error_ns
        assert record.intended_start_ns <= record.start_ns < record.first_token_ns <= row["first_painted_ns"]
        assert row["first_shown_ns"] >= record.first_token_ns
        assert record.received_ns[-1] <= row["last_painted_ns"]
        assert row["tokens_painted"] == 4
        assert 1 <= row["frames"] <= 4


@pytest.mark.needs("nginx", "openssl")
@pytest.mark.parametrize(("transport", "http"), [("sse", 2), ("websocket", 1)])
async def test_over_http2_nobody_waits_nor_over_websockets(transport: str, http: int, tmp_path: Path) -> None:
    """Through a real nginx with TLS; its certificate is good by the job's file of authorities alone."""
    with (
        running_server(transport) as server,
        real_proxy("nginx-h2", ("127.0.0.1", int(server.url.rpartition(":")[2]))) as nginx,
    ):
        variant = {"client": "browser", "tls": "on", "http": http}
        records, painted, _ = await asked(transport, nginx.url, tmp_path, variant=variant, cafile=str(nginx.cafile))
    assert max(record.first_token_ns for record in records) < min(record.end_ns for record in records)
    assert set(painted["protocol"]) == {"h2" if http == 2 else ""}  # of a WebSocket the browser does not tell
    opened = sum(record.connections for record in records)
    assert opened == 7 if transport == "websocket" else opened <= 1  # it may be open before: browsers guess
    check_times(records, painted)


@pytest.mark.parametrize("transport", ["sse", "blocking"])
async def test_it_gives_up_without_a_token(transport: str, tmp_path: Path) -> None:
    """Heartbeats come and do not count: the silence of tokens is the job's limit, in a browser as anywhere."""
    load = SEVEN | {"concurrency": 1, "streams": 1, "token_silence_s": 0.5}
    stream = STREAM | {"ttft_ms": 20_000}
    with running_server(transport, "--heartbeat", "0.1") as server:
        words = {"transport": transport, "url": server.url, "out": str(tmp_path / "cell"), "block": 1, "seed": 1}
        job = msgspec.convert(words | {"cell": transport, "stream": stream, "load": load}, Job)
        ((record,), _) = await run_cell(job, lambda done, of: None)
    assert (record.outcome, record.detail) == (Outcome.TIMEOUT, "token silence: no token for 0.5 s")


async def test_a_browser_has_no_restart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none or resume"):
        await asked("sse", "http://127.0.0.1:9", tmp_path, recovery="restart")


def test_a_server_below_a_path_is_asked_there() -> None:
    words = {"transport": "sse", "url": "https://host:1/api", "out": "", "block": 1, "cell": "sse", "seed": 1}
    job = msgspec.convert(words | {"stream": STREAM, "load": SEVEN, "recovery": "resume"}, Job)
    options = page_options(job, ClientSettings(job.url, method="get"))
    assert (options["path"], options["transport"], options["attempts"]) == (
        "/api/chat",
        "eventsource",
        job.load.attempts,
    )

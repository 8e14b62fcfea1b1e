"""The real Locust, in processes of its own, against real servers: what it leaves behind must add up."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from support.agreement import QUANTITIES, compare
from support.locusts import LOCUSTFILE, headless, locust
from support.processes import RunningServer

from bench.analysis.measures.groups import measure
from bench.analysis.report.report import summarize
from bench.store import RunFolder, open_run
from servers.process import free_port
from servers.transport import STREAMING

pytestmark = pytest.mark.alone
SHORT = ("--stream-profile", "fast", "--stream-parameters", "tokens=30", "--think-time", "0.2")
_COUNTERS = ("requests", "streams_completed", "tokens_sent")


def counters(servers: dict[str, RunningServer]) -> pd.DataFrame:
    """What the servers have counted so far, a row per transport."""
    told = {transport: running.get("/stats") for transport, running in servers.items()}
    return pd.DataFrame({transport: {word: stats[word] for word in _COUNTERS} for transport, stats in told.items()}).T


def assert_same_totals(folder: RunFolder, counted: pd.DataFrame) -> None:
    """The tables hold what the servers counted, by transport."""
    streams, tokens = pd.read_parquet(folder.streams_path), pd.read_parquet(folder.tokens_path)
    assert set(streams["outcome"]) == {"ok"}
    by_transport = streams.groupby("transport", observed=True)
    assert by_transport["requests"].sum().to_dict() == counted["requests"].to_dict()
    assert by_transport.size().to_dict() == counted["streams_completed"].to_dict()
    assert by_transport["tokens_received"].sum().to_dict() == counted["tokens_sent"].to_dict()
    assert len(tokens) == counted["tokens_sent"].sum()
    assert (streams["tokens_received"] == 30).all()
    totals = folder.load().plan["totals"]
    assert isinstance(totals, dict)
    assert {t: told["server_tokens_sent"] for t, told in totals.items()} == counted["tokens_sent"].to_dict()


@pytest.mark.slow
def test_one_process(tmp_path: Path, server: Callable[[str], RunningServer]) -> None:
    servers = {transport: server(transport) for transport in STREAMING}
    before = counters(servers)
    urls = {transport: running.url for transport, running in servers.items()}
    code, output = headless(tmp_path, "-u", "8", "-r", "8", "-t", "3s", *SHORT, **urls)
    assert code == 0, output
    for name in ("TTFT", "delay p50", "message", "requests"):
        assert re.search(rf"^sse +{name} ", output, re.MULTILINE), output
    folder = open_run(tmp_path / "latest")
    assert_same_totals(folder, counters(servers) - before)
    aggregated = re.search(r"^ *Aggregated +(\d+) ", output, re.MULTILINE)
    assert aggregated, output
    assert int(aggregated[1]) == len(pd.read_parquet(folder.streams_path)), "messages, and nothing of their parts"
    summary = summarize(folder)
    assert list(summary.table["transport"]) == list(STREAMING)
    assert folder.report_path.exists()
    assert summary.run.status == "complete"
    assert summary.measured.ledger_errors == 0
    assert not list(folder.path.glob("incoming*"))


@pytest.mark.slow
def test_master_and_two_workers(tmp_path: Path, server: Callable[[str], RunningServer]) -> None:
    servers = {transport: server(transport) for transport in ("chunked", "websocket")}
    before = counters(servers)
    urls = {transport: running.url for transport, running in servers.items()}
    port = str(free_port())
    # The workers are not told where the servers are: the master tells them.
    workers = [locust("--worker", "--master-port", port) for _ in range(2)]
    try:
        master = ("--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--expect-workers", "2")
        code, output = headless(tmp_path, *master, "-u", "6", "-r", "6", "-t", "4s", "--skip-report", *SHORT, **urls)
        said = [worker.communicate(timeout=20)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert code == 0, output
    assert not any("Traceback" in text for text in (output, *said)), output
    folder = open_run(tmp_path / "latest")
    assert_same_totals(folder, counters(servers) - before)
    run = folder.load()
    assert run.machine["locust_workers"] == 2
    assert not any("vanished" in text or "cut" in text for text in run.warnings)
    streams = pd.read_parquet(folder.streams_path)
    assert streams["stream_id"].is_unique
    assert streams["stream_id"].str.split("-").str[2].nunique() == 2  # both workers' records are there


@pytest.mark.slow
def test_a_worker_that_dies_takes_only_its_own_with_it(tmp_path: Path, server: Callable[[str], RunningServer]) -> None:
    sse = server("sse")
    before = sse.get("/stats")
    port = str(free_port())
    workers = [locust("--worker", "--master-port", port, log=tmp_path / f"worker-{k}.log") for k in range(2)]
    try:
        master = ("--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--expect-workers", "2")
        words = ("--headless", "--skip-report", "--results-dir", str(tmp_path / "runs"), "SSEUser", *SHORT)
        running = locust(*master, *words, "-u", "6", "-r", "6", "-t", "9s", log=tmp_path / "master.log", sse=sse.url)
        _wait_until(lambda: sse.get("/stats")["streams_completed"] > before["streams_completed"] + 12)
        killed_ns = time.monotonic_ns()
        workers[0].kill()
        assert running.wait(60) == 0
    finally:
        for worker in workers:
            worker.kill()
            worker.wait(10)
    told = (tmp_path / "master.log").read_text()
    assert "Traceback" not in told, told
    assert len(re.findall("1 worker vanished", told)) == 1
    folder = open_run(tmp_path / "runs" / "latest")
    run = folder.load()
    assert run.status == "complete"
    assert [text for text in run.warnings if "vanished" in text] == [
        "1 worker vanished; what it had not sent yet is missing."
    ]
    measured = measure(folder)
    assert measured.ledger_errors == 0
    streams = pd.read_parquet(folder.streams_path)
    assert set(streams["outcome"]) == {"ok"}
    assert streams["stream_id"].is_unique
    assert streams["stream_id"].str.split("-").str[2].nunique() == 2  # what the dead one had sent is there
    assert (streams["intended_start_ns"] > killed_ns + 3_000_000_000).sum() > 10  # the other went on
    totals = run.plan["totals"]["sse"]  # type: ignore[index]
    assert totals["messages"] == len(streams) <= totals["server_streams_completed"]


def _wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_the_knee_search_ends_at_its_last_step(tmp_path: Path, server: Callable[[str], RunningServer]) -> None:
    """A step lasts ten seconds at least, so this one has a single step; how it climbs is tested on paper."""
    shape = f"{LOCUSTFILE},{Path(LOCUSTFILE).with_name('locust_knee.py')}"
    steps = ("--knee-step", "3", "--knee-most", "3", "--knee-hold", "1", "--knee-delay-ms", "5000")
    code, output = headless(tmp_path, "-f", shape, "SSEUser", *steps, *SHORT, "--skip-report", sse=server("sse").url)
    assert code == 0, output
    said = "Tokenderby: no knee up to 3 users: no limit was reached, there may be room above"
    assert output.splitlines()[-1] == said, "not somewhere among a thousand lines"
    knee = open_run(tmp_path / "latest").load().plan["knee"]
    assert isinstance(knee, dict)
    assert knee["users"] == 3
    assert [set(step) for step in knee["p99_delay_ms"]] == [{"users", "sse"}]


@contextmanager
def truncating() -> Iterator[str]:
    """A chunked server that sends one token and closes, whoever asks; its URL."""
    token = b'{"i": 0, "t": "Hello", "due": 1, "sent": 2}\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stopping = threading.Event()

        def serve() -> None:
            while not stopping.is_set():
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(head + b"%x\r\n%b\r\n" % (len(token), token))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        stopping.set()
        socket.create_connection(listening.getsockname()).close()
        thread.join(5)


@pytest.mark.slow
def test_a_truncated_stream_is_a_failure_with_its_finding(tmp_path: Path) -> None:
    with truncating() as url:
        words = ("ChunkedUser", "--host", url, "-u", "1", "-r", "1", "-t", "4s", "--skip-report", *SHORT)
        code, output = headless(tmp_path, *words)
    assert code == 1  # Locust's code for a test with failures
    finding = "truncated: fin: the connection was closed within the response"
    assert re.search(rf"chunked message.*{re.escape(finding)}", output), output
    folder = open_run(tmp_path / "latest")
    streams = pd.read_parquet(folder.streams_path)
    assert set(streams["outcome"]) == {"truncated"}
    assert any("could not be read" in text for text in folder.load().warnings)  # it has no /clock
    row = summarize(folder).table.iloc[0]
    assert row["transport"] == "chunked"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("SSEUser", "ChunkedUser"), "--chunked-url: not given, but there are users of chunked"),
        (("SSEUser", "--stream-parameters", "token=1"), "--stream-parameters: stream.token: unknown parameter"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    code, output = headless(tmp_path, "-u", "1", "-t", "1s", *words, sse="http://127.0.0.1:1")
    assert code == 2
    assert f"locust: error: {told}" in output
    assert "Traceback" not in output
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_locust_sees_what_the_asyncio_client_sees() -> None:
    """Loosely, since other tests share the machine; `python tests/support/agreement.py` measures it."""
    differences = list(compare("sse", users=10, rounds=1, seconds=5.0))
    assert [(d.what, d.p) for d in differences] == [(w, p) for w in QUANTITIES.values() for p in (0.5, 0.99)]
    assert all(abs(d.ms) < 15 for d in differences if d.p == 0.5), differences

"""`make perf`: what the project itself costs, beside the floor measured in the same run. A benchmark, never a test.

200 streams of 50 tokens/s: CPU µs per token of every client and server, how late the clients saw the first token, the
proxy's own delay, and the time and memory of an analysis of ten million token rows. Server and client are processes of
their own, on a core each where there are two. Everything is repeated in turn (A B C, A B C), and medians are shown.
Needs a quiet machine: nothing else may run.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np
import psutil
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from bench.analysis.scale import measure_cost as measure_analysis
from bench.proxy.perf import PROFILE, ProxyCost
from bench.proxy.perf import measure as measure_proxy
from bench.running.machine import git_commit
from clients.job import Job, JobResult, Load
from servers.transport import TRANSPORTS

STREAMS = 200
TOKENS_PER_S = 50
TOKENS = 250
GAP_MS = 1000 / TOKENS_PER_S
STREAM: dict[str, object] = {
    "profile": "fast", "tokens": TOKENS, "ttft_ms": 500, "ttft_sigma": 0.3, "gap_ms": GAP_MS, "gap_sigma": 0.1
}  # fmt: skip
FLOOR_BODY = {"message": "floor", "stream": STREAM}
RESULTS = Path("results/perf.csv")
COLUMNS = ("commit", "machine", "transport", "role", "us_per_token", "floor_us_per_token", "ratio")
# What the project has set itself: client as a multiple of the floor, server in µs per token.
CLIENT_TARGETS = {"sse": 2.0, "chunked": 2.0, "websocket": 2.5}
SERVER_TARGETS = {"sse": 15.0, "chunked": 15.0, "websocket": 20.0}


@dataclass
class Measured:
    """Repeated figures of one transport (or of the floor), CPU in µs per token, times in ms."""

    client_us: list[float] = field(default_factory=list)
    server_us: list[float] = field(default_factory=list)
    ttft_error_ms: list[float] = field(default_factory=list)
    emit_lag_ms_p99: list[float] = field(default_factory=list)


@contextmanager
def pinned(core: int, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A Python process of the project on one core, where there are several."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, **options)
    try:
        if sys.platform == "linux" and (os.cpu_count() or 1) > 1:
            psutil.Process(process.pid).cpu_affinity([core])
        yield process
    finally:
        process.terminate()
        process.wait()


def _first_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    return dict(json.loads(process.stdout.readline()))


def _server_cpu(url: str) -> tuple[float, int]:
    """CPU seconds of a server, with its Redis, and tokens it has sent."""
    with urllib.request.urlopen(f"{url}/stats") as response:  # noqa: S310 - our own server
        stats = json.load(response)
    cpu_s = stats["cpu_seconds"]
    if "redis_pid" in stats:
        times = psutil.Process(stats["redis_pid"]).cpu_times()
        cpu_s += times.user + times.system
    return cpu_s, stats["tokens_sent"]


def measure_transport(name: str, seed: int, measured: Measured) -> None:
    """Run the real client against the real server once."""
    with pinned(0, "-m", "servers", name) as server, tempfile.TemporaryDirectory() as folder:
        url = _first_line(server)["url"]
        before = _server_cpu(url)
        result = _load(Job(
            transport=name, url=url, out=f"{folder}/perf", block=0, cell=name, seed=seed, stream=STREAM,
            load=Load(arrivals="constant", streams=STREAMS, rate_per_s=STREAMS, warmup_streams=0),
        ))  # fmt: skip
        after = _server_cpu(url)
        if result.failed:
            raise SystemExit(f"perf: {result.failed} of {result.messages} messages over {name} failed")
        tokens = pq.read_table(f"{folder}/perf.tokens.parquet", columns=["i", "due_ns", "received_ns"])
    sent = after[1] - before[1]
    measured.client_us.append(result.cpu_s / sent * 1e6)
    measured.server_us.append((after[0] - before[0]) / sent * 1e6)
    measured.emit_lag_ms_p99.append(result.emit_lag_ms_p99)
    first = tokens["i"].to_numpy() == 0
    measured.ttft_error_ms += list((tokens["received_ns"].to_numpy() - tokens["due_ns"].to_numpy())[first] / 1e6)


def _load(job: Job) -> JobResult:
    with pinned(1, "-m", "clients.load", stdin=subprocess.PIPE) as client:
        output, _ = client.communicate(msgspec.json.encode(job).decode(), timeout=120)
        return msgspec.json.decode(output.strip().splitlines()[-1], type=JobResult)


def measure_floors(measured: Measured) -> None:
    """The bare client against the SSE server, and the bare server read by the bare client."""
    with pinned(0, "-m", "servers", "sse") as server:
        count = _floor_client(_first_line(server)["url"])
        measured.client_us.append(count["cpu_s"] / count["tokens"] * 1e6)
    seconds = TOKENS / TOKENS_PER_S
    with pinned(0, "-m", "bench.floor", "server", str(STREAMS), str(TOKENS_PER_S), str(seconds)) as server:
        _floor_client(_first_line(server)["url"])
        written = _first_line(server)
        measured.server_us.append(written["cpu_s"] / written["tokens"] * 1e6)


def _floor_client(url: str) -> dict[str, Any]:
    with pinned(1, "-m", "bench.floor", "client", url, str(STREAMS), json.dumps(FLOOR_BODY)) as client:
        return _first_line(client)


def _verdict(value: float, target: float | None) -> str:
    if target is None:
        return ""
    return f"[green]≤ {target:g}[/]" if value <= target else f"[red]over {target:g}[/]"


def show(console: Console, measured: dict[str, Measured], floor: Measured) -> None:
    """Print the table of medians."""
    table = Table(title=f"{STREAMS} streams × {TOKENS_PER_S} tokens/s; CPU µs per token, medians")
    for column in ("", "client", "× floor", "", "server", "× floor", "", "TTFT error ms p50 / p99", "emit lag p99"):
        table.add_column(column, justify="right" if column else "left")
    client_floor, server_floor = statistics.median(floor.client_us), statistics.median(floor.server_us)
    table.add_row("floor", f"{client_floor:.1f}", "1.00", "", f"{server_floor:.1f}", "1.00", "", "", "")
    for name, figures in measured.items():
        client, server = statistics.median(figures.client_us), statistics.median(figures.server_us)
        p50, p99 = np.percentile(figures.ttft_error_ms, [50, 99])
        table.add_row(
            TRANSPORTS[name].title,
            f"{client:.1f}", f"{client / client_floor:.2f}", _verdict(client / client_floor, CLIENT_TARGETS.get(name)),
            f"{server:.1f}", f"{server / server_floor:.2f}", _verdict(server, SERVER_TARGETS.get(name)),
            f"{p50:.2f} / {p99:.2f}", f"{statistics.median(figures.emit_lag_ms_p99):.2f}",
        )  # fmt: skip
    console.print(table)


def append_csv(measured: dict[str, Measured], floor: Measured, proxy: ProxyCost | None) -> None:
    """Add this run's medians to results/perf.csv."""
    rows = []
    for name, figures in measured.items():
        rows += [
            (name, "client", figures.client_us, floor.client_us),
            (name, "server", figures.server_us, floor.server_us),
        ]
    if proxy is not None:
        rows.append(("sse", "proxy", [proxy.us_per_token], [proxy.floor_us_per_token]))
    new = not RESULTS.exists()
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(COLUMNS)
        for name, role, values, floors in rows:
            value, least = statistics.median(values), statistics.median(floors)
            machine = f"{platform.machine()} {os.cpu_count()} cores {platform.system()}"
            writer.writerow(
                [git_commit() or "", machine, name, role, f"{value:.2f}", f"{least:.2f}", f"{value / least:.2f}"]
            )


@click.command(help=__doc__)
@click.option("--repeat", default=3, show_default=True, type=click.IntRange(1, 50))
@click.option("--transports", default="sse,chunked,websocket,polling", show_default=True)
@click.option("--only-transports", is_flag=True, help="Leave out the proxy and the analysis.")
def main(repeat: int, transports: str, only_transports: bool) -> None:
    console = Console()
    console.width = max(console.width, 110)
    measured: dict[str, Measured] = defaultdict(Measured)
    floor = Measured()
    for k in range(repeat):
        console.print(f"round {k + 1} of {repeat}", style="dim")
        measure_floors(floor)
        for name in transports.split(","):
            measure_transport(name, k, measured[name])
    show(console, measured, floor)
    proxy = None
    if not only_transports:
        proxy = measure_proxy()
        console.print(
            f"proxy ({PROFILE}): {proxy.us_per_token:.1f} CPU µs per token {_verdict(proxy.us_per_token, 25)} "
            f"(a bare pump: {proxy.floor_us_per_token:.1f}); adds {proxy.added_ms_p50:.2f} ms at the median, "
            f"{proxy.added_ms_p99:.2f} ms at p99 {_verdict(proxy.added_ms_p99, 2)}"
        )
        cost = measure_analysis()
        console.print(
            f"analysis of {cost.rows:,} token rows: {cost.seconds:.1f} s {_verdict(cost.seconds, 20)}, "
            f"{cost.peak_mib:.0f} MiB {_verdict(cost.peak_mib, 2048)}"
        )
    append_csv(measured, floor, proxy)
    console.print(f"appended to {RESULTS}", style="dim")


if __name__ == "__main__":
    main()

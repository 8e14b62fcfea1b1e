"""What the proxy costs: CPU per token, and the delay it adds, at 200 streams × 50 tokens/s.

`make perf` calls `measure()`; `python -m bench.proxy.perf` prints it alone. A source, the proxy and a sink run as
processes of their own. The same is measured without a proxy (what the delay is to be compared with) and through a
bare pump that reads and writes (the floor of the CPU time).
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, monotonic_ns

import msgspec
import numpy as np
import psutil

from servers.process import run

STREAMS, TOKENS_PER_S, SECONDS = 200, 50, 5.0
PROFILE = "aws-alb"  # follows HTTP and has timers, as most do

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKEN = b'5a\r\nid: s/100\ndata: {"i": 100, "t": " token", "due": 1234567890123456, "sent":  %019d}\n\n\r\n'
SENT = re.compile(rb"\D(\d{19})\D")
WARM_UP_S = 0.5


class ProxyCost(msgspec.Struct, frozen=True, kw_only=True):
    """CPU microseconds per token of the proxy and of the bare pump; delays in ms from the source's write to the sink's
    read, without a proxy and with it; `added` is the difference of the quantiles."""

    us_per_token: float
    floor_us_per_token: float
    direct_ms_p50: float
    direct_ms_p99: float
    proxied_ms_p50: float
    proxied_ms_p99: float
    pump_ms_p99: float

    @property
    def added_ms_p50(self) -> float:
        """What the proxy adds to the median delay."""
        return self.proxied_ms_p50 - self.direct_ms_p50

    @property
    def added_ms_p99(self) -> float:
        """What the proxy adds to the 99th percentile."""
        return self.proxied_ms_p99 - self.direct_ms_p99


class _Through(msgspec.Struct):
    """One measurement: quantiles of the delay, CPU of what stood between."""

    tokens: int
    ms_p50: float
    ms_p99: float
    us_per_token: float = 0.0


def measure(streams: int = STREAMS, tokens_per_s: int = TOKENS_PER_S, seconds: float = SECONDS) -> ProxyCost:
    """Measure on this machine; takes three times `seconds` and a little."""
    with _child("source", str(streams), str(tokens_per_s), str(seconds)) as (source, _):
        direct = _drain(source, streams, None)
        with _child("pump", source) as (pump, process):
            floor = _drain(pump, streams, process.pid)
        words = "--profile", PROFILE, "--upstream", source
        with _child(*words, module="bench.proxy") as (ready, process):
            proxied = _drain(json.loads(ready)["url"].removeprefix("http://"), streams, process.pid)
    return ProxyCost(
        us_per_token=proxied.us_per_token,
        floor_us_per_token=floor.us_per_token,
        direct_ms_p50=direct.ms_p50,
        direct_ms_p99=direct.ms_p99,
        proxied_ms_p50=proxied.ms_p50,
        proxied_ms_p99=proxied.ms_p99,
        pump_ms_p99=floor.ms_p99,
    )


@contextmanager
def _child(*words: str, module: str = "bench.proxy.perf") -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A process and its first line."""
    with subprocess.Popen([sys.executable, "-m", module, *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.terminate()


def _drain(address: str, streams: int, pid: int | None) -> _Through:
    """Read all streams through `address`, watching the CPU time of `pid`."""
    before_s = _cpu_s(pid)
    with _child("sink", address, str(streams)) as (line, _):
        through = msgspec.json.decode(line, type=_Through)
    through.us_per_token = (_cpu_s(pid) - before_s) / through.tokens * 1e6
    return through


def _cpu_s(pid: int | None) -> float:
    if pid is None:
        return 0.0
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


class Source(asyncio.Protocol):
    """Answers any request with a stream; the tokens come from the one ticker below."""

    waiting: list[asyncio.Transport]

    def __init__(self, waiting: list[asyncio.Transport]) -> None:
        self.waiting = waiting

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(HEAD)
        self.waiting.append(self._transport)


async def source(streams: int, tokens_per_s: int, seconds: float) -> None:
    """Serve: whenever `streams` requests have come, send each `tokens_per_s` tokens a second, evenly spread."""
    waiting: list[asyncio.Transport] = []
    server = await asyncio.get_running_loop().create_server(lambda: Source(waiting), "127.0.0.1", 0, backlog=1024)
    _say(server.sockets[0].getsockname())
    while True:
        while len(waiting) < streams:  # noqa: ASYNC110 (a poll in a quiet moment)
            await asyncio.sleep(0.01)
        connections, waiting[:] = waiting[:], []
        await _emit(connections, tokens_per_s, seconds)


async def _emit(connections: list[asyncio.Transport], tokens_per_s: int, seconds: float) -> None:
    period_ms = round(1000 / tokens_per_s)
    start_s = monotonic()
    for tick in range(round(seconds * 1000)):
        for connection in connections[tick % period_ms :: period_ms]:
            connection.write(TOKEN % monotonic_ns())
        await asyncio.sleep(max(0.0, start_s + (tick + 1) / 1000 - monotonic()))
    for connection in connections:
        connection.write(b"0\r\n\r\n")


class Sink(asyncio.Protocol):
    """Notes each token's delay until the last chunk."""

    def __init__(self, delays_ns: list[int], over: Callable[[], None]) -> None:
        self._delays_ns = delays_ns
        self._over = over

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        now_ns = monotonic_ns()
        for sent in SENT.findall(data):
            self._delays_ns.append(now_ns - int(sent))
        if data.endswith(b"\r\n0\r\n\r\n") or data == b"0\r\n\r\n":
            self._over()


async def sink(address: str, streams: int) -> None:
    """Read that many streams to their ends; print the quantiles."""
    loop = asyncio.get_running_loop()
    host, _, port = address.rpartition(":")
    delays_ns: list[int] = []
    ended = asyncio.Semaphore(0)
    for _ in range(streams):
        await loop.create_connection(lambda: Sink(delays_ns, ended.release), host, int(port))
    for _ in range(streams):
        await ended.acquire()
    warm = delays_ns[round(len(delays_ns) * WARM_UP_S / SECONDS) :]
    p50, p99 = np.quantile(np.array(warm) / 1e6, [0.5, 0.99])
    print(msgspec.json.encode(_Through(len(delays_ns), float(p50), float(p99))).decode(), flush=True)


class Pump(asyncio.Protocol):
    """Reads, and writes to the other side: the least a proxy can do."""

    transport: asyncio.Transport

    def __init__(self, other: Pump | None, upstream: tuple[str, int]) -> None:
        self.other = other
        self._upstream = upstream
        self._early = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        if self.other is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, self.other = await loop.create_connection(lambda: Pump(self, self._upstream), *self._upstream)
        self.other.transport.write(self._early)

    def data_received(self, data: bytes) -> None:
        if self.other:
            self.other.transport.write(data)
        else:
            self._early += data


async def pump(address: str) -> None:
    """Serve as a proxy without any of what makes one."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Pump(None, (host, int(port))), "127.0.0.1", 0, backlog=1024)
    _say(server.sockets[0].getsockname())
    await asyncio.Event().wait()


def _say(address: tuple[str, int]) -> None:
    print("{}:{}".format(*address), flush=True)


def main(words: list[str]) -> None:
    """Be one of the processes, or measure and print."""
    match words:
        case ["source", streams, rate, seconds]:
            run(source(int(streams), int(rate), float(seconds)))
        case ["sink", address, streams]:
            run(sink(address, int(streams)))
        case ["pump", address]:
            run(pump(address))
        case _:
            cost = measure()
            print(f"proxy ({PROFILE}): {cost.us_per_token:.1f} CPU µs per token, pump {cost.floor_us_per_token:.1f}")
            print(f"added delay: p50 {cost.added_ms_p50:.2f} ms, p99 {cost.added_ms_p99:.2f} ms  {cost}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""The floor: the least that a client or a server on this machine can spend on a token.

A bare asyncio protocol on the same event loop reads, stamps and counts (client), or writes a prepared token from one
timer for all streams (server): no parsing, no checking, no recording. What the project's own clients and servers
spend is shown beside it, measured in the same run.

`python -m bench.floor client URL STREAMS BODY` and `python -m bench.floor server STREAMS TOKENS_PER_S SECONDS`
are processes of their own, so that their CPU time is theirs alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Coroutine
from functools import partial
from urllib.parse import urlsplit

from servers.alarm import alarm
from servers.emitter import TICK_NS
from servers.process import run

TOKEN = b'5b\r\nid: s/100\ndata: {"i": 100, "t": " token", "due": 1234567890123456, "sent": 1234567890123456}\n\n\r\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


class Counter(asyncio.Protocol):
    """Sends one request, then reads, stamps and counts until the last chunk."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.tokens = 0
        self.stamps_ns: list[int] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.stamps_ns.append(time.monotonic_ns())
        self.tokens += data.count(b'"due"')
        if data.endswith(LAST_CHUNK) and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, _: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def count(url: str, streams: int, body: dict[str, object]) -> dict[str, float]:
    """Read `streams` answers at once, started over a second; tokens, and CPU seconds spent since the first."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    counters: list[Counter] = []
    cpu_s = time.process_time()
    for k in range(streams):
        data = json.dumps(body | {"seed": k}).encode()
        request = b"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data)
        _, counter = await loop.create_connection(partial(Counter, request), parts.hostname or "", parts.port or 80)
        counters.append(counter)
        await asyncio.sleep(1 / streams)
    await asyncio.wait([counter.done for counter in counters])
    return {"tokens": sum(counter.tokens for counter in counters), "cpu_s": time.process_time() - cpu_s}


class Writer(asyncio.Protocol):
    """Answers any request with the head, and then takes what the timer writes."""

    def __init__(self, connections: list[asyncio.Transport]) -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, _: bytes) -> None:
        self._transport.write(HEAD)
        self._connections.append(self._transport)


async def write(streams: int, tokens_per_s: float, seconds: float) -> dict[str, float]:
    """Serve `streams` connections from one timer, evenly spread in time; tokens written and CPU seconds."""
    loop = asyncio.get_running_loop()
    connections: list[asyncio.Transport] = []
    server = await loop.create_server(lambda: Writer(connections), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)
    while len(connections) < streams:  # noqa: ASYNC110 - an event would have to count
        await asyncio.sleep(0.01)
    gap_ns = round(1e9 / (streams * tokens_per_s))
    total = round(streams * tokens_per_s * seconds)
    cpu_s, first_ns = time.process_time(), time.monotonic_ns()
    finished = asyncio.Event()
    written = 0

    def tick() -> None:
        nonlocal written
        now_ns = time.monotonic_ns()
        while written < total and first_ns + written * gap_ns <= now_ns:
            connections[written % streams].write(TOKEN)
            written += 1
        if written < total:
            clock.set(max(first_ns + written * gap_ns, now_ns + TICK_NS))
        else:
            finished.set()

    clock = alarm(tick)
    tick()
    await finished.wait()
    cpu_s = time.process_time() - cpu_s
    for transport in connections:
        transport.write(LAST_CHUNK)
    await asyncio.sleep(0.2)
    server.close()
    return {"tokens": written, "cpu_s": cpu_s}


def _run(work: Coroutine[None, None, dict[str, float]]) -> None:
    print(json.dumps(run(work)), flush=True)


if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    if role == "client":
        _run(count(rest[0], int(rest[1]), json.loads(rest[2])))
    else:
        _run(write(int(rest[0]), float(rest[1]), float(rest[2])))

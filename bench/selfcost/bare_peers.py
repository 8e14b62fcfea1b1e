"""The floors: the least that a client, a server or a proxy can spend on a token on this machine.

Bare asyncio protocols on the same event loop read, stamp and count (client, sink), write a token from one timer for all
streams (server, source), or read and write (pump): no parsing, no checking, no recording. What the project's own
clients, servers and proxy spend is shown beside it, measured in the same run.

`python -m bench.selfcost.bare_peers` followed by

    client URL STREAMS BODY              counts the tokens of so many answers, started over a second
    decoder URL STREAMS BODY             the same, and takes each answer apart and keeps it, as the project's clients do
    sink URL STREAMS BODY                the same, and how late each token was
    server STREAMS TOKENS_PER_S SECONDS  answers so many requests side by side with one prepared token, again and again
    source STREAMS TOKENS_PER_S SECONDS  the same, each token with the time at which it was written
    pump URL                             a proxy without any of what makes one

is a process of its own, so that its CPU time is its alone. Each prints JSON lines and goes on until SIGTERM.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

import numpy as np
from httptools import HttpResponseParser

from clients.core.ledger import Ledger
from servers import messages
from servers.alarm import alarm
from servers.emitter import TICK_NS
from servers.process import run
from servers.sse import wire

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % wire.CONTENT_TYPE.encode()
LAST_CHUNK = b"0\r\n\r\n"
_STREAM_ID = b"b00-5e1f00-5e1f00-00100"  # as long as the load process's
_TEXT = messages.json_text(" token")
_SENT = re.compile(rb'"sent": (\d+)')
_WARM_UP = 0.1  # of a stream: connections that still open are no part of the delay
_BACKLOG = 4096


C = TypeVar("C", bound="BareClient")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def token_chunk(sent_ns: int) -> bytes:
    """A token as the SSE server sends it."""
    return chunk(wire.encode_token(_STREAM_ID, 100, messages.encode_token(100, _TEXT, sent_ns, sent_ns)))


class BareClient(asyncio.Protocol):
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


class DecodingClient(BareClient):
    """Reads by the project's own parser, decoder and ledger, for nobody: the least that a client made of them costs."""

    def __init__(self, request: bytes) -> None:
        super().__init__(request)
        self._body: list[bytes] = []
        self.on_body = self._body.append  # what httptools calls for a part of the body
        self._is_complete = False
        self._parser = HttpResponseParser(self)
        self._decoder, self._ledger = wire.Decoder(), Ledger()

    def on_message_complete(self) -> None:
        """The body is complete (httptools calls this, too)."""
        self._is_complete = True

    def data_received(self, data: bytes) -> None:
        read_ns = time.monotonic_ns()
        self._parser.feed_data(data)
        if self._body:
            self._ledger.add(self._decoder.feed(b"".join(self._body)), read_ns)
            self._body.clear()
        if self._is_complete and not self.done.done():
            self.tokens = len(self._ledger.tokens)
            self.done.set_result(None)


class Sink(BareClient):
    """Also notes how late each token is."""

    def __init__(self, request: bytes) -> None:
        super().__init__(request)
        self.delays_ns: list[int] = []

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        self.delays_ns += [now_ns - int(sent) for sent in _SENT.findall(data)]
        super().data_received(data)


async def client(url: str, streams: int, body: dict[str, object], kind: type[BareClient] = BareClient) -> None:
    """Say how many tokens came in `streams` answers, and the CPU seconds that they took."""
    gc.disable()  # as the load process does
    cpu_s = time.process_time()
    counters = await _ask(kind, url, streams, body)
    _say(tokens=sum(counter.tokens for counter in counters), cpu_s=time.process_time() - cpu_s)
    await asyncio.Event().wait()


async def sink(url: str, streams: int, body: dict[str, object]) -> None:
    """Say how many tokens came, and quantiles of their delays in ms from the source's write to the read."""
    sinks = await _ask(Sink, url, streams, body)
    warm_ns = [late for one in sinks for late in one.delays_ns[round(_WARM_UP * len(one.delays_ns)) :]]
    p50, p99 = np.quantile(np.array(warm_ns or [0]) / 1e6, [0.5, 0.99])
    _say(tokens=sum(one.tokens for one in sinks), delay_ms_p50=float(p50), delay_ms_p99=float(p99))
    await asyncio.Event().wait()


async def _ask(kind: Callable[[bytes], C], url: str, streams: int, body: dict[str, object]) -> list[C]:
    """Ask for `streams` answers, one after another within a second, and wait for their ends."""
    host, port = _address(url)
    loop = asyncio.get_running_loop()
    clients: list[C] = []
    for k in range(streams):
        data = json.dumps(body | {"seed": k}).encode()
        request = b"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data)
        _, client = await loop.create_connection(partial(kind, request), host, port)
        clients.append(client)
        await asyncio.sleep(1 / streams)
    await asyncio.wait([client.done for client in clients])
    return clients


class BareServer(asyncio.Protocol):
    """Answers its only request with the head, and then takes what the timer writes."""

    def __init__(self, waiting: list[asyncio.Transport]) -> None:
        self._waiting = waiting
        self._asked = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, _: bytes) -> None:
        if not self._asked:  # a proxy passes a request's body on by itself
            self._asked = True
            self._transport.write(HEAD)
            self._waiting.append(self._transport)


async def server(streams: int, tokens_per_s: float, seconds: float, make_token: Callable[[], bytes]) -> None:
    """Whenever `streams` requests have come, answer them side by side; say the tokens written."""
    waiting: list[asyncio.Transport] = []
    await _listen(lambda: BareServer(waiting))
    while True:
        while len(waiting) < streams:  # noqa: ASYNC110 - an event would have to count
            await asyncio.sleep(0.01)
        connections, waiting[:] = waiting[:streams], waiting[streams:]
        written = await _write_tokens(connections, tokens_per_s, seconds, make_token)
        for transport in connections:
            transport.write(LAST_CHUNK)
        _say(tokens=written)


async def _write_tokens(
    connections: list[asyncio.Transport], tokens_per_s: float, seconds: float, make_token: Callable[[], bytes]
) -> int:
    """From one timer, evenly spread in time and over the connections, as the servers' emitter does."""
    gap_ns = round(1e9 / (len(connections) * tokens_per_s))
    total = round(len(connections) * tokens_per_s * seconds)
    first_ns = time.monotonic_ns()
    finished = asyncio.Event()
    written = 0

    def tick() -> None:
        nonlocal written
        now_ns = time.monotonic_ns()
        while written < total and first_ns + written * gap_ns <= now_ns:
            connections[written % len(connections)].write(make_token())
            written += 1
        if written < total:
            clock.set(max(first_ns + written * gap_ns, now_ns + TICK_NS))
        else:
            finished.set()

    clock = alarm(tick)
    tick()
    await finished.wait()
    clock.close()
    return written


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

    def connection_lost(self, _: Exception | None) -> None:
        if self.other:
            self.other.transport.close()


async def pump(upstream_url: str) -> None:
    """Serve as a proxy that only reads and writes."""
    upstream = _address(upstream_url)
    await _listen(lambda: Pump(None, upstream))
    await asyncio.Event().wait()


async def _listen(factory: Callable[[], asyncio.Protocol]) -> None:
    listening = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, backlog=_BACKLOG)
    _say(url=f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80


def _say(**line: object) -> None:
    print(json.dumps(line), flush=True)


def main(arguments: list[str]) -> None:
    """Be one of the processes."""
    match arguments:
        case ["client", url, streams, body]:
            run(client(url, int(streams), json.loads(body)))
        case ["decoder", url, streams, body]:
            run(client(url, int(streams), json.loads(body), DecodingClient))
        case ["sink", url, streams, body]:
            run(sink(url, int(streams), json.loads(body)))
        case ["server", streams, tokens_per_s, seconds]:
            prepared = token_chunk(time.monotonic_ns())
            run(server(int(streams), float(tokens_per_s), float(seconds), lambda: prepared))
        case ["source", streams, tokens_per_s, seconds]:
            run(server(int(streams), float(tokens_per_s), float(seconds), lambda: token_chunk(time.monotonic_ns())))
        case ["pump", url]:
            run(pump(url))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(sys.argv[1:])

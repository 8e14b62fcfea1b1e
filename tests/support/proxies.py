"""A chain with a clock that the test sets, and a proxy over real sockets with servers and clients of the test's own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from bench.proxy.chain import Chain
from bench.proxy.log import ConnectionRecord, read_log
from bench.proxy.rule import Rule
from bench.proxy.serve import Proxy
from bench.proxy.stage import NEVER, Common, Direction, Ending

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CLOSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
UPGRADE = b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Clockwork:
    """A chain whose sockets are a list and whose clock is a number.

    seen: what came out, with its time: (s, "up" or "down", bytes), (s, "fin up" or "fin down", b""), (s, how it was
    cut, the behaviour's name), (s, "hold up", …)
    unfollowed: why the bytes are not followed as HTTP any more
    """

    def __init__(self, *rules: Rule, seed: str = "0/1", at_s: float = 0.0, common: Common | None = None) -> None:
        self.now_s = at_s  # of the connection's opening
        self.deadline_s = NEVER
        self.seen: list[tuple[float, str, Any]] = []
        self.unfollowed: list[str] = []
        self.chain = Chain(rules, self, seed, common)
        self.chain.accepted(at_s)
        self.chain.opened(at_s)

    def play(self, steps: Sequence[tuple[float, str, bytes]], until_s: float = 1e6) -> list[tuple[float, str, Any]]:
        """Feed (time, "up" | "down" | "fin up" | "fin down", bytes) in order, with every timer between and after."""
        for at_s, what, data in steps:
            self.run_until(at_s)
            if self.chain.stopped:
                continue  # the relay lets nothing in any more
            match what:
                case "up":
                    self.chain.up(at_s, data)
                case "down":
                    self.chain.down(at_s, data)
                case "fin up":
                    self.chain.up_eof(at_s)
                case "fin down":
                    self.chain.down_eof(at_s)
        self.run_until(until_s)
        return self.seen

    def run_until(self, at_s: float) -> None:
        while self.deadline_s <= at_s:
            self.now_s, self.deadline_s = self.deadline_s, NEVER
            self.chain.expire(self.now_s)
        self.now_s = at_s

    def _see(self, now_s: float, what: str, data: Any) -> None:
        self.seen.append((round(now_s, 6), what, data))

    def write_up(self, now_s: float, data: bytes) -> None:
        self._see(now_s, "up", data)

    def write_down(self, now_s: float, data: bytes) -> None:
        self._see(now_s, "down", data)

    def close_up(self, now_s: float) -> None:
        self._see(now_s, "fin up", b"")

    def close_down(self, now_s: float) -> None:
        self._see(now_s, "fin down", b"")

    def wake_at(self, deadline_s: float) -> None:
        self.deadline_s = min(self.deadline_s, deadline_s)

    def cut(self, ending: Ending) -> None:
        self._see(ending.at_s, ending.action, ending.by)

    def hold(self, way: Direction, *, on: bool) -> None:
        self._see(self.now_s, f"{'hold' if on else 'go on'} {way}", b"")

    server_number = 0

    def lease(self, now_s: float, wanted: int | None, *, fresh: bool) -> None:
        self._see(now_s, "lease fresh" if fresh else "lease", wanted)

    def release(self, now_s: float) -> None:
        self._see(now_s, "release", b"")

    def not_followed(self, now_s: float, why: str) -> None:
        self.unfollowed.append(why)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


class Client:
    """A raw TCP client that notes how its connection ended."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(1 << 20), 5)

    async def until_end(self, timeout_s: float = 5.0) -> tuple[bytes, str]:
        """Everything up to the end, and the end: "fin", "rst", or "silence" when the time is over."""
        got = bytearray()
        try:
            async with asyncio.timeout(timeout_s):
                while data := await self.reader.read(1 << 16):
                    got += data
            return bytes(got), "fin"
        except ConnectionResetError:
            return bytes(got), "rst"
        except TimeoutError:
            return bytes(got), "silence"


class Net:
    """Servers, proxies and clients that end with the test."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self.stack = stack
        self._folder = folder
        self._logs = 0
        self.log = folder / "none"
        self.proxies: list[Proxy] = []
        self.clients: list[Client] = []

    async def serve(self, handler: Handler) -> tuple[str, int]:
        """A TCP server with that handler."""

        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await handler(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(run, "127.0.0.1", 0)
        self.stack.callback(server.close)
        host, port = server.sockets[0].getsockname()[:2]
        return host, port

    async def proxy(
        self, upstream: tuple[str, int], *rules: Rule, seed: int = 0, others: Sequence[tuple[str, int]] = ()
    ) -> tuple[str, int]:
        """A proxy with those rules; `log` and `records` are the newest one's."""
        self._logs += 1
        self.log = self._folder / f"{self._logs}.jsonl"
        proxy = await self.stack.enter_async_context(Proxy(upstream, rules, seed=seed, log=self.log, others=others))
        self.proxies.append(proxy)
        return proxy.address

    async def closed_port(self) -> tuple[str, int]:
        """An address on which nobody listens."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return "127.0.0.1", free.getsockname()[1]

    async def connect(self, address: tuple[str, int]) -> Client:
        reader, writer = await asyncio.open_connection(*address)

        def close() -> None:
            writer.transport.abort()

        self.stack.callback(close)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.clients.append(Client(reader, writer))
        return self.clients[-1]

    async def through(self, handler: Handler, *rules: Rule) -> Client:
        """A client connected through a proxy to a server."""
        return await self.connect(await self.proxy(await self.serve(handler), *rules))

    async def records(self, n: int = 1, timeout_s: float = 5.0) -> list[ConnectionRecord]:
        """The newest proxy's log, once it has n lines; every client hangs up first."""
        for client in self.clients:
            client.writer.close()
        async with asyncio.timeout(timeout_s):
            while len(records := read_log(self.log)) < n:
                await asyncio.sleep(0.005)
        return records

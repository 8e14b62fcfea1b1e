"""Raw connections in any number: what a script says is sent, and what comes is kept, counted or left unread."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

from bench.soak.scripts import SoakScript

AT_ONCE = 200  # connections that are opened at once; a server's backlog is 1,024
CONNECT_S = 20.0
_KEPT_BYTES = 65_536
_UNREAD_BYTES = 4_096  # the kernel's buffer of a client that reads nothing: it is soon full
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: an RST, and no TIME_WAIT


class Visitor(asyncio.Protocol):
    """One connection. `asked` is done when all is sent, `answered` when something came behind that, `ended` at its end.

    The end of a connection completes all three.
    """

    def __init__(self, script: SoakScript) -> None:
        loop = asyncio.get_running_loop()
        self.asked, self.answered, self.ended = (loop.create_future() for _ in range(3))
        self.received = b""  # the first 64 KiB
        self._script = script
        self._sent = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first step."""
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        """Send the next step, or keep what came."""
        if len(self.received) < _KEPT_BYTES:
            self.received += data[:_KEPT_BYTES]
        if self.asked.done():
            _complete(self.answered)
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing more is to come."""
        for future in (self.asked, self.answered, self.ended):
            _complete(future)

    def _send(self) -> None:
        assert self._transport is not None
        steps = self._script.steps
        if self._sent < len(steps):
            self._transport.write(steps[self._sent])
            self._sent += 1
        if self._sent == len(steps):
            _complete(self.asked)
            self.rest()

    def rest(self) -> None:
        """Stop reading, if the script says so."""
        if not self._script.reads and self._sent == len(self._script.steps) and self._transport is not None:
            self._transport.pause_reading()

    def reset(self) -> None:
        """End the connection at once, with an RST."""
        if self._transport is not None and not self.ended.done():
            raw = self._transport.get_extra_info("socket")
            if raw is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()


def _complete(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def visit(address: tuple[str, int], script: SoakScript) -> Visitor:
    """Open a connection and begin its script. Raises OSError, TimeoutError."""
    loop = asyncio.get_running_loop()
    raw = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        raw.setblocking(False)
        if not script.reads:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _UNREAD_BYTES)
        async with asyncio.timeout(CONNECT_S):
            await loop.sock_connect(raw, address)
            _, visitor = await loop.create_connection(lambda: Visitor(script), sock=raw)
    except BaseException:
        raw.close()
        raise
    visitor.rest()  # uvloop begins to read behind `connection_made`, whatever was asked for in there
    return visitor


async def in_turn(count: int, deed: Callable[[int], Awaitable[None]], at_once: int = AT_ONCE) -> Counter[str]:
    """Do `deed(0)` to `deed(count - 1)`, so many at once; how often which error of the network ended one."""
    numbers = iter(range(count))
    failures: Counter[str] = Counter()

    async def work() -> None:
        for number in numbers:
            try:
                await deed(number)
            except (OSError, TimeoutError) as error:
                failures[type(error).__name__] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(min(at_once, count)):
            group.create_task(work())
    return failures


@asynccontextmanager
async def crowd(
    address: tuple[str, int], count: int, script: Callable[[int], SoakScript]
) -> AsyncIterator[tuple[list[Visitor], Counter[str]]]:
    """Hold `count` connections open while the context lasts: those that opened, and why others did not."""
    visitors: list[Visitor] = []

    async def open_one(number: int) -> None:
        visitors.append(await visit(address, script(number)))

    try:
        failures = await in_turn(count, open_one)
        yield visitors, failures
    finally:
        for visitor in visitors:
            visitor.reset()
        await asyncio.gather(*(visitor.ended for visitor in visitors))

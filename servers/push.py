"""Pushing an answer's tokens down one connection as they fall due, with bounded memory for slow readers.

The emitter wakes a `Push`, which encodes and writes what is new, without a coroutine in between. When the connection's
write buffer holds more than `WRITE_LIMIT_BYTES`, the push stops and waits until it has drained; the answer itself
is kept once, in its Generation, so a slow reader costs its index and at most `WRITE_LIMIT_BYTES` plus one batch
(`BATCH_BYTES`, or a single larger token) of buffer.
"""

from __future__ import annotations

import asyncio
import asyncio.trsock
import socket
from contextlib import nullcontext
from time import monotonic_ns
from typing import Protocol

from servers.generation import Generation

WRITE_LIMIT_BYTES = 65_536
BATCH_BYTES = 65_536
STALL_LIMIT_S = 120.0  # a reader that takes nothing for so long is given up
STOP_S = 0.2  # ... and for so long when the server stops


class MessageWriter(Protocol):
    """What a transport does with encoded messages: frame them and write them."""

    def write_token(self, generation: Generation, i: int, sent_ns: int) -> int:
        """Send token `i`, neither this connection's first nor the answer's last; the backlog in bytes then."""

    def write(self, first: int, messages: list[bytes], end: bytes | None) -> None:
        """Send token messages from index `first` on, then the end message if there is one."""

    def heartbeat(self) -> None:
        """Send whatever keeps the connection from looking idle."""

    def backlog_bytes(self) -> int:
        """Bytes written that the kernel has not taken yet."""

    async def drain(self) -> None:
        """Return when the backlog is small again."""


class PushCounts(Protocol):
    """Who counts what was pushed."""

    tokens_sent: int


class ReaderGone(Exception):
    """The connection was lost, or its reader took nothing for `STALL_LIMIT_S`."""


async def drained(connection: MessageWriter) -> None:
    """Return when the connection's backlog is small again. Raises ReaderGone."""
    if not await _is_drained(connection):
        await _wait_for_drain(asyncio.ensure_future(connection.drain()), connection, STALL_LIMIT_S)


async def _is_drained(connection: MessageWriter) -> bool:
    """Whether nothing has to be waited for, as nearly always. Raises ReaderGone when the connection is lost."""
    backlog_bytes = connection.backlog_bytes()
    if backlog_bytes > WRITE_LIMIT_BYTES:
        return False
    try:
        async with asyncio.timeout(STALL_LIMIT_S) if backlog_bytes else nullcontext():
            await connection.drain()
    except (TimeoutError, OSError) as error:
        raise ReaderGone from error
    return True


async def _wait_for_drain(drain: asyncio.Task[None], connection: MessageWriter, patience_s: float) -> None:
    """Wait for `drain` as long as the backlog becomes smaller within `patience_s`. Raises ReaderGone."""
    try:
        while not drain.done():
            backlog_bytes = connection.backlog_bytes()
            await asyncio.wait([drain], timeout=patience_s)
            if not drain.done() and connection.backlog_bytes() >= backlog_bytes:
                raise ReaderGone
    finally:
        drain.cancel()
    if drain.cancelled() or drain.exception() is not None:
        raise ReaderGone


def limit_stall(connection: socket.socket | asyncio.trsock.TransportSocket) -> None:
    """Have the kernel cut a connection (or all that `connection` accepts) whose reader takes nothing for too long.

    This holds where nothing waits in this process, too: for the last bytes of an answer. Linux only; elsewhere a push
    alone gives up.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT") and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALL_LIMIT_S * 1000))


class Push:
    """One connection's way through one answer, from index `first` to the end message."""

    # The kernel's work for a write leaves little of this process in the caches: each object that a token needs counts.
    __slots__ = (
        "_begun",
        "_behind",
        "_changed",
        "_connection",
        "_counts",
        "_draining",
        "_finished",
        "_generation",
        "_next",
        "_stopped",
        "_written_ns",
    )

    def __init__(self, generation: Generation, first: int, connection: MessageWriter, counts: PushCounts) -> None:
        self._generation = generation
        self._next = first
        self._connection = connection
        self._counts = counts
        self._begun = False  # the first token is written
        self._behind = False  # waiting for the connection to drain; wake-ups mean nothing until then
        self._finished = False
        self._stopped = False
        self._draining: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._written_ns = monotonic_ns()

    def wake(self) -> None:
        """Write what has fallen due (servers.generation.Reader)."""
        if self._behind or self._finished:
            return
        generation, i = self._generation, self._next
        if generation.produced != i + 1 or generation.n == i + 1 or not self._begun:
            self._write_due()
            return
        # Nearly always it is one token in mid-answer: what follows is `_write_due` for that, at a fraction of its cost.
        self._next = i + 1
        self._written_ns = sent_ns = monotonic_ns()
        backlog_bytes = self._connection.write_token(generation, i, sent_ns)
        self._counts.tokens_sent += 1
        if backlog_bytes > WRITE_LIMIT_BYTES:
            self._behind = True
            self._changed.set()

    def stop(self) -> None:
        """End `run` early, also where it waits for a reader: the server is stopping."""
        self._stopped = True
        self._changed.set()
        if self._draining is not None:
            self._draining.cancel()

    async def run(self, heartbeat_s: float | None) -> bool:
        """Push until the end message is written and the backlog small; False if stopped before. Raises ReaderGone."""
        self._generation.subscribe(self)
        try:
            self.wake()
            while not self._finished and not self._stopped:
                if self._behind:
                    await self._catch_up()
                else:
                    await self._idle(heartbeat_s)
            await self._drain()
            return self._finished
        finally:
            self._behind = True  # whoever still wakes it has no effect
            self._generation.unsubscribe(self)

    def _write_due(self) -> None:
        generation, connection, first = self._generation, self._connection, self._next
        sent_ns = monotonic_ns()
        messages: list[bytes] = []
        size = 0
        for i in range(first, generation.produced):
            message = generation.token(i, sent_ns)
            messages.append(message)
            size += len(message)
            if size >= BATCH_BYTES:
                break
        self._next = reached = first + len(messages)
        end = generation.end() if reached == generation.n else None
        if messages or end is not None:
            connection.write(first, messages, end)
            self._counts.tokens_sent += len(messages)
            self._written_ns = sent_ns
            self._begun = True
        if end is not None:
            self._finished = True
            self._changed.set()
        elif reached < generation.produced or connection.backlog_bytes() > WRITE_LIMIT_BYTES:
            self._behind = True
            self._changed.set()

    async def _catch_up(self) -> None:
        await self._drain()
        self._behind = False
        self._changed.clear()
        self._write_due()

    async def _drain(self) -> None:
        if await _is_drained(self._connection):
            return
        self._draining = asyncio.ensure_future(self._connection.drain())
        await _wait_for_drain(self._draining, self._connection, STOP_S if self._stopped else STALL_LIMIT_S)

    async def _idle(self, heartbeat_s: float | None) -> None:
        """Wait for something to do, with a heartbeat whenever nothing was written for `heartbeat_s`."""
        if heartbeat_s is None:
            await self._changed.wait()
            return
        try:
            async with asyncio.timeout(self._silence_left(heartbeat_s)):
                await self._changed.wait()
        except TimeoutError:
            if self._silence_left(heartbeat_s) <= 0:
                if not self._connection.backlog_bytes():  # else it is not silent, and this would only pile up
                    self._connection.heartbeat()
                self._written_ns = monotonic_ns()

    def _silence_left(self, heartbeat_s: float) -> float:
        return heartbeat_s - (monotonic_ns() - self._written_ns) / 1e9

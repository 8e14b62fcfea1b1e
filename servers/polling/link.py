"""One connection to Redis that any number of callers share.

Commands are written as they come, and replies come back in the same order: nobody waits for a free connection, and a
command costs a future instead of a lock, a task and a timeout. hiredis packs and parses, as it does for redis-py, whose
asyncio client costs 10 to 15 µs more for each command of a pipeline.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic_ns
from typing import Any

import hiredis

from servers.redis_server import Address
from servers.user_errors import reason

COMMAND_TIMEOUT_S = 5.0

NoteLag = Callable[[int, int], object]
RedisCommand = tuple[str | bytes | int, ...]
_pack: Callable[[RedisCommand], bytes] = hiredis.pack_command  # type: ignore[assignment]  # its stub says tuples of one


class RedisError(Exception):
    """Redis did not do what it was asked to; `deed` says in words what it did instead."""

    deed = "does not answer"


class RedisAway(RedisError):
    """Redis cannot be reached, or did not answer in time: what was asked may have been done or not."""


class RedisRefused(RedisError):
    """Redis answered with an error."""

    deed = "refuses"


class RedisConnection:
    """Connects when first used, and again after it was lost.

    Counts its commands with `note_commands`, and tells how long each batch waited for its replies, or for nothing, with
    `note_lag` (now, ns of waiting).
    """

    def __init__(
        self,
        address: Address,
        note_commands: Callable[[int], object],
        note_lag: NoteLag = lambda _, __: None,
    ) -> None:
        self._address = address
        self._note_commands = note_commands
        self._note_lag = note_lag
        self._wire: _RedisSocket | None = None
        self._opening: asyncio.Task[_RedisSocket] | None = None

    async def execute(self, *commands: RedisCommand) -> list[Any]:
        """The replies, in order. An error reply stands in its place as a RedisRefused. Raises RedisAway."""
        wire = self._wire
        if wire is None or wire.lost:
            wire = await self.connect()
        self._note_commands(len(commands))
        return await wire.send(commands)

    def send(self, commands: Sequence[RedisCommand]) -> asyncio.Future[list[Any]]:
        """As `execute`, without a coroutine, and without connecting: the future raises RedisAway after a loss."""
        if self._wire is None:
            raise RedisAway("there is no connection yet")
        self._note_commands(len(commands))
        return self._wire.send(commands)

    async def connect(self) -> _RedisSocket:
        """The connection, made if there is none. Raises RedisAway, and RedisRefused where a password is wrong."""
        if self._opening is None:  # one attempt, and one outcome, however many wait for it
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(self._opened)
        return await asyncio.shield(self._opening)

    async def transaction(self, *commands: RedisCommand) -> list[Any]:
        """All of `commands` or none of them; their replies. Raises RedisAway, RedisRefused."""
        replies = await self.execute(("MULTI",), *commands, ("EXEC",))
        results = _checked(replies)[-1]
        return _checked(results)

    def close(self) -> None:
        """Cut the connection; what was not answered raises RedisAway."""
        if self._opening is not None:
            self._opening.cancel()
        if self._wire is not None:
            self._wire.cut("the connection was closed")

    def _opened(self, opening: asyncio.Task[_RedisSocket]) -> None:
        self._opening = None
        if not opening.cancelled() and opening.exception() is None:
            self._wire = opening.result()

    async def _open(self) -> _RedisSocket:
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                return await self._greeted(await _connected(self._address, self._note_lag))
        except (OSError, TimeoutError) as error:
            raise RedisAway("no connection in time" if isinstance(error, TimeoutError) else reason(error)) from error

    async def _greeted(self, wire: _RedisSocket) -> _RedisSocket:
        """`wire`, once Redis took password and database. Cut where it did not: each attempt would leave one open."""
        try:
            if self._address.greeting:
                _checked(await wire.send(self._address.greeting))
        except BaseException:
            wire.cut("the greeting was not taken")
            raise
        return wire


def _checked(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, RedisRefused):
            raise reply
    return replies


async def _connected(address: Address, note_lag: NoteLag) -> _RedisSocket:
    loop = asyncio.get_running_loop()
    made = partial(_RedisSocket, note_lag)
    if address.path:
        _, wire = await loop.create_unix_connection(made, address.path)
    else:
        tls = ssl.create_default_context() if address.tls else None
        _, wire = await loop.create_connection(made, address.host, address.port, ssl=tls)
    return wire


class _Pipeline:
    """Commands that were sent together, their replies so far, and who waits for them."""

    __slots__ = ("deadline_s", "future", "replies", "sent_ns", "size")

    def __init__(self, size: int, future: asyncio.Future[list[Any]], deadline_s: float) -> None:
        self.size, self.future, self.deadline_s = size, future, deadline_s
        self.sent_ns = monotonic_ns()
        self.replies: list[Any] = []


class _RedisSocket(asyncio.Protocol):
    """The connection itself: bytes out, replies in. `lost` once it is of no more use."""

    def __init__(self, note_lag: NoteLag) -> None:
        self.lost = False
        self._note_lag = note_lag
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=RedisRefused)
        self._waiting: deque[_Pipeline] = deque()
        self._watch: asyncio.TimerHandle | None = None

    def send(self, commands: Sequence[RedisCommand]) -> asyncio.Future[list[Any]]:
        """The replies to `commands`, once they are all there."""
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if self.lost:
            future.set_exception(RedisAway("the connection was lost"))
            return future
        self._waiting.append(_Pipeline(len(commands), future, self._loop.time() + COMMAND_TIMEOUT_S))
        self._transport.write(b"".join(map(_pack, commands)))
        if self._watch is None:
            self._watch = self._loop.call_later(COMMAND_TIMEOUT_S, self._check)
        return future

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        waiting = self._waiting
        try:
            while (reply := self._reader.gets()) is not False:
                if not waiting:
                    self.cut("it answers what was not asked")
                    return
                batch = waiting[0]
                batch.replies.append(reply)
                if len(batch.replies) == batch.size:
                    waiting.popleft()
                    self._note_waited(batch)
                    if not batch.future.done():
                        batch.future.set_result(batch.replies)
        except hiredis.ProtocolError as error:
            self.cut(f"this is not Redis: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        self.cut("it closed the connection" if error is None else reason(error))

    def cut(self, why: str) -> None:
        """End the connection; whoever waits for a reply gets RedisAway."""
        if self.lost:
            return
        self.lost = True
        self._transport.abort()
        if self._watch is not None:
            self._watch.cancel()
        for batch in self._waiting:
            self._note_waited(batch)
            if not batch.future.done():
                batch.future.set_exception(RedisAway(why))
        self._waiting.clear()

    def _note_waited(self, batch: _Pipeline) -> None:
        now_ns = monotonic_ns()
        self._note_lag(now_ns, now_ns - batch.sent_ns)

    def _check(self) -> None:
        """Give Redis up when the oldest command has no reply by its deadline."""
        self._watch = None
        if not self._waiting:
            return
        left_s = self._waiting[0].deadline_s - self._loop.time()
        if left_s <= 0:
            self.cut(f"no answer within {COMMAND_TIMEOUT_S:g} s")
        else:
            self._watch = self._loop.call_later(left_s, self._check)

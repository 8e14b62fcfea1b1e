"""Where polling's answers live: Redis lists, written token by token as they fall due, expiring by themselves.

The list of a stream holds a mark at index 0 (so that a stream without tokens exists), the token messages after
it, and the end message last. Tokens that fall due in one tick of the clock travel in one pipeline; each is still a
command of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from servers.emitter import Emitter
from servers.generation import Generation

KEY_PREFIX = "tokenderby:stream:"
RETRY_S = 0.2
COMMAND_TIMEOUT_S = 5.0
_MARK = b""
_END_PREFIX = b'{"done"'
_log = logging.getLogger(__name__)


class Page:
    """What Redis holds of a stream from some index on; `end` is the end message, once it is reached."""

    def __init__(self, messages: list[bytes]) -> None:
        self.end = messages.pop() if messages and messages[-1].startswith(_END_PREFIX) else None
        self.tokens = messages


class TokenStore:
    """Writes answers to Redis and reads them back. Counts its commands with `note_commands`."""

    def __init__(self, url: str, emitter: Emitter, keep_s: float, note_commands: Callable[[int], object]) -> None:
        # No hidden retries: a push that is repeated would write a token twice.
        self._redis: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=COMMAND_TIMEOUT_S,
            socket_connect_timeout=COMMAND_TIMEOUT_S,
            max_connections=256,
            retry=Retry(NoBackoff(), 0),
        )
        self._keep_s = keep_s
        self._note_commands = note_commands
        self._fresh: set[StreamWriter] = set()  # writers with something to write
        self._wake = asyncio.Event()
        self._flusher = asyncio.create_task(self._flush_forever())
        self._waiting: defaultdict[str, list[asyncio.Future[None]]] = defaultdict(list)
        emitter.after_tick(self._after_tick)

    async def ping(self) -> None:
        """Raises RedisError when Redis does not answer."""
        await self._redis.ping()

    async def begin(self, generation: Generation) -> None:
        """Make the stream known in Redis, then write its tokens as they fall due. Raises RedisError."""
        writer = StreamWriter(generation, self._keep_s, self._fresh)
        async with self._redis.pipeline(transaction=True) as pipe:
            writer.rewrite(pipe)
            await self._execute(pipe)
        generation.subscribe(writer)
        writer.wake()
        self._after_tick()

    async def read(self, stream_id: str, first: int) -> Page | None:
        """The messages from index `first` on; None for a stream that Redis does not hold. Raises RedisError."""
        key = KEY_PREFIX + stream_id
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.lrange(key, first + 1, -1)
            pipe.lindex(key, -1)
            messages, last = await self._execute(pipe)
        if last is None:
            return None
        if not messages and last.startswith(_END_PREFIX):  # `first` lies beyond the end
            messages = [last]
        return Page(messages)

    @contextmanager
    def next_write(self, stream_id: str) -> Iterator[asyncio.Future[None]]:
        """A future that is done when this process has next written to the stream."""
        future = asyncio.get_running_loop().create_future()
        self._waiting[stream_id].append(future)
        try:
            yield future
        finally:
            future.cancel()
            if stream_id in self._waiting:
                self._waiting[stream_id].remove(future)
                if not self._waiting[stream_id]:
                    del self._waiting[stream_id]

    async def close(self, stream_ids: list[str]) -> None:
        """Stop writing and remove the streams of those ids: nothing is left behind."""
        self._flusher.cancel()
        try:
            if stream_ids:
                await self._redis.unlink(*(KEY_PREFIX + stream_id for stream_id in stream_ids))
        except RedisError as error:
            _log.warning("could not remove the streams from Redis, they will expire: %s", error)
        await self._redis.aclose()

    async def _execute(self, pipe: Any) -> list[Any]:
        self._note_commands(len(pipe))
        result: list[Any] = await pipe.execute()
        return result

    def _after_tick(self) -> None:
        if self._fresh:
            self._wake.set()

    async def _flush_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            writers = list(self._fresh)
            self._fresh.clear()
            try:
                incomplete = await self._flush(writers)
            except RedisError as error:
                _log.warning("Redis: %s; trying again", error)
                await asyncio.sleep(RETRY_S)
                incomplete = writers
            for writer in incomplete:
                writer.lost()
            if incomplete:
                self._fresh.update(incomplete)
                self._wake.set()
            self._announce(writers)

    async def _flush(self, writers: list[StreamWriter]) -> list[StreamWriter]:
        """Write what is new; those whose list is not as long as it should be. Raises RedisError."""
        async with self._redis.pipeline(transaction=False) as pipe:
            replies = [(writer, writer.write(pipe)) for writer in writers]
            told = await self._execute(pipe)
        return [writer for writer, reply in replies if reply is not None and told[reply] != writer.length]

    def _announce(self, writers: list[StreamWriter]) -> None:
        for writer in writers:
            for future in self._waiting.pop(writer.stream_id, ()):
                if not future.done():
                    future.set_result(None)


class StreamWriter:
    """Writes one answer to its list in Redis (servers.generation.Reader)."""

    def __init__(self, generation: Generation, keep_s: float, fresh: set[StreamWriter]) -> None:
        self._generation = generation
        self.stream_id = generation.stream_id
        self._key = KEY_PREFIX + generation.stream_id
        # While it is produced, the list outlives the answer's schedule; from its end on it has `keep_s`.
        self._keep_s = max(1, round(keep_s))
        self._expiry_s = round(generation.schedule.duration_ns / 1e9) + self._keep_s + 1
        self._fresh = fresh
        self._next = 0
        self.length = 0  # of the list, its mark included, when all that was queued is written
        self._sent_ns: list[int] = []
        self._lost = False

    def wake(self) -> None:
        """More has fallen due: it is stamped now and written after the tick."""
        sent_ns = time.monotonic_ns()
        missing = self._generation.produced - len(self._sent_ns)
        self._sent_ns.extend([sent_ns] * missing)
        if missing or self._generation.ended:
            self._fresh.add(self)

    def lost(self) -> None:
        """What was written may be there or not: the next `write` replaces the whole list."""
        self._lost = True

    def write(self, pipe: Any) -> int | None:
        """Queue what is new, and after the last token the end message.

        Returns which reply tells the list's length, None when there is nothing to write. A list that Redis no longer
        has (it was restarted) is not begun in its middle: RPUSHX then does nothing.
        """
        if self._lost:
            return self.rewrite(pipe)
        messages = self._messages()
        for message in messages:
            pipe.rpushx(self._key, message)
        if not messages:
            return None
        reply = len(pipe) - 1
        if self._generation.ended:
            pipe.expire(self._key, self._keep_s)
        return reply

    def rewrite(self, pipe: Any) -> int:
        """Queue the list anew from its mark on; the same whether the list is there, in part or not at all."""
        self._next, self.length, self._lost = 0, 1, False
        pipe.delete(self._key)
        pipe.rpush(self._key, _MARK, *self._messages())
        pipe.expire(self._key, self._keep_s if self._generation.ended else self._expiry_s)
        return len(pipe) - 2

    def _messages(self) -> list[bytes]:
        generation, first = self._generation, self._next
        self._next = len(self._sent_ns)
        messages = [generation.token(i, self._sent_ns[i]) for i in range(first, self._next)]
        if generation.ended and self._next == generation.schedule.n:
            messages.append(generation.end())
        self.length += len(messages)
        return messages

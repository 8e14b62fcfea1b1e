"""Where polling's answers live: Redis lists, written token by token as they fall due, expiring by themselves.

The list of a stream holds a mark at index 0 (so that a stream without tokens exists), the token messages after
it, and the end message last. Tokens that fall due in one tick of the clock travel in one pipeline; each is still a
command of its own. A list is made, or made anew when Redis has lost it, in one transaction with its time to live; what
is appended goes to a list that exists, or nowhere.
"""

from __future__ import annotations

import asyncio
import logging
import time
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any
from weakref import WeakValueDictionary

from servers import redis_server
from servers.emitter import Emitter
from servers.generation import Generation, Generations
from servers.polling.link import (
    COMMAND_TIMEOUT_S,
    NoteLag,
    RedisAway,
    RedisCommand,
    RedisConnection,
    RedisError,
    RedisRefused,
)
from servers.push import BATCH_BYTES

KEY_PREFIX = f"{redis_server.KEY_PREFIX}stream:"
RETRY_S = 0.2
CLOSE_S = 0.5
READS_AT_ONCE = 64  # pages on their way from Redis; the rest waits its turn, and the writer does not wait behind it
FOREIGN_PAGE = 64  # tokens of a stream that another process writes, whose sizes are not known here
REMOVED_AT_ONCE = 1000
_MARK = b""
_END_PREFIX = b'{"done"'
_ERROR_PREFIX = b'{"error"'
_log = logging.getLogger(__name__)


def _key(stream_id: str) -> bytes:
    return (KEY_PREFIX + stream_id).encode()


class StoredPart:
    """What Redis holds of a stream from some index on: about `BATCH_BYTES`, and `more` if that is not all.

    `end` is the end message, once it is reached, and `failure` the error in its place.
    """

    def __init__(self, messages: list[bytes], asked: int, last: bytes) -> None:
        self.more = len(messages) == asked and messages[-1] != last
        self.failure = last if last.startswith(_ERROR_PREFIX) and not self.more else None
        if messages and messages[-1] == self.failure:
            messages.pop()
        self.end = messages.pop() if messages and messages[-1].startswith(_END_PREFIX) else None
        if not messages and last.startswith(_END_PREFIX):  # the index asked for lies beyond the end
            self.end = last
        self.tokens = messages

    @property
    def tells(self) -> bool:
        """Whether there is anything new in it."""
        return bool(self.tokens or self.end or self.failure)


class TokenStore:
    """Writes answers to Redis and reads them back.

    Counts its commands with `note_commands`, and tells how long Redis took with `note_lag` (now, ns of waiting).
    """

    def __init__(
        self,
        address: redis_server.Address,
        emitter: Emitter,
        generations: Generations,
        note_commands: Callable[[int], object],
        note_lag: NoteLag = lambda _, __: None,
    ) -> None:
        self._reads = RedisConnection(address, note_commands, note_lag)
        self._writes = RedisConnection(address, note_commands, note_lag)
        self._turns = asyncio.Semaphore(READS_AT_ONCE)
        self._generations = generations
        self._beginning: dict[Generation, asyncio.Task[None]] = {}
        self._writers: WeakValueDictionary[str, StreamWriter] = WeakValueDictionary()  # their generations hold them
        self._fresh: set[StreamWriter] = set()  # writers with something to write
        self._in_trouble = False
        self._lost: dict[StreamWriter, None] = {}  # writers whose list must be written anew, in turn
        self._flushing = self._closed = False
        self._repair = asyncio.Event()
        self._repairing = asyncio.create_task(self._repair_forever())
        self._waiting: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        emitter.after_tick(self._flush)

    async def connect(self) -> None:
        """Open both connections, so that nothing needs a file later.

        Raises RedisError when Redis does not answer, or answers nobody without a password.
        """
        await self._reads.transaction(("PING",))
        await self._writes.connect()

    async def begin(self, generation: Generation) -> None:
        """Make the stream known in Redis, once, and write its tokens as they fall due.

        Raises RedisError; then the answer is discarded, so that nothing is half-started.
        """
        writer = self._writers.get(generation.stream_id)
        if writer is not None and writer.generation is generation:
            return
        if generation not in self._beginning:
            self._beginning[generation] = asyncio.create_task(self._begin(generation))
        await asyncio.shield(self._beginning[generation])  # it goes on without the client that asked

    async def _begin(self, generation: Generation) -> None:
        writer = StreamWriter(generation, self._generations.keep_s, self._fresh)
        try:
            await self._writes.transaction(*writer.rewrite())
        except BaseException:
            self._generations.discard(generation)
            raise
        finally:
            del self._beginning[generation]
        self._writers[writer.stream_id] = writer
        generation.subscribe(writer)
        writer.wake()
        self._flush()

    async def read(self, stream_id: str, first: int) -> StoredPart | None:
        """The messages from index `first` on; None for a stream that Redis does not hold.

        Raises RedisError; where Redis lets be read, but takes nothing new, once there is nothing new to read.
        """
        key = _key(stream_id)
        writer = self._writers.get(stream_id)
        count = FOREIGN_PAGE if writer is None else writer.page_length(first)
        asked_at_s = time.monotonic()
        async with self._turns:
            if time.monotonic() - asked_at_s > COMMAND_TIMEOUT_S:  # those before had no answer either
                raise RedisAway("no answer in time")
            last, messages = await self._reads.execute(("LINDEX", key, -1), ("LRANGE", key, first + 1, first + count))
        for reply in (last, messages):
            if isinstance(reply, RedisError):
                raise reply
        part = None if last is None else StoredPart(messages, count, last)
        if writer is not None and writer.refusal and not (part and part.tells):
            raise RedisRefused(writer.refusal)
        return part

    def restore(self, stream_id: str) -> bool:
        """Write a stream of this process anew, since Redis has lost it; False if it is none."""
        writer = self._writers.get(stream_id)
        if writer is None or writer.expired:
            return False
        self._lose([writer])
        return True

    @contextmanager
    def next_write(self, stream_id: str) -> Iterator[asyncio.Future[None]]:
        """A future that is done when this process has next written to the stream, whoever else waits for that."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[stream_id].add(future)
        try:
            yield future
        finally:
            future.cancel()
            if waiting := self._waiting.get(stream_id):
                waiting.discard(future)
                if not waiting:
                    del self._waiting[stream_id]

    async def close(self, stream_ids: list[str]) -> None:
        """Stop writing and remove the streams of those ids: nothing is left behind."""
        self._closed = True
        self._repairing.cancel()
        keys = [_key(stream_id) for stream_id in stream_ids]
        try:
            async with asyncio.timeout(CLOSE_S):
                for k in range(0, len(keys), REMOVED_AT_ONCE):
                    await self._writes.execute(("UNLINK", *keys[k : k + REMOVED_AT_ONCE]))
        except (RedisError, TimeoutError) as error:
            _log.warning("could not remove the streams from Redis, they will expire: %s", error or "no answer in time")
        self._reads.close()
        self._writes.close()

    def _lose(self, writers: Iterable[StreamWriter]) -> None:
        for writer in writers:
            writer.lost = True
            self._lost.setdefault(writer)
        self._repair.set()

    def _flush(self) -> None:
        """Append what is new to each list, one batch at a time."""
        if not self._fresh or self._flushing or self._closed:
            return
        commands: list[RedisCommand] = []
        places = [(writer, writer.append(commands)) for writer in self._fresh if not writer.lost]
        self._fresh.clear()
        if commands:
            self._flushing = True
            self._writes.send(commands).add_done_callback(lambda told: self._flushed(places, told))

    def _flushed(self, places: list[tuple[StreamWriter, int | None]], told: asyncio.Future[list[Any]]) -> None:
        """Have written anew what was not appended, and go on with what has fallen due meanwhile."""
        self._flushing = False
        if told.cancelled() or self._closed:
            return
        if (error := told.exception()) is None:
            replies = told.result()
            lost = [writer for writer, place in places if place is not None and replies[place] != writer.length]
        else:
            self._note_trouble(error)
            lost = [writer for writer, _ in places]
        if lost:
            self._lose(lost)
        self._announce(writer for writer, _ in places if not writer.lost)
        self._flush()

    async def _repair_forever(self) -> None:
        while True:
            await self._repair.wait()
            self._repair.clear()
            while self._lost and await self._rewrite(next(iter(self._lost))):
                pass
            if self._lost:  # Redis is away, or refuses: no hurry
                self._repair.set()
                await asyncio.sleep(RETRY_S)

    async def _rewrite(self, writer: StreamWriter) -> bool:
        """Write a lost list anew; False if Redis did not take it, which is then last in turn."""
        del self._lost[writer]
        if writer.expired:
            return True
        try:
            await self._writes.transaction(*writer.rewrite())
        except RedisError as error:
            writer.refusal = str(error) if isinstance(error, RedisRefused) else ""
            self._note_trouble(error)
            self._lose([writer])
            return False
        self._in_trouble = writer.lost = False
        writer.refusal = ""
        self._fresh.add(writer)  # what fell due meanwhile
        self._flush()
        self._announce([writer])
        return True

    def _note_trouble(self, error: BaseException) -> None:
        """Say once what is wrong, not once for each attempt."""
        if not self._in_trouble:
            self._in_trouble = True
            _log.warning("Redis: %s; trying again", error)

    def _announce(self, writers: Iterable[StreamWriter]) -> None:
        if not self._waiting:
            return
        for writer in writers:
            for future in self._waiting.pop(writer.stream_id, ()):
                if not future.done():
                    future.set_result(None)


class StreamWriter:
    """Writes one answer to its list in Redis (servers.generation.Reader)."""

    def __init__(self, generation: Generation, keep_s: float, fresh: set[StreamWriter]) -> None:
        self.generation = generation
        self.stream_id = generation.stream_id
        self.lost = False  # nothing is appended until the list was written anew
        self.refusal = ""  # why Redis did not let it be, the last time
        self._key = _key(generation.stream_id)
        self._keep_s = keep_s
        self._fresh = fresh
        self._next = 0  # first index that was not handed to Redis
        self._sent_ns = array("q")  # when each token was
        self._ends = array("q", [0])  # bytes of the first k messages
        self._complete = False  # the end message was handed to Redis, too

    @property
    def length(self) -> int:
        """Of the list, with its mark and its end message, when all that was handed over is written."""
        return 1 + self._next + self._complete

    @property
    def expired(self) -> bool:
        """Whether the answer's time is over."""
        return self._time_to_live_s() <= 0

    def wake(self) -> None:
        """More has fallen due: it is stamped now and written after the tick."""
        missing = self.generation.produced - len(self._sent_ns)
        if missing:
            self._sent_ns.extend([time.monotonic_ns()] * missing)
        self._fresh.add(self)

    def append(self, commands: list[RedisCommand]) -> int | None:
        """Add the commands that append what is new; the place of the one that tells the list's length, if any.

        A list that Redis no longer has (it was restarted) is not begun in its middle: RPUSHX then does nothing.
        """
        messages = [] if self._complete else self._messages(self._next)
        if not messages:
            return None
        key = self._key
        commands += [(b"RPUSHX", key, message) for message in messages]
        place = len(commands) - 1
        if self._complete:
            commands.append((b"EXPIRE", key, self._expiry_s()))
        return place

    def rewrite(self) -> list[RedisCommand]:
        """The commands that write the list anew; the same whether it is there, in part or not at all."""
        messages = self._messages(0)
        return [("DEL", self._key), ("RPUSH", self._key, _MARK, *messages), ("EXPIRE", self._key, self._expiry_s())]

    def page_length(self, first: int) -> int:
        """How many messages from index `first` on have about `BATCH_BYTES` together; one more if that is all."""
        ends, known = self._ends, len(self._ends) - 1
        if first >= known:
            return 1
        reached = bisect_right(ends, ends[first] + BATCH_BYTES, first + 1) - 1
        return max(1, reached - first) + (reached == known)

    def _messages(self, first: int) -> list[bytes]:
        """What is handed to Redis now: the stamped tokens from `first` on, and the end message behind the last."""
        generation, ends = self.generation, self._ends
        messages = [generation.token(i, sent_ns) for i, sent_ns in enumerate(self._sent_ns[first:], first)]
        for message in messages[len(ends) - 1 - first :]:
            ends.append(ends[-1] + len(message))
        self._next = first + len(messages)
        if self._next == generation.n:
            self._complete = True
            messages.append(generation.end())
        return messages

    def _time_to_live_s(self) -> float:
        """Until `keep_s` after the answer's end, which may be still to come."""
        generation = self.generation
        return (generation.latest_end_ns - time.monotonic_ns()) / 1e9 + self._keep_s

    def _expiry_s(self) -> int:
        return max(1, ceil(self._time_to_live_s()))

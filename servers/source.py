"""Where an answer's tokens come from if not from the simulated model: a function of the user's, or an endpoint.

A source is a function from a message to the tokens of its answer: an async generator, another async iterator (or a
coroutine that returns one), or a blocking iterator, which then runs in a thread of its own. A token is due at the
moment when it came. Whatever a source does, its answer ends: complete, or with an error that says why.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import sys
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from typing import Any

from servers.checks import shown
from servers.generation import MAX_LIVE_S, Failure, Generations, LiveGeneration, NotAToken
from servers.user_errors import InputError

Function = Callable[[str, str], Any]
"""From a message and a stream id to tokens."""
OPENAI = "openai"
SILENCE_S = 60.0
MAX_THREADS = 256  # blocking iterators at once; one that hangs for ever keeps its thread
_ROOM = 64  # tokens that a blocking iterator may be ahead
_MOST_LOGGED = 500  # characters of an exception
_STOP_S = 0.5  # for sources to end when the server stops
_log = logging.getLogger(__name__)


class SourceError(Exception):
    """What a source may raise to say which error its answer ends with."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def failed(why: str) -> SourceError:
    """The error of a source that does not work."""
    return SourceError(Failure(502, "source_failed", f"the source failed: {why}"))


class LiveSource:
    """Answers by a function (servers.generation.Source). One that gives nothing for `silence_s` is given up."""

    def __init__(
        self,
        name: str,
        function: Function,
        generations: Generations,
        silence_s: float = SILENCE_S,
        on_stop: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.name = name
        self._function = function
        self._on_stop = on_stop
        self._generations = generations
        self._silence_s = silence_s
        self._running: set[asyncio.Task[None]] = set()

    def start(self, message: str, stream_id: str | None) -> LiveGeneration:
        """Begin an answer, which goes on whoever reads it. Raises Busy."""
        generation = self._generations.start_live(stream_id)
        task = asyncio.create_task(_answer(self._function, message, generation))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        self._watch(generation, task)
        return generation

    @property
    def is_running(self) -> bool:
        """Whether the function is still at work on any answer."""
        return bool(self._running)

    async def stop(self) -> None:
        """End what is running, if it obeys."""
        running = tuple(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=_STOP_S)
        if self._on_stop is not None:
            await self._on_stop()

    def _watch(self, generation: LiveGeneration, task: asyncio.Task[None]) -> None:
        """End an answer whose source has fallen silent, or never ends; it may not obey, but nobody waits for it."""
        if generation.closed:
            return
        now_ns = time.monotonic_ns()
        silence_left_s = self._silence_s - (now_ns - generation.heard_ns) / 1e9
        time_left_s = MAX_LIVE_S - (now_ns - generation.start_ns) / 1e9
        left_s = min(silence_left_s, time_left_s)
        if left_s > 0:
            asyncio.get_running_loop().call_later(left_s, self._watch, generation, task)
            return
        why = f"gave nothing for {self._silence_s:g} s" if silence_left_s <= 0 else f"took over {MAX_LIVE_S:g} s"
        generation.close(Failure(504, "source_timeout", f"the source {why}"))
        task.cancel()


async def _answer(function: Function, message: str, generation: LiveGeneration) -> None:
    """Take an answer's tokens to its end, whatever kind of end it is."""
    try:
        async with aclosing(_tokens(function, message, generation.stream_id)) as tokens:
            async for text in tokens:
                if generation.closed:
                    return
                generation.add(text)
        generation.close()
    except SourceError as error:
        generation.close(error.failure)
    except NotAToken as error:
        generation.close(failed(str(error)).failure)
    except asyncio.CancelledError:
        if not _is_cancelled():  # its own, as of a task group that gave up
            generation.close(failed("CancelledError").failure)
            return
        generation.close(Failure(503, "stopping", "the server is stopping; ask again", 1))
        raise
    except BaseException as error:  # SystemExit too: a source that calls sys.exit() ends its answer, not the server
        # Its words may tell what a client must not know; whoever runs the server finds them in its log.
        words = " ".join(str(error).split())[:_MOST_LOGGED]
        _log.warning("the source failed: %s: %s", type(error).__name__, words)
        generation.close(failed(type(error).__name__).failure)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _tokens(function: Function, message: str, stream_id: str) -> AsyncGenerator[object, None]:
    """What the function gives, one by one, however it does."""
    tokens = function(message, stream_id)
    if inspect.isawaitable(tokens):
        tokens = await tokens
    if isinstance(tokens, AsyncIterable):
        items: AsyncIterable[object] = tokens
    elif isinstance(tokens, Iterable) and not isinstance(tokens, str | bytes):
        items = _in_thread(tokens)
    else:
        raise failed(f"it returned a {type(tokens).__name__}, which is no iterator of tokens")
    try:
        async for item in items:
            yield item
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


class _Raised:
    """What a blocking iterator raised; None where it has ended."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


_threads = threading.BoundedSemaphore(MAX_THREADS)


async def _in_thread(items: Iterable[object]) -> AsyncGenerator[object, None]:
    """Iterate over `items` in a thread of its own, which is not waited for: it may hang for ever."""
    if not _threads.acquire(blocking=False):
        raise _too_many_threads()
    given = _Given()
    try:
        threading.Thread(target=given.iterate, args=(items,), daemon=True).start()
    except RuntimeError:  # the system lets no more be started
        _threads.release()
        raise _too_many_threads() from None
    try:
        while True:
            item = await given.next()
            if isinstance(item, _Raised):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        given.stop()


def _too_many_threads() -> SourceError:
    return SourceError(Failure(503, "busy", "too many blocking sources are at work; try again soon", 1))


class _Given:
    """Items on their way from a thread to the event loop, at most `_ROOM` of them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[object] = asyncio.Queue()
        self._room = threading.Semaphore(_ROOM)
        self._stopped = False

    async def next(self) -> object:
        """The next item; _Raised behind the last."""
        item = await self._queue.get()
        self._room.release()
        return item

    def stop(self) -> None:
        """No more is wanted; the thread ends as soon as it has its next item."""
        self._stopped = True
        self._room.release()

    def iterate(self, items: Iterable[object]) -> None:
        """The thread."""
        error: BaseException | None = None
        try:
            for item in items:
                self._room.acquire()
                if self._stopped:
                    return
                self._tell(item)
        except BaseException as raised:
            error = raised
        finally:
            _threads.release()
        self._tell(_Raised(error))

    def _tell(self, item: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)


def load_function(name: str) -> Function:
    """The function of a message that `MODULE:FUNCTION` names, looked for from the current folder on too.

    Raises InputError.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute or "/" in name:
        raise InputError(f"--source: takes MODULE:FUNCTION, {OPENAI} or http://HOST:PORT, not {shown(name)}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a module may raise anything while it is imported
        raise InputError(f"--source: cannot import {module[:200]}: {type(error).__name__}: {error}") from error
    function = getattr(found, attribute, None)
    if not callable(function):
        raise InputError(f"--source: {module[:200]} has no function {attribute[:200]}")
    return lambda message, _: function(message)

"""What every server is told when it starts, and what it counts."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Protocol

import psutil

from servers import source
from servers.answering import Spans
from servers.emitter import Emitter
from servers.generation import Generation, Generations
from servers.lags import Lags, LoopProbe
from servers.openai_source import ModelEndpoint
from servers.pace import Pace
from servers.process import usable_cores
from servers.push import MessageWriter, Push
from servers.relay_source import RelayedServer
from servers.source import SILENCE_S, LiveSource
from servers.text import prose
from servers.text.hazards import hazards

MAX_REQUEST_BYTES = 2**20
KEEP_ALIVE_S = 75.0  # nginx's default; a connection on which nobody asks is closed after so long
DRAIN_S = 2.0  # what runs when a server is told to stop may go on for so long


@dataclass(frozen=True)
class Settings:
    """A server's options, as `tokenderby serve --help` describes them. Seconds; None switches off."""

    transport: str
    host: str = "127.0.0.1"
    port: int = 0
    redis_url: str | None = None
    auth_token: str | None = None
    allow_origins: tuple[str, ...] = ()
    heartbeat_s: float | None = None
    keep_s: float = 120.0
    keep_alive_s: float = KEEP_ALIVE_S
    raw_text: bool = False
    source: str | None = None
    source_timeout_s: float = SILENCE_S
    stack: str | None = None
    late_head: bool = False
    also: tuple[str, ...] = ()
    recordings: tuple[str, ...] = ()


@dataclass
class Stats:
    """Counters behind `GET /stats`. `requests` counts chat requests and polls, not probes such as /stats itself."""

    requests: int = 0
    streams_completed: int = 0
    tokens_sent: int = 0
    redis_commands: int = 0
    extra: dict[str, object] = field(default_factory=dict)

    def note_sent(self, tokens: int) -> None:
        """Count tokens handed to a connection; a token sent twice counts twice."""
        self.tokens_sent += tokens

    def note_commands(self, commands: int) -> None:
        """Count commands sent to Redis."""
        self.redis_commands += commands


class Stoppable(Protocol):
    """An answer on its way to a client."""

    def stop(self) -> None:
        """End early: the server is stopping."""


def source_function(name: str) -> tuple[source.Function, Callable[[], Awaitable[None]] | None]:
    """The function that `--source` names, and what frees what it holds. Raises servers.user_errors.InputError."""
    if name == source.OPENAI:
        endpoint = ModelEndpoint.of(os.environ)
        return lambda message, _: endpoint.tokens(message), endpoint.close
    if name.startswith("http://"):
        relay = RelayedServer.of(name, os.environ.get("TOKENDERBY_AUTH_TOKEN") or None)
        return relay.tokens, relay.close
    return source.load_function(name), None


class Service:
    """What the transports share inside one server process: settings, clock, answers, counters."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.emitter = Emitter()
        self.lags = {"emit": self.emitter.lags, "loop": Lags()}
        self.generations = Generations(self.emitter, settings.keep_s, raw_text=settings.raw_text)
        self.stats = Stats()
        self.stopping = asyncio.Event()
        self.generations.source = self.source = self._named_source()
        self._pace = Pace()
        self._probe = LoopProbe(self._note_beats, is_busy=lambda: self.generations.active)
        self._answering: set[Stoppable] = set()
        self.spans = Spans()
        self._idle = asyncio.Event()
        self._idle.set()
        prose(), hazards()  # read now: at its limit of descriptors a server could not open their file
        self._process = psutil.Process(os.getpid())
        self._rss_bytes = 0
        self._started_ns = time.monotonic_ns()

    def beside(self, transport: str) -> Service:
        """The same answers, clock and counters for another transport of this process."""
        other = copy(self)
        other.settings = replace(self.settings, transport=transport)
        return other

    def _named_source(self) -> LiveSource | None:
        name = self.settings.source
        if name is None:
            return None
        function, close = source_function(name)
        return LiveSource(name, function, self.generations, self.settings.source_timeout_s, close)

    async def push(self, generation: Generation, first: int, connection: MessageWriter) -> bool:
        """Push an answer from index `first` down `connection`; False if the server stopped before its end.

        Raises servers.push.ReaderGone.
        """
        push = Push(generation, first, connection, self.stats)
        with self.answering(push, generation.stream_id):
            completed = await push.run(self.settings.heartbeat_s)
        if completed and generation.failure is None:
            self.note_delivered(generation)
        return completed

    def note_delivered(self, generation: Generation) -> None:
        """Count an answer whose end message was handed to a connection; once, however often it is read again."""
        self.stats.streams_completed += not generation.delivered
        generation.delivered = True

    @contextmanager
    def answering(self, work: Stoppable, stream_id: str) -> Iterator[None]:
        """Hold the server's stop back while `work` on an answer goes on, for a limited time; keep when it was."""
        self._answering.add(work)
        self._idle.clear()
        try:
            with self.spans.of(stream_id):
                yield
        finally:
            self._answering.discard(work)
            if not self._answering:
                self._idle.set()

    async def stop(self) -> None:
        """Let the answers that are being sent go on for `DRAIN_S`, then end them."""
        self.stopping.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._idle.wait()
        for work in tuple(self._answering):
            work.stop()
        if self.source is not None:
            await self.source.stop()

    def close(self) -> None:
        """Stop the clocks: nothing is emitted any more."""
        self.emitter.close()
        self._probe.close()
        self._pace.close()

    def stats_report(self, since_ns: int = 0) -> dict[str, object]:
        """The body of `GET /stats`; lags are those since `since_ns`."""
        stats = self.stats
        self.generations.forget_expired()
        return {
            "transport": self.settings.transport,
            "requests": stats.requests,
            "streams_started": self.generations.started,
            "streams_active": self.generations.active,
            "readers": len(self._answering),
            "streams_completed": stats.streams_completed,
            "tokens_sent": stats.tokens_sent,
            "redis_commands": stats.redis_commands,
            "cpu_seconds": time.process_time(),
            "rss_bytes": self._read_rss_bytes(),
            **self._lags_us(since_ns),
            "pace_us": self._pace.us_since(since_ns),
            "now_ns": time.monotonic_ns(),
            "started_ns": self._started_ns,  # another number: another process
            "cores": usable_cores(),
            "source": self.generations.source.name if self.generations.source else None,
            "stack": self.settings.stack,
            "heartbeat_s": self.settings.heartbeat_s or 0.0,
            "late_head": self.settings.late_head,
            **({"answered": self.spans.since(since_ns)} if since_ns else {}),
            **stats.extra,
        }

    def _note_beats(self, now_ns: int, lags_ns: Sequence[int]) -> None:
        self.lags["loop"].note_all(now_ns, lags_ns)
        self._pace.measure(now_ns)

    def _lags_us(self, since_ns: int) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, lags in self.lags.items():
            found[f"{name}_lag_us_p99"], found[f"{name}_lag_us_max"] = lags.us_since(since_ns)
        return found

    def _read_rss_bytes(self) -> int:
        """The memory in use; the last known value where the system lets nothing be opened to look."""
        with suppress(OSError):
            self._rss_bytes = self._process.memory_info().rss
        return self._rss_bytes

    def clock_report(self) -> dict[str, object]:
        """The body of `GET /clock`."""
        return {"monotonic_ns": time.monotonic_ns()}

    def health_report(self) -> dict[str, object]:
        """The body of `GET /healthz`."""
        return {"transport": self.settings.transport}

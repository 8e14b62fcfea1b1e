"""One answer being produced, apart from the connections that read it.

A `Generation` is a schedule that has started. Any reader can begin at any index, several may read, and it is kept for
a while after its end, so that a client that was cut off can resume. It knows no connection: a reader is anything
with `wake()`, called whenever more has fallen due.
"""

from __future__ import annotations

import secrets
import time
from array import array
from collections import deque
from collections.abc import Callable
from typing import Protocol

from servers.emitter import Emitter
from servers.messages import TOKEN_FORMAT, JsonTexts, encode_end
from servers.stream import Schedule

MAX_ACTIVE = 10_000
MAX_KEPT = 50_000


class Reader(Protocol):
    """Somebody who wants an answer's tokens as they fall due."""

    def wake(self) -> None:
        """More has been produced; must return at once."""


class Generation:
    """A started answer: of its `n` tokens, `produced` have fallen due; token i does so at `due_ns[i]`."""

    __slots__ = (
        "_json_texts",
        "_on_end",
        "_readers",
        "_texts",
        "delivered",
        "due_ns",
        "ended_ns",
        "n",
        "produced",
        "schedule",
        "start_ns",
        "stream_id",
    )

    def __init__(
        self,
        stream_id: str,
        schedule: Schedule,
        start_ns: int,
        on_end: Callable[[Generation], object],
        json_texts: JsonTexts,
    ) -> None:
        self.stream_id = stream_id
        self.schedule = schedule
        self.start_ns = start_ns
        self.n = schedule.n
        self.due_ns = array("q", [start_ns + offset_ns for offset_ns in schedule.due_ns])
        self._texts = schedule.texts
        self.produced = 0
        self.ended_ns: int | None = None
        self.delivered = False  # whether its end message was handed to any connection
        self._on_end = on_end
        self._json_texts = json_texts
        self._readers: list[Reader] = []

    @property
    def ended(self) -> bool:
        """Whether all tokens have been produced."""
        return self.ended_ns is not None

    def subscribe(self, reader: Reader) -> None:
        """Wake `reader` from now on."""
        self._readers.append(reader)

    def unsubscribe(self, reader: Reader) -> None:
        """Forget `reader`; no harm if it is unknown."""
        if reader in self._readers:
            self._readers.remove(reader)

    def emit(self, now_ns: int) -> int | None:
        """Produce all that is due; the next due time or, after the last token, None (servers.emitter.Emits)."""
        due_ns, produced, n = self.due_ns, self.produced, self.n
        next_ns = None
        while produced < n:
            next_ns = due_ns[produced]
            if next_ns > now_ns:
                break
            produced += 1
        self.produced = produced
        if produced == n:
            next_ns = None
            self.ended_ns = now_ns
            self._on_end(self)
        for reader in self._readers:  # nobody comes or goes while they are woken
            reader.wake()
        return next_ns

    def token(self, i: int, sent_ns: int) -> bytes:
        """The encoded token message `i`, handed to its transport at `sent_ns`."""
        return TOKEN_FORMAT % (i, self._json_texts[self._texts[i]], self.due_ns[i], sent_ns)

    def json_text(self, i: int) -> bytes:
        """The text of token `i` as a JSON string, quotes included."""
        return self._json_texts[self._texts[i]]

    def end(self) -> bytes:
        """The encoded end message."""
        return encode_end(self.n, self.schedule.sha256)


class Busy(Exception):
    """As many answers are being produced as the server takes."""


class Generations:
    """The answers that a server is producing or still keeps: for `keep_s` after their end, and at most `MAX_KEPT`."""

    def __init__(self, emitter: Emitter, keep_s: float, *, raw_text: bool = False) -> None:
        self.keep_s = keep_s
        self._json_texts = JsonTexts(raw=raw_text)
        self.started = 0
        self.active = 0
        self._emitter = emitter
        self._by_id: dict[str, Generation] = {}
        self._ended: deque[Generation] = deque()  # in the order of their ends, and so of their expiry

    def start(self, schedule: Schedule, stream_id: str | None = None) -> Generation:
        """Start an answer now, under a new id (a random one without). Raises Busy."""
        self.forget_expired()
        if self.active >= MAX_ACTIVE:
            raise Busy
        now_ns = time.monotonic_ns()
        stream_id = stream_id or secrets.token_urlsafe(12)
        generation = Generation(stream_id, schedule, now_ns, self._note_end, self._json_texts)
        self._by_id[generation.stream_id] = generation
        self.started += 1
        self.active += 1
        self._emitter.start(generation, now_ns + schedule.ttft_ns)
        return generation

    def get(self, stream_id: str) -> Generation | None:
        """The answer of that id, if it is being produced or still kept."""
        self.forget_expired()
        return self._by_id.get(stream_id)

    def forget_expired(self) -> None:
        """Free the answers whose time is over."""
        oldest_ns = time.monotonic_ns() - int(self.keep_s * 1e9)
        ended = self._ended
        while ended and (len(ended) > MAX_KEPT or (ended[0].ended_ns or 0) < oldest_ns):
            self.discard(ended.popleft())

    def discard(self, generation: Generation) -> None:
        """Forget an answer now, also one that has only begun; its id may be used again."""
        if self._by_id.get(generation.stream_id) is not generation:
            return
        del self._by_id[generation.stream_id]
        if not generation.ended:
            self.started -= 1
            self.active -= 1
            self._emitter.forget(generation)

    def ids(self) -> list[str]:
        """The ids of all answers that are being produced or kept."""
        return list(self._by_id)

    def _note_end(self, generation: Generation) -> None:
        self.active -= 1
        self._ended.append(generation)

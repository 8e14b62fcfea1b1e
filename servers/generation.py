"""One answer being produced, apart from the connections that read it.

A `Generation` is a schedule that has started; a `LiveGeneration` takes what comes from elsewhere. Any reader can begin
at any index, several may read, and it is kept for a while after its end, so that a client that was cut off can resume.
It knows no connection: a reader is anything with `wake()`, called whenever more has fallen due.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from servers.emitter import Emitter
from servers.messages import (
    MAX_TOKENS,
    TOKEN_FORMAT,
    JsonTexts,
    TokenMessage,
    encode_end,
    encode_error,
    json_text,
)
from servers.recording import MAX_DELTA_BYTES
from servers.stream import Schedule

MAX_ACTIVE = 10_000
MAX_KEPT = 50_000
MAX_LIVE_S = 900.0  # what has not ended by then ends incomplete
MAX_LIVE_BYTES = 8 << 20  # of one answer's text
MAX_LIVE_SIGNS = 500_000  # of life, in one answer: empty texts
_UNKNOWN_N = MAX_TOKENS + 1


class Reader(Protocol):
    """Somebody who wants an answer's tokens as they fall due."""

    def wake(self) -> None:
        """More has been produced; must return at once."""


class Failure(NamedTuple):
    """Why an answer has no end: the HTTP status for it, a word for programs, a sentence, and when to ask again."""

    status: int
    code: str
    message: str
    retry_after_s: int | None = None


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
        "failure",
        "n",
        "produced",
        "schedule",
        "start_ns",
        "stream_id",
        "wire_id",
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
        self.wire_id = stream_id.encode("ascii")  # for each event of each token
        self.schedule = schedule
        self.start_ns = start_ns
        self.n = schedule.n
        self.due_ns = array("q", map(start_ns.__add__, schedule.due_ns))
        self._texts = schedule.texts
        self.produced = 0
        self.ended_ns: int | None = None
        self.failure: Failure | None = None  # why it ended incomplete
        self.delivered = False  # whether its end message was handed to any connection
        self._on_end = on_end
        self._json_texts = json_texts
        self._readers: tuple[Reader, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether all tokens have been produced."""
        return self.ended_ns is not None

    @property
    def last_first(self) -> int:
        """The last index that a reader may begin at."""
        return self.n

    @property
    def latest_end_ns(self) -> int:
        """When it ended, or will have ended."""
        return self.ended_ns or self.start_ns + self.schedule.duration_ns

    def subscribe(self, reader: Reader) -> None:
        """Wake `reader` from now on."""
        self._readers = (*self._readers, reader)

    def unsubscribe(self, reader: Reader) -> None:
        """Forget `reader`; no harm if it is unknown."""
        self._readers = tuple(other for other in self._readers if other is not reader)

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
        for reader in self._readers:
            reader.wake()
        return next_ns

    def token(self, i: int, sent_ns: int) -> bytes:
        """The encoded token message `i`, handed to its transport at `sent_ns`."""
        return TOKEN_FORMAT % (i, self._json_texts[self._texts[i]], self.due_ns[i], sent_ns)

    def json_text(self, i: int) -> bytes:
        """The text of token `i` as a JSON string, quotes included."""
        return self._json_texts[self._texts[i]]

    def end(self) -> bytes:
        """The encoded end message; of an answer that has none, the error that says why."""
        if self.failure is not None:
            return encode_error(self.failure.code, self.failure.message)
        return encode_end(self.n, self._sha256())

    def abandon(self, emitter: Emitter) -> None:
        """Nobody is to have it: emit nothing more."""
        emitter.forget(self)

    def _sha256(self) -> str:
        return self.schedule.sha256


class LiveGeneration(Generation):
    """An answer whose tokens come from elsewhere: each is due at the moment when it came, if it does not say when.

    `n` is not known before the end; `heard_ns` is when something came last.
    """

    __slots__ = ("_bytes", "_digest", "_emitter", "_signs", "_waits", "closed", "heard_ns")

    def __init__(
        self,
        stream_id: str,
        start_ns: int,
        on_end: Callable[[Generation], object],
        json_texts: JsonTexts,
        emitter: Emitter,
    ) -> None:
        super().__init__(stream_id, Schedule([], array("q")), start_ns, on_end, json_texts)
        self.n = _UNKNOWN_N
        self.heard_ns = start_ns
        self.closed = False  # nothing more is taken
        self._texts: list[str] = []
        self._emitter = emitter
        self._digest = hashlib.sha256()
        self._signs = self._bytes = 0
        self._waits = False  # for its turn in the emitter

    @property
    def texts(self) -> Sequence[str]:
        """What has come."""
        return self._texts

    @property
    def last_first(self) -> int:
        """What has not come yet may never come."""
        return self.n if self.ended else self.produced

    @property
    def latest_end_ns(self) -> int:
        """When it ended, or has to."""
        return self.ended_ns or self.start_ns + int(MAX_LIVE_S * 1e9)

    def add(self, item: object) -> None:
        """Take the next token, or one with a time of its own; an empty text only shows that its maker is alive.

        Raises NotAToken.
        """
        if self.closed:
            return
        self.heard_ns = now_ns = time.monotonic_ns()
        timed = isinstance(item, TokenMessage)
        text, due_ns = (item.t, item.due) if isinstance(item, TokenMessage) else (item, now_ns)
        if due_ns > now_ns:
            raise NotAToken("it gave a token that is due in the future, by the clock of another machine")
        encoded = _checked(text)
        self._signs += not encoded
        self._bytes += len(encoded)
        if len(self._texts) == MAX_TOKENS or self._bytes > MAX_LIVE_BYTES or self._signs > MAX_LIVE_SIGNS:
            raise NotAToken(f"it gave more than {MAX_TOKENS} tokens or {MAX_LIVE_BYTES} bytes, or hardly any but empty")
        if encoded or timed:
            self._digest.update(encoded)
            self._texts.append(str(text))
            self.due_ns.append(due_ns)
            self._ask_for_turn(now_ns)

    def close(self, failure: Failure | None = None) -> None:
        """There is no more: the answer is complete, or has failed. What comes after the first time means nothing."""
        if not self.closed:
            self.closed, self.failure = True, failure
            self._ask_for_turn(time.monotonic_ns())

    def emit(self, now_ns: int) -> int | None:
        """Hand out all that has come (servers.emitter.Emits)."""
        self._waits = False
        self.produced = len(self._texts)
        if self.closed:
            self.n = self.produced
            self.ended_ns = now_ns
            self._on_end(self)
        for reader in self._readers:
            reader.wake()
        return None

    def abandon(self, emitter: Emitter) -> None:
        """Nobody is to have it: take nothing more."""
        self.closed = True
        if self._waits:
            emitter.forget(self)

    def _ask_for_turn(self, now_ns: int) -> None:
        if not self._waits:
            self._waits = True
            self._emitter.start(self, now_ns)

    def _sha256(self) -> str:
        return self._digest.hexdigest()


class NotAToken(Exception):
    """What a source gave cannot be sent."""


def _checked(text: object) -> bytes:
    if not isinstance(text, str):
        raise NotAToken(f"it gave a {type(text).__name__} where a str belongs")
    if len(text) > MAX_DELTA_BYTES // 12 and len(json_text(text)) > MAX_DELTA_BYTES:
        raise NotAToken(f"it gave a token of more than {MAX_DELTA_BYTES} bytes as JSON")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise NotAToken("it gave half a surrogate pair, which is no text") from None


class Source(Protocol):
    """Who answers in place of the simulated model."""

    name: str

    def start(self, message: str, stream_id: str | None) -> Generation:
        """Begin an answer. Raises Busy."""


class Answers(Protocol):
    """The answers that a server has begun and keeps."""

    source: Source | None

    def get(self, stream_id: str) -> Generation | None:
        """The answer of that id, if it is being produced or still kept."""

    def start(self, schedule: Schedule, stream_id: str | None = None) -> Generation:
        """Start an answer now, under a new id (a random one without). Raises Busy."""


class Busy(Exception):
    """As many answers are being produced as the server takes."""


class Generations:
    """The answers that a server is producing or still keeps: for `keep_s` after their end, and at most `MAX_KEPT`."""

    def __init__(self, emitter: Emitter, keep_s: float, *, raw_text: bool = False) -> None:
        self.keep_s = keep_s
        self.source: Source | None = None
        self._json_texts = JsonTexts(raw=raw_text)
        self.started = 0
        self.active = 0
        self._emitter = emitter
        self._by_id: dict[str, Generation] = {}
        self._ended: deque[Generation] = deque()  # in the order of their ends, and so of their expiry

    def start(self, schedule: Schedule, stream_id: str | None = None) -> Generation:
        """Start an answer now, under a new id (a random one without). Raises Busy."""
        now_ns = self._make_room()
        stream_id = stream_id or secrets.token_urlsafe(12)
        generation = Generation(stream_id, schedule, now_ns, self._note_end, self._json_texts)
        self._keep(generation)
        self._emitter.start(generation, now_ns + schedule.ttft_ns)
        return generation

    def start_live(self, stream_id: str | None = None) -> LiveGeneration:
        """Start an answer whose tokens will come. Raises Busy."""
        now_ns = self._make_room()
        stream_id = stream_id or secrets.token_urlsafe(12)
        generation = LiveGeneration(stream_id, now_ns, self._note_end, self._json_texts, self._emitter)
        self._keep(generation)
        return generation

    def _make_room(self) -> int:
        """The time now, at which an answer may start. Raises Busy."""
        self.forget_expired()
        if self.active >= MAX_ACTIVE:
            raise Busy
        return time.monotonic_ns()

    def _keep(self, generation: Generation) -> None:
        self._by_id[generation.stream_id] = generation
        self.started += 1
        self.active += 1

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
            generation.abandon(self._emitter)

    def ids(self) -> list[str]:
        """The ids of all answers that are being produced or kept."""
        return list(self._by_id)

    def _note_end(self, generation: Generation) -> None:
        self.active -= 1
        self._ended.append(generation)

"""What the page tells of its messages, and the records made of it: the same as of any client, and what was painted.

Pure. The page's module repairs what it can and never hands out a wrong token; the ledger judges all the same, by the
schedule, so that a fault of the module shows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby, pairwise

import msgspec

from clients.chromium.page_clock import PageClock
from clients.core.errors import (
    AnswerTruncated,
    ClientFailure,
    ConnectionBroken,
    MessageTimeout,
    NoConnection,
    NotTheFormat,
    OwnFault,
    RequestRefused,
    SilenceTimeout,
    TokenSilence,
)
from clients.core.exchange import Exchange, Question
from clients.core.record import StreamRecord
from clients.core.recovery import Policy
from clients.job import Load
from servers.messages import EndMessage, TokenMessage


class Tokens(msgspec.Struct, rename="camel"):
    """The tokens of an answer in the order they came, as columns; `read`: which read of the page's brought them."""

    i: list[int]
    text: list[str]
    due: list[int]
    sent: list[int]
    at_ms: list[float]
    read: list[int]


class PageAttempt(msgspec.Struct, rename="camel"):
    """One try of the module (stream-chat.js, `Attempt`); times are ms since the message's start."""

    cause: str
    tokens: int
    start_ms: float
    end_ms: float = 0.0


class PageRequest(msgspec.Struct, rename="camel"):
    """What Resource Timing says of one request; a WebSocket has none."""

    protocol: str  # "http/1.1", "h2"
    waited_ms: float  # until it was sent: for a connection, mostly
    head_ms: float  # until the first byte came back
    is_connecting: bool  # it opened a connection, which took so long:
    dns_ms: float
    tcp_ms: float
    tls_ms: float


class PageAnswer(msgspec.Struct, rename="camel"):
    """What became of message `k`. `frames`: when each frame with new tokens was painted, and how many it had."""

    k: int
    intended_ms: float
    start_ms: float
    end_ms: float
    failure: str
    tokens: Tokens
    frames: list[tuple[float, int]]
    dropped: int
    attempts: list[PageAttempt]
    requests: int
    seen: list[PageRequest]
    long_tasks_ms: list[float]
    shown_ms: float


@dataclass(frozen=True)
class Painted:
    """A row of painted.parquet: what was painted of a message. Times in CLOCK_MONOTONIC ns, 0 for never.

    `painted_ns` of a token is the first task behind the frame that had it (page.js); `first_shown_ns` is what Element
    Timing says of the first token's presentation. `frames` are those with something new, `frames_dropped` those that
    did not come while the message went on, `long_tasks` of the page those over 50 ms.
    `clock_error_ns`: by so much all times of the page may be wrong against those of the server.
    """

    stream_id: str
    first_painted_ns: int
    last_painted_ns: int
    first_shown_ns: int
    frames: int
    tokens_painted: int
    painted_gap_ms_max: float | None
    frames_dropped: int
    long_tasks: int
    long_tasks_ms: float
    waited_ms: float | None
    protocol: str
    clock_error_ns: int


def record_of(answer: PageAnswer, question: Question, clock: PageClock, load: Load, *, is_socket: bool) -> StreamRecord:
    """The message's record, as any client's. What a page is not told (bytes with their headers, packets) is None."""
    exchange = Exchange.begin(question, Policy(), clock.ns(answer.start_ms))
    failure = failure_of(answer.failure, load) if answer.failure else None
    _enter(answer, exchange, clock)
    if failure is None:
        end = _end_of(answer.tokens)
        exchange.ledger.add([end], clock.ns(answer.end_ms))
    record = exchange.settle(failure)
    # Over a WebSocket the module counts its attempts: each is an upgrade, and a request if that was granted.
    asked = sum(attempt.cause != "refused" for attempt in answer.attempts) if is_socket else 0
    record.requests = answer.requests + asked
    lost = [attempt.cause for attempt in answer.attempts if attempt.cause not in ("", "stopped", "refused")]
    record.drops, record.noticed_by = len(lost), lost
    record.attempts = max(1, len(answer.attempts))
    _note_connections(record, answer, is_socket=is_socket)
    return record


def _note_connections(record: StreamRecord, answer: PageAnswer, *, is_socket: bool) -> None:
    """A WebSocket has one for each attempt, of which Resource Timing says nothing."""
    record.connections = len(answer.attempts) if is_socket else sum(seen.is_connecting for seen in answer.seen)
    record.head_ms = answer.seen[0].head_ms if answer.seen else None
    for part in ("dns_ms", "tcp_ms", "tls_ms"):
        setattr(record, part, math.nan if is_socket else sum(getattr(seen, part) for seen in answer.seen))


def _enter(answer: PageAnswer, exchange: Exchange, clock: PageClock) -> None:
    """Put the tokens into the ledger, a read's at once, and between them the drops, each where it happened."""
    tokens = answer.tokens
    messages = map(TokenMessage, tokens.i, tokens.text, tokens.due, tokens.sent)
    rows = zip(tokens.read, tokens.at_ms, messages, strict=True)
    drops_ms = [answer.start_ms + attempt.end_ms for attempt in answer.attempts[:-1]]
    for (_, at_ms), same in groupby(rows, key=lambda row: row[:2]):
        while drops_ms and drops_ms[0] <= at_ms:
            exchange.ledger.note_drop(clock.ns(drops_ms.pop(0)))
        exchange.ledger.add([message for _, _, message in same], clock.ns(at_ms))


def _end_of(tokens: Tokens) -> EndMessage:
    """The module has held the end message against what it gave out; so that must have said this."""
    return EndMessage(True, len(tokens.i), hashlib.sha256("".join(tokens.text).encode()).hexdigest())


def failure_of(reason: str, load: Load) -> ClientFailure:
    """The module's reason in the words of all clients."""
    word, _, rest = reason.partition(" ")
    if word == "timeout":
        return MessageTimeout(load.timeout_s)
    if word == "silence":
        return SilenceTimeout(load.silence_s or 0.0)
    if reason == "token silence":
        return TokenSilence(load.token_silence_s or 0.0)
    if word in ("status", "error"):
        return RequestRefused("", reason, int(rest) if rest.isdecimal() else 0)
    return _FAILURES[word](reason) if word in _FAILURES else OwnFault(RuntimeError(reason))


_FAILURES: dict[str, Callable[[str], ClientFailure]] = {
    **dict.fromkeys(("refused", "unsupported"), NoConnection),
    **dict.fromkeys(("end", "close"), lambda reason: AnswerTruncated("", reason)),
    **dict.fromkeys(("format", "gap", "changed", "altered"), NotTheFormat),
    **dict.fromkeys(("network", "sleep", "online", "offline"), lambda reason: ConnectionBroken("", reason)),
}


def painted_of(answer: PageAnswer, stream_id: str, clock: PageClock) -> Painted:
    """What was painted of the message."""
    times_ms = [at_ms for at_ms, _ in answer.frames]
    return Painted(
        stream_id=stream_id,
        first_painted_ns=clock.ns(times_ms[0]) if times_ms else 0,
        last_painted_ns=clock.ns(times_ms[-1]) if times_ms else 0,
        first_shown_ns=clock.ns(answer.shown_ms) if answer.shown_ms else 0,
        frames=len(times_ms),
        tokens_painted=sum(count for _, count in answer.frames),
        painted_gap_ms_max=max((later - earlier for earlier, later in pairwise(times_ms)), default=None),
        frames_dropped=answer.dropped,
        long_tasks=len(answer.long_tasks_ms),
        long_tasks_ms=sum(answer.long_tasks_ms),
        waited_ms=answer.seen[0].waited_ms if answer.seen else None,
        protocol=answer.seen[0].protocol if answer.seen else "",
        clock_error_ns=clock.error_ns,
    )

"""A message on its way: what was asked, what has come, and what each failed attempt cost (pure; times are arguments).

The asyncio clients and Locust's users share this; they differ only in how they wait.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from clients.core.errors import ClientFailure, NoConnection, RequestRefused
from clients.core.fallback import Turns
from clients.core.ledger import Ledger
from clients.core.record import UNKNOWN_NS, Outcome, StreamRecord
from clients.core.recovery import Policy
from clients.core.response import MAX_BODY_BYTES
from servers.messages import MAX_TOKENS
from servers.stream import Schedule

GREETING = "Which transport brings the first token soonest?"
_NOT_FOUND = 404
_TOKEN_BYTES = 512  # of a token's message beside its text, at most
_CHAR_BYTES = 12  # of a character as JSON, at most: two escapes
_SPARE_BYTES = 1 << 20

# Which refusals leave a model at work (RFC 9110 §15.5-15.6). A gateway's own word for it is 504 (Cloudflare: 524), but
# Envoy says 408 when its limit is over, Heroku, Front Door and Envoy 503, Traefik 502. The same statuses stand for a
# server that nobody reached; that is known at once, while a limit takes its time.
_GATEWAY_TIMEOUTS = frozenset({504, 524})
_AMBIGUOUS = frozenset({408, 500, 502, 503, 520, 521, 522, 523})
_AT_ONCE_NS = 200_000_000


@dataclass(frozen=True)
class Question:
    """One message to send, and the answer that the schedule promises. Times are CLOCK_MONOTONIC ns.

    `is_told`: the server answers by a source of its own, so that only its end message tells what the answer is.
    """

    stream_id: str
    seed: int
    stream: object  # a stream profile's name or a table of parameters, as a chat request takes it
    schedule: Schedule
    intended_start_ns: int
    timeout_s: float = 60.0
    conversation: int = 0
    turn: int = 0
    text: str = GREETING
    is_told: bool = False

    @property
    def most_tokens(self) -> int:
        """That the answer may have, as far as anybody knows."""
        return MAX_TOKENS if self.is_told else self.schedule.n

    @property
    def most_chars(self) -> int:
        """That its text may have."""
        return MAX_BODY_BYTES if self.is_told else sum(map(len, self.schedule.texts))

    @property
    def most_bytes(self) -> int:
        """That the whole of it takes as JSON, and far more: a server that sends a longer body sends something else."""
        return min(MAX_BODY_BYTES, _SPARE_BYTES + _TOKEN_BYTES * self.most_tokens + _CHAR_BYTES * self.most_chars)


@dataclass
class Exchange:
    """A question, the ledger and the record of its answer, and where the next attempt begins."""

    question: Question
    policy: Policy
    record: StreamRecord
    turns: Turns
    ledger: Ledger = field(default_factory=Ledger)
    first: int = 0
    restarts: int = 0
    poll_path: str = ""  # polling: the answer to the POST
    last_event_id: str = ""  # SSE
    retry_s: float = 0.0  # SSE: the server's standing wish before a reconnection
    has_paused: bool = False  # whether the client has stopped reading for a while (clients.core.unread)
    _begun_ns: int = 0  # of this attempt
    _held: int = 0  # indices that had come when this attempt began
    _requests: int = 0  # that had been sent when this attempt began
    _asked_ns: int | None = None  # when this attempt has sent the question, or its last poll
    _answered_ns: int | None = None  # when the head of the answer to that came
    _reached: bool = False  # whether a server may be at work on this answer
    _out: bool = False  # whether nothing has come since the last failure
    _without_progress: int = 0  # attempts in a row that brought nothing new
    _stream_lost: bool = False  # whether the server had no such stream any more

    @classmethod
    def begin(cls, question: Question, policy: Policy, now_ns: int, order: Sequence[str] = ("",)) -> Exchange:
        """Nothing is sent yet. `order`: the transports, the first of which is the message's own."""
        schedule = question.schedule
        record = StreamRecord(question.stream_id, question.intended_start_ns, schedule.n, start_ns=now_ns)
        record.conversation, record.turn = question.conversation, question.turn
        record.ttft_scheduled_ns = UNKNOWN_NS if question.is_told else schedule.ttft_ns
        return cls(question, policy, record, Turns(order))

    def fields(self) -> dict[str, object]:
        """The chat request. One that starts again asks for a new answer, not for the one that was cut."""
        question = self.question
        stream_id = f"{question.stream_id}-{self.restarts}" if self.restarts else question.stream_id
        request = {"message": question.text, "seed": question.seed, "stream": question.stream, "stream_id": stream_id}
        return request | {"from": self.first} if self.first else request

    def body(self) -> bytes:
        """The chat request as JSON."""
        return json.dumps(self.fields()).encode()

    def begin_attempt(self, now_ns: int) -> None:
        """An attempt begins."""
        self._begun_ns, self._held, self._requests = now_ns, self.ledger.distinct(), self.record.requests
        self._asked_ns = self._answered_ns = None
        self.record.attempts += 1
        self.record.finished_by = self.turns.current
        self.ledger.make_room(self.question.most_tokens, self.question.most_chars)

    def note_request(self, now_ns: int) -> None:
        """A request is about to be sent, as soon as there is a connection."""
        self.record.requests += 1
        self.record.requests_at_ns.append(now_ns)

    def note_asked(self, now_ns: int) -> None:
        """The question, or a poll, has been sent; not what goes before it, a WebSocket's upgrade."""
        self._asked_ns, self._answered_ns = now_ns, None

    def note_answered(self, now_ns: int) -> None:
        """The head of the answer has come."""
        self._answered_ns = now_ns

    def end_attempt(self, failure: ClientFailure, now_ns: int) -> float:
        """An attempt has failed: enter what that means; the seconds to wait before the next one.

        Raises `failure` if there is to be none.
        """
        progressed = self.ledger.distinct() > self._held  # a server that repeats itself brings nothing new
        self._without_progress = 0 if progressed else self._without_progress + 1
        self._out = self._out and not progressed
        self._reached = self._reached or progressed or bool(self.poll_path)
        # A server that is gone in the middle of an answer is a drop too, if no other has told of it before.
        if failure.is_drop or (isinstance(failure, NoConnection) and self._reached and not self._out):
            self._note_drop(failure, now_ns)
        self._out = True
        self._reached = self._reached or self._leaves_at_work(failure, now_ns)
        self._stream_lost = self._is_unknown(failure)
        self.record.causes.append(f"{self.turns.current} {failure.how}".strip())
        has_other = self._stream_lost or self._passes_on(failure, progressed=progressed)
        delay_s = self.policy.delay_s(
            failure, self._without_progress, random.random(), self.retry_s, has_other=has_other
        )
        if delay_s is None:
            raise failure
        self.ledger.note_drop(now_ns)
        return delay_s

    def try_again(self) -> None:
        """Make the next attempt's request: for what is missing, or for a new answer in place of what has come.

        A stream that the server no longer has cannot be resumed; then resuming, too, begins anew.
        """
        if self.turns.current != self.record.finished_by:
            self.poll_path, self.last_event_id, self.retry_s = "", "", 0.0  # means nothing to another transport
        if self.policy.mode != "restart" and not self._stream_lost:
            self.first = self.ledger.next_index()
            return
        self._count_wasted(self.ledger.distinct() if self.question.is_told else self.question.schedule.n)
        self.ledger.restart()
        self.restarts += 1
        self.first, self.poll_path, self.last_event_id = 0, "", ""
        self._reached = False

    def settle(self, failure: ClientFailure | None) -> StreamRecord:
        """The message is over: its record, complete but for what only its client knows."""
        record = self.record
        schedule = self.ledger.told() if self.question.is_told else self.question.schedule
        self.ledger.settle(record, schedule, failure)
        if record.outcome is not Outcome.OK:
            # A refusal has been judged by `end_attempt`, which knew when it came.
            self._reached = self._reached or (failure is not None and self._leaves_at_work(failure, 0))
            self._count_wasted(record.tokens_lost)
        return record

    def _leaves_at_work(self, failure: ClientFailure, now_ns: int) -> bool:
        """Whether this attempt did; what counts is when the answer's head came, and not how long its body took."""
        if self._asked_ns is None:
            return False
        over_ns = now_ns if self._answered_ns is None else self._answered_ns
        return leaves_at_work(failure, over_ns - self._asked_ns)

    def _passes_on(self, failure: ClientFailure, *, progressed: bool) -> bool:
        """Whether another transport is to go on."""
        return self.policy.mode == "fallback" and self.turns.pass_on(
            failure, progressed=progressed, stream_lost=self._stream_lost
        )

    def _note_drop(self, failure: ClientFailure, now_ns: int) -> None:
        record = self.record
        record.drops_at_ns.append((self._begun_ns, now_ns))
        record.drops += 1
        record.noticed_by.append(failure.how)
        if record.requests > self._requests:  # else it was cut while nobody asked, and nobody knows when
            heard_ns = max(self._begun_ns, self.ledger.heard_ns)
            record.detection_ms = (record.detection_ms or 0.0) + (now_ns - heard_ns) / 1e6

    def _is_unknown(self, failure: ClientFailure) -> bool:
        """Whether the server does not know the stream that was asked for: it was restarted, or the time is over.

        A WebSocket that may not be opened says nothing of the stream.
        """
        asked_for_more = self._asked_ns is not None and bool(self.first or self.last_event_id or self.poll_path)
        return isinstance(failure, RequestRefused) and failure.status == _NOT_FOUND and asked_for_more

    def _count_wasted(self, tokens: int) -> None:
        """The model makes an answer to its end, whoever is there to read it; if it was reached at all."""
        self.record.tokens_wasted += tokens if self._reached else 0


def leaves_at_work(failure: ClientFailure, waited_ns: int) -> bool:
    """Whether a model may be at work on a question that was sent, and that failed after `waited_ns`.

    It is not where no connection was opened, nor where HTTP/2 promises that nothing was done, and not behind a refusal:
    the server's own, or an intermediary's that came at once. A refusal that took its time is an intermediary that has
    waited for a server. Nobody can know behind a black hole, or when an intermediary that reached nobody tried for
    long; then it is counted.
    """
    if isinstance(failure, NoConnection) or failure.is_unprocessed:
        return False
    if not isinstance(failure, RequestRefused) or failure.status in _GATEWAY_TIMEOUTS:
        return True
    return failure.status in _AMBIGUOUS and not failure.by_server and waited_ns > _AT_ONCE_NS

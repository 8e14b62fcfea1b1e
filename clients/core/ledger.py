"""What arrived of one message, and how that compares with the known schedule (pure).

Rule 1: while tokens arrive, only one list grows. What costs time is done once, when the message is over.
Rule 2: of every index, the first arrival counts; repeats are counted, not recorded.
Rule 3: with `n` tokens scheduled, n = received + lost.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from clients.core.errors import ClientFailure, NotTheFormat
from clients.core.record import UNKNOWN_NS, Outcome, StreamRecord
from servers.messages import MAX_TOKENS, EndMessage, TokenMessage
from servers.stream import Schedule

STALL_NS = 100_000_000  # a token so much later than the model's pace is a stall (docs/metrics.md)
_TOKEN_CHARS = 100  # a token counts as so many characters, beside those of its text
_SPARE_CHARS = 1 << 20  # that an attempt may bring beside twice those of the schedule
_NO_LIMIT = 1 << 62


class Ledger:
    """Tokens in the order of their arrival, and the reads that completed them. Times are CLOCK_MONOTONIC ns."""

    __slots__ = "_came", "_drops", "_left_chars", "_valid_from", "end", "end_ns", "heard_ns", "reads"

    def __init__(self) -> None:
        self._came: list[tuple[TokenMessage, int, int]] = []  # each with the stamp and number of the read it came with
        self.end: EndMessage | None = None
        self.end_ns = 0
        self.reads = 0
        self._left_chars = _NO_LIMIT
        self.heard_ns = 0  # the last read, whatever it brought
        self._valid_from = 0  # tokens before this one belong to an answer that was thrown away
        self._drops: list[tuple[int, int]] = []  # moment, tokens held then

    @property
    def token_ns(self) -> int:
        """When a token came last, whether seen before or not; 0: never."""
        return self._came[-1][1] if self._came else 0

    @property
    def tokens(self) -> list[TokenMessage]:
        """In the order of their arrival, repeats and those of an answer that was thrown away among them."""
        return [token for token, _, _ in self._came]

    def make_room(self, tokens: int, chars: int) -> None:
        """An attempt begins that should bring so many tokens, and so long a text; NotTheFormat is raised far beyond."""
        self._left_chars = 2 * (_TOKEN_CHARS * tokens + chars) + _SPARE_CHARS

    def add(self, found: Sequence[TokenMessage | EndMessage], read_ns: int) -> None:
        """Enter what one read completed, if anything; `read_ns` was taken straight after it. Raises NotTheFormat.

        Behind the token that is too much nothing counts, also where it came with the same read.
        """
        self.reads = number = self.reads + 1
        self.heard_ns = read_ns
        came, left_chars = self._came, self._left_chars
        for message in found:
            if isinstance(message, TokenMessage):
                came.append((message, read_ns, number))
                left_chars -= _TOKEN_CHARS + len(message.t)
                if left_chars < 0:
                    raise NotTheFormat("tokens without end")
            elif self.end is None:
                self.end, self.end_ns = message, read_ns
        self._left_chars = left_chars

    def note_drop(self, now_ns: int) -> None:
        """The connection was lost; the next token not seen before marks the recovery."""
        self._drops.append((now_ns, len(self._came)))

    def restart(self) -> None:
        """The client asks again and shows the new answer from its start: what came before does not count."""
        self._valid_from = len(self._came)

    def distinct(self) -> int:
        """How many indices the answer has by now."""
        return len(self._seen())

    def next_index(self) -> int:
        """The first index that is still missing: where to resume."""
        seen = self._seen()
        i = 0
        while i in seen:
            i += 1
        return i

    def _seen(self) -> set[int]:
        return {token.i for token in self.tokens[self._valid_from :]}

    def text_before(self, i: int) -> str:
        """The text of the tokens before `i`, all of which have come."""
        came = {token.i: token.t for token in reversed(self.tokens[self._valid_from :])}
        return "".join(came[k] for k in range(i))

    def settle(self, record: StreamRecord, schedule: Schedule, failure: ClientFailure | None) -> None:
        """Judge the message and write everything known about it into `record`."""
        tokens = self.tokens
        finding = _judge(tokens[self._valid_from :], self.end, schedule)
        record.outcome, record.detail = _outcome(finding, self.end, failure)
        firsts = _first_arrivals(tokens, schedule.n)
        record.tokens_expected = schedule.n
        record.tokens_received = finding.received
        record.tokens_lost = schedule.n - finding.received
        record.tokens_duplicated = len(tokens) - len(firsts) - finding.foreign
        record.tokens_reordered = finding.reordered
        record.text_ok = finding.text_ok
        record.end_ns = self.end_ns
        self._fill_columns(record, firsts)
        record.first_token_ns = record.received_ns[0] if firsts else 0
        record.tokens_discarded = self._valid_from
        outages = self._outages(firsts, record.received_ns)
        if outages:
            record.recovery_ms = sum(outage.lasted_ns for outage in outages) / 1e6
            if min(record.due_ns, default=0) != UNKNOWN_NS:
                record.catch_up_ms = _catch_up_ms(record, schedule, [outage.ended_by for outage in outages])

    def told(self) -> Schedule:
        """The answer by its own account, where nobody knew it before: what came, and what its end message says."""
        tokens = self.tokens[self._valid_from :]
        came = {token.i: token for token in reversed(tokens) if token.i < MAX_TOKENS}
        n = self.end.n if self.end is not None and self.end.n <= MAX_TOKENS else max(came, default=-1) + 1
        begin_ns = tokens[0].due if tokens else 0
        due_ns = array("q", [came[i].due - begin_ns if i in came else 0 for i in range(n)])
        texts = [came[i].t if i in came else "" for i in range(n)]
        return _Told(texts, due_ns, self.end.sha256 if self.end is not None else "")

    def came(self) -> Schedule:
        """What came, as if that were all."""
        told = self.told()
        return Schedule(told.texts, told.due_ns)

    def _fill_columns(self, record: StreamRecord, positions: Sequence[int]) -> None:
        came = self._came if len(positions) == len(self._came) else [self._came[p] for p in positions]
        if not came:
            return
        tokens, stamps_ns, numbers = zip(*came, strict=True)
        record.i = array("q", [token.i for token in tokens])
        record.due_ns = array("q", [token.due for token in tokens])
        record.sent_ns = array("q", [token.sent for token in tokens])
        record.received_ns, record.read = array("q", stamps_ns), array("q", numbers)

    def _outages(self, firsts: Sequence[int], received_ns: array[int]) -> list[_Outage]:
        """From each drop to the first message after it that was not seen before.

        A second drop before anything new had come belongs to the same outage.
        """
        began: dict[int, int] = {}  # what ended it -> when it began
        for drop_ns, held in self._drops:
            began.setdefault(bisect_left(firsts, held), drop_ns)
        ends_ns = [*received_ns, self.end_ns]
        return [_Outage(k, ends_ns[k] - began_ns) for k, began_ns in began.items() if ends_ns[k] > began_ns]


@dataclass(frozen=True)
class _Told(Schedule):
    """A schedule whose hash the server told."""

    told_sha256: str

    @property
    def sha256(self) -> str:
        """Hex hash of the whole text, as the end message has it."""
        return self.told_sha256


@dataclass(frozen=True)
class _Outage:
    """A time without tokens, and the first arrival that ended it (the number of tokens: the end message)."""

    ended_by: int
    lasted_ns: int


def _catch_up_ms(record: StreamRecord, schedule: Schedule, ended_by: Sequence[int]) -> float:
    """From each outage's end until the tokens come at the model's pace again.

    That is when one is not later after the message's start, measured by the schedule, than the latest before the first
    outage or the least late after this one, and STALL_NS. So neither a poll's wait nor an answer that the model began
    later counts as backlog, and no clock but the client's is needed.
    """
    received_ns = record.received_ns
    late_ns = [at - record.start_ns - schedule.due_ns[i] for at, i in zip(received_ns, record.i, strict=True)]
    before_ns = max(late_ns[: ended_by[0]], default=0)
    total_ns = 0
    for first in ended_by:
        if first < len(received_ns):
            allowed_ns = max(before_ns, min(late_ns[first:])) + STALL_NS
            caught_up = next(k for k in range(first, len(late_ns)) if late_ns[k] <= allowed_ns)
            total_ns += received_ns[caught_up] - received_ns[first]
    return total_ns / 1e6


@dataclass(frozen=True)
class _Defects:
    """What is wrong with an answer. `foreign` tokens have an index that the schedule does not know."""

    received: int
    reordered: int
    repeated: int
    foreign: int
    text_ok: bool
    altered: bool


def _first_arrivals(tokens: list[TokenMessage], n: int) -> Sequence[int]:
    """Positions in `tokens` where an index of the schedule appears for the first time."""
    if _are_in_order(tokens):  # nearly always
        return range(min(len(tokens), n))
    firsts: dict[int, int] = {}
    for position, token in enumerate(tokens):
        if token.i < n:
            firsts.setdefault(token.i, position)
    return sorted(firsts.values())


def _are_in_order(tokens: list[TokenMessage]) -> bool:
    """Whether their indices are 0, 1, 2 and so on."""
    return [token.i for token in tokens] == list(range(len(tokens)))


def _judge(tokens: list[TokenMessage], end: EndMessage | None, schedule: Schedule) -> _Defects:
    n = schedule.n
    if len(tokens) == n and _are_in_order(tokens):
        text_ok = hashlib.sha256("".join([token.t for token in tokens]).encode()).hexdigest() == schedule.sha256
        end_ok = end is None or (end.n == n and end.sha256 == schedule.sha256)
        return _Defects(n, 0, 0, 0, text_ok, not (text_ok and end_ok))
    return _judge_exactly(tokens, end, schedule)


def _judge_exactly(tokens: list[TokenMessage], end: EndMessage | None, schedule: Schedule) -> _Defects:
    n = schedule.n
    seen: set[int] = set()
    highest = -1
    reordered = foreign = wrong = 0
    for token in tokens:
        if token.i >= n:
            foreign += 1
            continue
        wrong += token.t != schedule.texts[token.i]
        if token.i not in seen:
            seen.add(token.i)
            reordered += token.i < highest
            highest = max(highest, token.i)
    end_wrong = end is not None and (end.n != n or end.sha256 != schedule.sha256)
    altered = bool(wrong or foreign or end_wrong)
    repeated = len(tokens) - foreign - len(seen)
    return _Defects(len(seen), reordered, repeated, foreign, len(seen) == n and not altered, altered)


def _outcome(finding: _Defects, end: EndMessage | None, failure: ClientFailure | None) -> tuple[Outcome, str]:
    """The gravest finding names the outcome. A message that got its end message is judged by what it holds."""
    if end is None:
        return (Outcome.TRUNCATED, "no end message") if failure is None else (failure.outcome, str(failure))
    findings = (
        (finding.foreign, Outcome.ALTERED, f"{finding.foreign} tokens that the schedule does not know"),
        (finding.altered, Outcome.ALTERED, "another text"),
        (not finding.text_ok, Outcome.LOST, "indices are missing"),
        (finding.reordered, Outcome.REORDERED, f"{finding.reordered} tokens came after a later one"),
        (finding.repeated, Outcome.DUPLICATED, f"{finding.repeated} tokens came again"),
    )
    return next(((outcome, detail) for found, outcome, detail in findings if found), (Outcome.OK, ""))

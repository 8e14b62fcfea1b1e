"""What a server says of itself: its source, and how its monotonic clock relates to ours (pure scripts)."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from clients.core.errors import ClientFailure
from clients.core.message_script import fetch
from clients.core.session import Script, Session
from servers.messages import MAX_COUNT, NOT_JSON

_QUESTIONS = 8
_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class ClockReading:
    """One question for the time: when it was asked and answered by our clock, and what the server's clock said."""

    asked_ns: int
    server_ns: int
    answered_ns: int

    @property
    def round_trip_ns(self) -> int:
        """How long the question took: twice the largest error of the offset."""
        return self.answered_ns - self.asked_ns

    @property
    def offset_ns(self) -> int:
        """The server's clock minus ours, if both ways took equally long."""
        return self.server_ns - (self.asked_ns + self.answered_ns) // 2


def offset_of(readings: list[ClockReading]) -> int:
    """The offset by the quickest reading; 0 where it is no more than that reading's uncertainty: one clock."""
    best = min(readings, key=lambda reading: reading.round_trip_ns)
    return best.offset_ns if abs(best.offset_ns) > best.round_trip_ns else 0


def clock_offset_ns(session: Session) -> Script[tuple[int, list[str]]]:
    """The server's monotonic clock minus ours, and notes for the result: what was found, or why nothing was."""
    try:
        yield from get_json(session, "/clock")  # opens the connection
        readings = []
        for _ in range(_QUESTIONS):
            readings.append((yield from _read(session)))
    except (ClientFailure, ValueError) as error:
        return 0, [f"the clock at {session.endpoint.authority} could not be read ({error}): taken to be ours"]
    offset_ns = offset_of(readings)
    ahead = f"the clock at {session.endpoint.authority} is {offset_ns / 1e6:.3f} ms ahead of ours"
    return offset_ns, [ahead] if offset_ns else []


@dataclass(frozen=True)
class Account:
    """What a server says of itself: its source ("" for the simulated model), its clock minus ours, notes on both."""

    source: str
    offset_ns: int
    notes: list[str]


def account_of(session: Session) -> Script[Account]:
    """Ask a server, before a load begins."""
    source = yield from source_of(session)
    offset_ns, notes = yield from clock_offset_ns(session)
    if source:
        notes = [*notes, f"answers are from {source[:100]}: their end messages alone say what they should be"]
    return Account(source, offset_ns, notes)


def account_of_endpoint(model: str) -> Account:
    """What is known of an endpoint that is nobody's server of ours; nothing is asked."""
    note = f"answers are from the model {model[:100]}: nobody tells when it made a token, nor what its text should be"
    return Account(model, 0, [note])


def source_of(session: Session) -> Script[str]:
    """What answers in place of the simulated model, as the server's `/stats` says; "" where it says nothing."""
    try:
        source = (yield from get_json(session, "/stats")).get("source")
    except (ClientFailure, ValueError):
        return ""
    return source if isinstance(source, str) else ""


def get_json(session: Session, path: str) -> Script[dict[str, object]]:
    """A small JSON object. Raises ClientFailure, ValueError."""
    status, body = yield from fetch(session, path, _TIMEOUT_S)
    if status != 200:
        raise ValueError(f"{path}: status {status}")
    try:
        answer = msgspec.json.decode(body)
    except NOT_JSON as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(answer, dict):
        raise ValueError(f"{path}: takes a JSON object")
    return answer


def _read(session: Session) -> Script[ClockReading]:
    asked_ns = session.now_ns
    server_ns = (yield from get_json(session, "/clock")).get("monotonic_ns")
    if type(server_ns) is not int or not 0 <= server_ns <= MAX_COUNT:
        raise ValueError("/clock: monotonic_ns takes an integer that is a time")
    return ClockReading(asked_ns, server_ns, session.now_ns)

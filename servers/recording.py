"""Recorded answers: JSON lines with `deltas`, the text of each event in order, as a provider streamed it.

`at_ms` may say when each came, in milliseconds after the question; a stream replays that if it asks for `times`. No
other key is taken: one that stood there and did nothing would make a run look like what it is not. A byte-order mark in
front, as some editors leave one, is passed over.

A recording is known by the first 16 hex digits of its file's SHA-256, so that client and server can tell that they mean
the same texts; requests carry this id, never a path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec

from servers.given_file import read_given
from servers.messages import MAX_MESSAGE_BYTES, MAX_TOKENS, NOT_JSON, json_text
from servers.struct_words import explained
from servers.user_errors import StreamError, reason

MAX_RECORDING_BYTES = 64 * 2**20
MAX_DELTA_BYTES = MAX_MESSAGE_BYTES - 1024  # of JSON text: the message around it must fit into a decoder as well
MAX_AT_MS = 3_600_000
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class RecordedAnswer(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A line: the text of each event, and when each came (ms after the question), if that is known."""

    deltas: list[str]
    at_ms: list[float] | None = None


@dataclass(frozen=True)
class Recording:
    """`answers[k]` holds the texts of answer k, one per recorded event; `at_us[k]` when each came, if that is known."""

    id: str
    answers: tuple[tuple[str, ...], ...]
    at_us: tuple[tuple[int, ...] | None, ...] = ()

    @property
    def has_times(self) -> bool:
        """Whether it is known of every answer when it came."""
        return bool(self.at_us) and None not in self.at_us


_known: dict[str, Recording] = {}


def load_recording(path: str | Path) -> Recording:
    """Read and check a recording. Raises StreamError, which names file, line and what is wrong."""
    path = Path(path)
    try:
        data = read_given(path, MAX_RECORDING_BYTES, StreamError)
    except OSError as error:
        raise StreamError(f"stream.recording: {path}: {reason(error)}") from None
    lines = (
        (number, line)
        for number, line in enumerate(data.removeprefix(_BYTE_ORDER_MARK).split(b"\n"), 1)
        if line.strip()
    )
    answers = [_answer(path, number, line) for number, line in lines]
    if not answers:
        raise StreamError(f"{path}: no answers in it; one JSON object a line with `deltas`, a list of strings")
    texts, times = zip(*answers, strict=True)
    return Recording(hashlib.sha256(data).hexdigest()[:16], texts, times)


def _answer(path: Path, number: int, line: bytes) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """Texts and times (µs) of a line."""
    try:
        given = msgspec.json.decode(line)
        answer = msgspec.convert(given, RecordedAnswer)
        "".join(answer.deltas).encode("utf-8")  # half a surrogate pair cannot be sent
    except NOT_JSON as error:
        why = explained(error, given, RecordedAnswer) if isinstance(error, msgspec.ValidationError) else str(error)
        raise StreamError(
            f"{path}, line {number}: {why}; a line is an object with `deltas` and perhaps `at_ms`"
        ) from None
    try:
        check_deltas(answer.deltas)
        return tuple(answer.deltas), None if answer.at_ms is None else _microseconds(answer.at_ms, len(answer.deltas))
    except ValueError as error:
        raise StreamError(f"{path}, line {number}: {error}") from None


def check_deltas(deltas: Sequence[str]) -> None:
    """Raise ValueError if an answer has no deltas, too many, or one that is too large."""
    if not 1 <= len(deltas) <= MAX_TOKENS:
        raise ValueError(f"{len(deltas)} deltas; from 1 to {MAX_TOKENS} are taken")
    for k, delta in enumerate(deltas):  # a character takes 12 bytes at most, as two escapes
        if len(delta) > MAX_DELTA_BYTES // 12 and (size := len(json_text(delta))) > MAX_DELTA_BYTES:
            raise ValueError(f"delta {k} takes {size} bytes as JSON; at most {MAX_DELTA_BYTES} are taken")


def _microseconds(at_ms: Sequence[float], count: int) -> tuple[int, ...]:
    if len(at_ms) != count:
        raise ValueError(f"at_ms: {len(at_ms)} times for {count} deltas")
    if not all(0 <= at <= MAX_AT_MS for at in at_ms) or any(b < a for a, b in pairwise(at_ms)):
        raise ValueError(f"at_ms: takes milliseconds from 0 to {MAX_AT_MS}, none before the one in front of it")
    return tuple(round(at * 1000) for at in at_ms)


def register(recording: Recording) -> None:
    """Make a recording known to this process: a stream's `recording` may name it from now on."""
    _known[recording.id] = recording


def registered(recording_id: str) -> Recording:
    """The recording of that id. Raises StreamError where it was not registered."""
    try:
        return _known[recording_id]
    except KeyError:
        raise StreamError(
            f"stream.recording: {recording_id[:64]!r} is not known here; start the server with --recording FILE"
        ) from None

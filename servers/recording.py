"""Recorded answers: JSON lines with `deltas`, the text of each event in order, as a provider streamed it.

No other key is taken: one that stood there and did nothing (times, say) would make a run look like what it is not. A
byte-order mark in front, as some editors leave one, is passed over.

A recording is known by the first 16 hex digits of its file's SHA-256, so that client and server can tell that they mean
the same texts; requests carry this id, never a path.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from servers.messages import MAX_MESSAGE_BYTES, MAX_TOKENS, json_text
from servers.user_errors import StreamError

MAX_RECORDING_BYTES = 64 * 2**20
MAX_DELTA_BYTES = MAX_MESSAGE_BYTES - 1024  # of JSON text: the message around it must fit into a decoder as well
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class _RecordedAnswer(msgspec.Struct, forbid_unknown_fields=True):
    deltas: list[str]


@dataclass(frozen=True)
class Recording:
    """`answers[k]` holds the texts of answer k, one per recorded event."""

    id: str
    answers: tuple[tuple[str, ...], ...]


_known: dict[str, Recording] = {}


def load(path: str | Path) -> Recording:
    """Read and check a recording. Raises StreamError, which names file, line and what is wrong."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_RECORDING_BYTES:
            raise StreamError(f"{path}: larger than {MAX_RECORDING_BYTES // 2**20} MiB")
        data = path.read_bytes()
    except OSError as error:
        raise StreamError(f"stream.recording: {path}: {error.strerror}") from None
    lines = (
        (number, line)
        for number, line in enumerate(data.removeprefix(_BYTE_ORDER_MARK).split(b"\n"), 1)
        if line.strip()
    )
    answers = tuple(_answer(path, number, line) for number, line in lines)
    if not answers:
        raise StreamError(f"{path}: no answers in it; one JSON object a line with `deltas`, a list of strings")
    return Recording(hashlib.sha256(data).hexdigest()[:16], answers)


def _answer(path: Path, number: int, line: bytes) -> tuple[str, ...]:
    try:
        deltas = tuple(msgspec.json.decode(line, type=_RecordedAnswer).deltas)
        "".join(deltas).encode("utf-8")  # half a surrogate pair cannot be sent
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise StreamError(f"{path}, line {number}: {error}; a line is an object with `deltas` alone") from None
    if not 1 <= len(deltas) <= MAX_TOKENS:
        raise StreamError(f"{path}, line {number}: {len(deltas)} deltas; from 1 to {MAX_TOKENS} are taken")
    for k, delta in enumerate(deltas):  # a character takes 12 bytes at most, as two escapes
        if len(delta) > MAX_DELTA_BYTES // 12 and (size := len(json_text(delta))) > MAX_DELTA_BYTES:
            limits = f"takes {size} bytes as JSON; at most {MAX_DELTA_BYTES} are taken"
            raise StreamError(f"{path}, line {number}: delta {k} {limits}")
    return deltas


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

"""Transcripts of streamed answers, as they lie around, read into answers (pure).

A file holds the events of one answer or of several, one after the other: as an event stream (what `curl -N` writes), as
JSON lines, or as one JSON array.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from bench.transcripts.formats import FORMATS, NAMES, Chunk, Format, Reading
from servers.messages import MAX_MESSAGE_BYTES, ProtocolError
from servers.sse.events import EventDecoder
from servers.user_errors import InputError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SSE_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
_SHOWN_KEYS = 6


class TranscriptError(InputError):
    """A file that is no transcript; the message says what it is, and what would be one."""


@dataclass
class Transcript:
    """What a file holds: answers that are whole, why others were left out, and what was dropped, by words."""

    format: str
    answers: list[list[str]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def read(data: bytes) -> Transcript:
    """The answers in `data`. Raises TranscriptError."""
    data = data.removeprefix(_BYTE_ORDER_MARK)
    _refuse_what_is_known(data)
    chunks = list(_chunks(data))
    if not chunks:
        raise TranscriptError("an empty file: no events in it")
    found = _format_of(chunks[0])
    return _answers(found, chunks)


def _refuse_what_is_known(data: bytes) -> None:
    head = data[:4096].lstrip()
    kinds = (
        (head[:2] == b"\x1f\x8b", "packed with gzip; unpack it first"),
        (b"\0" in head, "no text"),
        (head[:1] == b"<", "a page of HTML or XML"),
        (head.startswith(b"HTTP/"), "a response with its head; leave the head out (curl without -i)"),
        (head.lower().startswith(b"timestamp,"), "a request trace (load.trace of a plan)"),
    )
    for is_it, what in kinds:
        if is_it:
            raise TranscriptError(f"{what}; transcripts are of {NAMES}")


def _chunks(data: bytes) -> Iterator[Chunk]:
    """The events. Raises TranscriptError."""
    if data.lstrip().startswith(b"["):
        yield from _objects(_decoded(data, "the array"), "the array")
        return
    lines = [line for line in data.split(b"\n") if line.strip()]
    if any(line.startswith(_SSE_FIELDS) for line in lines[:10]):
        yield from _events(data)
        return
    for number, line in enumerate(lines, 1):
        if line.strip() != b"[DONE]":
            yield from _objects([_decoded(line, f"event {number}")], f"event {number}")


def _events(data: bytes) -> Iterator[Chunk]:
    decoder = EventDecoder(MAX_MESSAGE_BYTES)
    try:
        for number, event in enumerate(decoder.feed(data + b"\n\n"), 1):
            if event.data.strip() != "[DONE]":
                yield from _objects([_decoded(event.data, f"event {number}")], f"event {number}")
    except ProtocolError as error:
        raise TranscriptError(str(error)) from None


def _decoded(data: bytes | str, what: str) -> object:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise TranscriptError(f"{what} is not JSON ({error}); transcripts are of {NAMES}") from None


def _objects(values: object, what: str) -> Iterator[Chunk]:
    for value in values if isinstance(values, list) else [values]:
        if not isinstance(value, dict):
            raise TranscriptError(f"{what} is no JSON object; transcripts are of {NAMES}")
        yield value


def _format_of(chunk: Chunk) -> Format:
    known = (
        ("deltas", "a recording already (stream.recording of a plan)"),
        ("output_length", "a request trace of Mooncake's (load.trace of a plan)"),
        ("messages", "a request, and no answer"),
        ("log", "an archive of a browser (HAR); save the response alone"),
    )
    for key, what in known:
        if key in chunk:
            raise TranscriptError(f"{what}; transcripts are of {NAMES}")
    if chunk.get("object") in ("chat.completion", "response") or chunk.get("type") == "message":
        raise TranscriptError(f"an answer that was not streamed, so it has no events; transcripts are of {NAMES}")
    for each in FORMATS:
        if each.is_mine(chunk):
            return each
    keys = ", ".join(str(key)[:32] for key in list(chunk)[:_SHOWN_KEYS])
    raise TranscriptError(f"JSON objects with {keys or 'nothing in them'}, which no format here has; known are {NAMES}")


def _answers(found: Format, chunks: list[Chunk]) -> Transcript:
    transcript = Transcript(found.name)
    answer = _Answer()
    for chunk in chunks:
        reading = found.read(chunk)
        if answer.is_over_before(found, found.answer_id(chunk), reading):
            answer.close(transcript)
            answer = _Answer()
        answer.add(found.answer_id(chunk), reading)
        transcript.dropped.update(reading.dropped)
    answer.close(transcript)
    return transcript


@dataclass
class _Answer:
    """One answer, as far as its events have come."""

    texts: list[str] = field(default_factory=list)
    id: str = ""
    error: str = ""
    has_ended: bool = False

    def is_over_before(self, found: Format, answer_id: str, reading: Reading) -> bool:
        """Whether an event belongs to another answer."""
        if answer_id and self.id:
            return answer_id != self.id
        return bool(self.error) or (self.has_ended and found.ends_once and bool(reading.text))

    def add(self, answer_id: str, reading: Reading) -> None:
        """Enter an event."""
        self.id = answer_id or self.id
        self.texts += [reading.text] if reading.text else []
        self.has_ended = self.has_ended or reading.ends
        self.error = self.error or reading.error

    def close(self, transcript: Transcript) -> None:
        """Enter the answer itself, or why it is left out."""
        why = ""
        if self.error:
            why = f"it ended with an error ({self.error[:64]})"
        elif not self.has_ended:
            why = "it has no end, so nobody knows how much is missing"
        elif not self.texts:
            why = "it has no text"
        number = len(transcript.answers) + len(transcript.left_out) + 1
        if why:
            transcript.left_out.append(f"answer {number}: {why}")
        else:
            transcript.answers.append(self.texts)

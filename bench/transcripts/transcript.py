"""Transcripts of streamed answers, as they lie around, read into answers (pure).

A file holds the events of one answer or of several, one after the other: as an event stream (what `curl -N` writes), as
JSON lines, or as one JSON array.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

import msgspec

from bench.transcripts.formats import FORMATS, NAMES, Chunk, EventContent, Format, error_of
from servers.messages import MAX_MESSAGE_BYTES, NOT_JSON, ProtocolError
from servers.sse.events import EventDecoder
from servers.user_errors import InputError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SSE_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
_SHOWN_KEYS = 6
_MOST_BEFORE = 100  # events that tell no format, errors among them
_MOST_SHOWN = 64  # characters of what a file says
_AI_SDK_4 = re.compile(rb'[0-9a-k]:["{\[]')
_APART = "give each a file of its own"
NumberedChunk = tuple[int, Chunk]
"""A number, from 1 on, and the event's JSON object."""


class TranscriptError(InputError):
    """A file that is no transcript; the message says what it is, and what would be one."""


@dataclass
class Transcript:
    """What a file holds: answers that are whole, why others were left out, and what was dropped, by words."""

    format: str
    answers: list[list[str]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def read_transcript(data: bytes) -> Transcript:
    """The answers in `data`. Raises TranscriptError."""
    data = data.removeprefix(_BYTE_ORDER_MARK)
    _refuse_what_is_known(data)
    cut_off: list[str] = []
    events = _events(data, cut_off)
    first: list[NumberedChunk] = []
    transcript = _answers(_format_of(events, first), chain(first, events))
    transcript.left_out += cut_off
    return transcript


def _refuse_what_is_known(data: bytes) -> None:
    head = data[:4096].lstrip()
    kinds = (
        (head[:2] == b"\x1f\x8b", "packed with gzip; unpack it first"),
        (head[:2] in (b"\xff\xfe", b"\xfe\xff"), "text in UTF-16, as PowerShell writes it; save it as UTF-8"),
        (b"\0" in head, "no text"),
        (head[:1] == b"<", "a page of HTML or XML"),
        (head.startswith(b"HTTP/"), "a response with its head; leave the head out (curl without -i)"),
        (head.lower().startswith(b"timestamp,"), "a request trace (load.trace of a plan)"),
        (_AI_SDK_4.match(head), "a data stream of the AI SDK's version 4; its UI stream is that of version 5"),
    )
    for is_it, what in kinds:
        if is_it:
            raise TranscriptError(f"{what}; transcripts are of {NAMES}")
    try:
        data.decode()
    except UnicodeDecodeError as error:  # an event stream's reader would put another character there
        raise TranscriptError(f"not UTF-8 (byte {error.start}), so its text is not exact") from None


def _events(data: bytes, cut_off: list[str]) -> Iterator[NumberedChunk]:
    """The events with their numbers. Raises TranscriptError; a last one that is cut off is said in `cut_off`."""
    whole = _whole(data)
    if whole is not None:
        yield from _objects(whole, "the array")
        return
    texts = _texts(data)
    for number, text in enumerate(texts, 1):
        if text.strip() == "[DONE]":
            continue
        try:
            value = _decoded(text, f"event {number}")
        except TranscriptError:
            if 1 < number == len(texts) and text.lstrip().startswith("{"):
                cut_off.append(f"the last event ({number}): it is cut off")
                return
            raise
        yield from _objects([value], f"event {number}", number)


def _whole(data: bytes) -> list[object] | None:
    """The values of a file that is one JSON value: an array, or what was not streamed. None of any other file."""
    try:
        value = _decoded(data, "the array")
    except TranscriptError:
        if data.lstrip().startswith(b"["):
            raise
        return None
    return value if isinstance(value, list) else [value]


def _texts(data: bytes) -> list[str]:
    """What each event should be as JSON. Raises TranscriptError."""
    lines = [line for line in data.split(b"\n") if line.strip()]
    if not any(line.startswith(_SSE_FIELDS) for line in lines[:10]):
        return [line.decode() for line in lines]
    try:
        return [event.data for event in EventDecoder(MAX_MESSAGE_BYTES).feed(data + b"\n\n")]
    except ProtocolError as error:
        raise TranscriptError(str(error)) from None


def _decoded(data: bytes | str, what: str) -> object:
    try:
        return msgspec.json.decode(data)
    except NOT_JSON as error:
        raise TranscriptError(f"{what} is not JSON ({error}); transcripts are of {NAMES}") from None


def _objects(values: Sequence[object], what: str, first: int = 1) -> Iterator[NumberedChunk]:
    for number, value in enumerate(values, first):
        if not isinstance(value, dict):
            raise TranscriptError(f"{what} is no JSON object; transcripts are of {NAMES}")
        yield number, value


def _format_of(events: Iterator[NumberedChunk], first: list[NumberedChunk]) -> Format:
    """By the first event that tells; a proxy may put some of its own before. What is read goes into `first`."""
    for event in islice(events, _MOST_BEFORE):
        first.append(event)
        _refuse_what_is_no_event(event[1])
        if not error_of(event[1]) and (found := _known(event[1])):
            return found
    if not first:
        raise TranscriptError("an empty file: no events in it")
    strange = next((chunk for _, chunk in first if not error_of(chunk)), None)
    if strange is None:
        raise TranscriptError(f"no answer, but an error that a server sent ({_plain(error_of(first[-1][1]))})")
    keys = ", ".join(_plain(str(key))[:32] for key in list(strange)[:_SHOWN_KEYS])
    raise TranscriptError(f"JSON objects with {keys or 'nothing in them'}, which no format here has; known are {NAMES}")


def _refuse_what_is_no_event(chunk: Chunk) -> None:
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


def _known(chunk: Chunk) -> Format | None:
    return next((each for each in FORMATS if each.is_mine(chunk)), None)


def _plain(text: str) -> str:
    """The beginning of a file's words, on one line."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_MOST_SHOWN])


def _answers(found: Format, events: Iterable[NumberedChunk]) -> Transcript:
    transcript = Transcript(found.name)
    answer, halves = _Answer(found.ends_once), set[str]()
    for number, chunk in events:
        reading, answer_id = _reading(found, number, chunk), found.answer_id(chunk)
        if answer.is_over_before(answer_id, reading):
            answer.close(transcript)
            halves |= set() if answer.has_ended else {answer.id}
            answer = _Answer(found.ends_once)
        if answer_id and answer_id in halves:
            raise TranscriptError(f"event {number} goes on with an answer that another one interrupts; {_APART}")
        transcript.dropped.update(answer.add(answer_id, reading))
    answer.close(transcript)
    return transcript


def _reading(found: Format, number: int, chunk: Chunk) -> EventContent:
    """What an event says. Raises TranscriptError for one of another format, whose text would be lost."""
    if error := error_of(chunk):
        return EventContent(error=error)
    if found.is_mine(chunk):
        return found.read(chunk)
    if other := _known(chunk):
        raise TranscriptError(f"event {number} is of another format ({other.name}) than {found.name}; {_APART}")
    return EventContent(dropped=("other events",))


@dataclass
class _Answer:
    """One answer, as far as its events have come. `ends_once`: as its format has it."""

    ends_once: bool
    texts: list[str] = field(default_factory=list)
    id: str = ""
    error: str = ""
    has_ended: bool = False

    def is_over_before(self, answer_id: str, reading: EventContent) -> bool:
        """Whether an event belongs to another answer."""
        if answer_id and self.id:
            return answer_id != self.id
        return bool(self.error) or self._is_behind_the_end(reading)

    def _is_behind_the_end(self, reading: EventContent) -> bool:
        return self.has_ended and self.ends_once and bool(reading.text or reading.error)

    def add(self, answer_id: str, reading: EventContent) -> tuple[str, ...]:
        """Enter an event; words for what is dropped of it."""
        self.id = answer_id or self.id
        if self._is_behind_the_end(reading):
            return (*reading.dropped, "events behind the end")
        self.error = self.error or reading.error
        self.texts += [reading.text] if reading.text else []
        self.has_ended = self.has_ended or reading.ends
        return reading.dropped

    def close(self, transcript: Transcript) -> None:
        """Enter the answer itself, or why it is left out."""
        why = ""
        if self.error:
            why = f"it ended with an error ({_plain(self.error)})"
        elif not self.has_ended:
            why = "it has no end, so nobody knows how much is missing"
        elif not self.texts:
            why = "it has no text"
        number = len(transcript.answers) + len(transcript.left_out) + 1
        if why:
            transcript.left_out.append(f"answer {number}: {why}")
        else:
            transcript.answers.append(self.texts)

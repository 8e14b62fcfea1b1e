"""What a chat request may say, for every transport: parsed, checked, and turned into an answer.

Nothing is half-started: everything is checked before an answer begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from servers.generation import Answers, Busy, Generation
from servers.messages import NOT_JSON
from servers.stream import StreamSpec, build
from servers.struct_words import explained
from servers.user_errors import StreamError

STREAM_ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}\Z"
_STREAM_ID = "1 to 64 letters, digits, dashes or underscores"


@dataclass
class RequestError(Exception):
    """A request that is refused: the HTTP status, a word for programs, and a sentence that names the remedy."""

    status: int
    code: str
    message: str
    retry_after_s: int | None = None


class ChatRequest(msgspec.Struct, frozen=True):
    """`{"message": str}` and optionally `seed`, `stream`, `stream_id` and `from`, as docs/wire-format.md has it."""

    message: str
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    stream: Any = None
    stream_id: Annotated[str, msgspec.Meta(pattern=STREAM_ID_PATTERN, description=_STREAM_ID)] | None = None
    first: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = msgspec.field(default=0, name="from")

    @classmethod
    def parse(cls, body: bytes | str) -> ChatRequest:
        """Read a JSON body. Raises RequestError."""
        return cls.from_values(read_json(body, "the request"))

    @classmethod
    def from_values(cls, value: object, *, strict: bool = True) -> ChatRequest:
        """Check a decoded request; without `strict`, numbers may be strings, as in a query. Raises RequestError."""
        try:
            return msgspec.convert(value, cls, strict=strict)
        except msgspec.ValidationError as error:
            raise RequestError(400, "bad_request", f"the request is wrong: {explained(error, value, cls)}") from None


def read_json(data: bytes | str, what: str) -> Any:
    """`data` as JSON; `what` it is, for people. Raises RequestError."""
    try:
        return msgspec.json.decode(data)
    except NOT_JSON as error:
        raise RequestError(400, "bad_json", f"{what} is not JSON: {error}") from None


def open_answer(generations: Answers, chat: ChatRequest, most_tokens: int | None = None) -> Generation:
    """The answer to `chat`: the one that its `stream_id` names, or a new one, ended after `most_tokens`.

    Raises RequestError.
    """
    known = generations.get(chat.stream_id) if chat.stream_id is not None else None
    if known is not None:
        if chat.first > known.last_first:
            raise RequestError(400, "bad_request", f"from: this answer has {known.last_first} tokens")
        refuse_if_over(known, chat.first)
        return known
    if chat.first > 0:
        raise unknown_stream(chat.stream_id)
    try:
        if generations.source is not None:
            return generations.source.start(chat.message, chat.stream_id)
        schedule = build(StreamSpec.parse(chat.stream), chat.seed).first(most_tokens)
        return generations.start(schedule, chat.stream_id)
    except StreamError as error:
        raise RequestError(400, "bad_stream", str(error)) from None
    except Busy:
        raise RequestError(503, "busy", "too many answers are being produced; try again soon", 1) from None


def refuse_if_over(generation: Generation, first: int) -> None:
    """Raise RequestError where nothing is left of an answer from `first` on but that it failed."""
    if generation.failure is not None and generation.ended and first >= generation.n:
        raise RequestError(*generation.failure)


def unknown_stream(stream_id: str | None) -> RequestError:
    """The error for a stream that never was, or whose time is over."""
    what = "`from` needs the `stream_id` of a kept stream" if stream_id is None else f"no stream {stream_id!r} is kept"
    return RequestError(404, "unknown_stream", f"{what}; ask again without `from` to start anew")

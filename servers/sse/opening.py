"""Which answer an SSE request opens, and from which token on: by its body or query, or by `Last-Event-ID`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from servers.chat import ChatRequest, RequestError, open_answer, read_json, refuse_if_over, unknown_stream
from servers.generation import Answers, Generation
from servers.messages import json_text
from servers.sse import dialects, wire
from servers.stream import StreamSpec, build
from servers.user_errors import StreamError


def chat_from_query(query: Mapping[str, str]) -> ChatRequest:
    """The chat request of a native EventSource. Raises RequestError."""
    values: dict[str, object] = dict(query)
    stream = query.get("stream", "")
    if stream.startswith("{"):
        values["stream"] = read_json(stream, "stream")
    return ChatRequest.from_values(values, strict=False)


def dialect_in(query: Mapping[str, str]) -> str:
    """The dialect that a request asks for, "" for our own form. Raises RequestError."""
    dialect = query.get("dialect", "")
    if dialect and dialect not in dialects.DIALECTS:
        raise RequestError(400, "bad_request", f"dialect: takes {', '.join(dialects.DIALECTS)}")
    return dialect


def check_length(dialect: str, texts: Sequence[str]) -> None:
    """Raise RequestError where the answer is too long for its dialect, or (without texts) nobody knows how long."""
    if dialect == "cumulative" and (not texts or sum(map(len, map(json_text, texts))) > dialects.MAX_CUMULATIVE_BYTES):
        limit = dialects.MAX_CUMULATIVE_BYTES >> 10
        raise RequestError(400, "bad_request", f"dialect: cumulative takes a known answer of at most {limit} KiB")


def check_new(dialect: str, generations: Answers, chat: ChatRequest) -> None:
    """The same of an answer that `chat` would begin, before it does: what is refused is not half-started."""
    if dialect == "cumulative" and (chat.stream_id is None or generations.get(chat.stream_id) is None):
        with suppress(StreamError):  # whoever begins the answer says so
            schedule = None if generations.source is not None else build(StreamSpec.parse(chat.stream), chat.seed)
            check_length(dialect, schedule.texts if schedule else ())


def opened(generations: Answers, chat: ChatRequest, last_event_id: str | None) -> tuple[Generation, int]:
    """The answer and its first wanted index; `last_event_id` (None or "": not given) wins. Raises RequestError."""
    if not last_event_id:
        return open_answer(generations, chat), chat.first
    try:
        stream_id, last_seen = wire.parse_event_id(last_event_id)
    except ValueError as error:
        raise RequestError(400, "bad_request", f"Last-Event-ID: {error}") from None
    return _resumed(generations, stream_id, last_seen + 1)


def is_over(generation: Generation, first: int, last_event_id: str | None) -> bool:
    """Whether a reconnecting EventSource has all: it is told so by 204, the only way to end its reconnecting."""
    return bool(last_event_id) and generation.ended and first == generation.n


def _resumed(generations: Answers, stream_id: str, first: int) -> tuple[Generation, int]:
    generation = generations.get(stream_id)
    if generation is None:
        raise unknown_stream(stream_id)
    if first > generation.last_first:
        raise RequestError(400, "bad_request", f"Last-Event-ID: this answer has {generation.last_first} tokens")
    refuse_if_over(generation, first)
    return generation, first

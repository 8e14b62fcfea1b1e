"""Which answer an SSE request opens, and from which token on: by its body or query, or by `Last-Event-ID`."""

from __future__ import annotations

from collections.abc import Mapping

from servers.chat import ChatRequest, RequestError, open_answer, read_json, refuse_if_over, unknown_stream
from servers.generation import Answers, Generation
from servers.sse import wire


def chat_from_query(query: Mapping[str, str]) -> ChatRequest:
    """The chat request of a native EventSource. Raises RequestError."""
    values: dict[str, object] = dict(query)
    stream = query.get("stream", "")
    if stream.startswith("{"):
        values["stream"] = read_json(stream, "stream")
    return ChatRequest.from_values(values, strict=False)


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

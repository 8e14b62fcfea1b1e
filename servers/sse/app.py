"""The SSE server: POST for fetch-style clients, GET for the browser's own EventSource, resumed by Last-Event-ID."""

from __future__ import annotations

from aiohttp import web

from servers.chat import ChatRequest, RequestError, open_answer, read_json, refuse_if_over, unknown_stream
from servers.generation import Generation
from servers.http import SERVICE, HttpStream, application, read_chat, stream_answer
from servers.service import Service
from servers.sse import openai_routes, wire


def create(service: Service) -> web.Application:
    """The application behind `tokenderby serve sse`."""
    app = application(service)
    app.router.add_post("/chat", _post)
    app.router.add_get("/chat", _get, allow_head=False)
    openai_routes.add(app)
    return app


async def _post(request: web.Request) -> web.StreamResponse:
    generations = request.app[SERVICE].generations
    chat = await read_chat(request)
    seen = _last_event_id(request)
    if seen is None:
        return await _answer(request, open_answer(generations, chat), chat.first)
    generation, first = _resumed(request, *seen)
    return await _answer(request, generation, first)


async def _get(request: web.Request) -> web.StreamResponse:
    chat = _chat_from_query(request)
    seen = _last_event_id(request)
    if seen is None:
        return await _answer(request, open_answer(request.app[SERVICE].generations, chat), chat.first)
    generation, first = _resumed(request, *seen)
    if generation.ended and first == generation.n:
        # The only way to tell an EventSource that there is nothing to connect again for.
        return web.Response(status=204, headers={"Stream-Id": generation.stream_id})
    return await _answer(request, generation, first)


def _chat_from_query(request: web.Request) -> ChatRequest:
    values: dict[str, object] = dict(request.query)
    stream = request.query.get("stream", "")
    if stream.startswith("{"):
        values["stream"] = read_json(stream, "stream")
    return ChatRequest.from_values(values, strict=False)


def _last_event_id(request: web.Request) -> tuple[str, int] | None:
    value = request.headers.get("Last-Event-ID")
    if not value:
        return None
    try:
        return wire.parse_event_id(value)
    except ValueError as error:
        raise RequestError(400, "bad_request", f"Last-Event-ID: {error}") from None


def _resumed(request: web.Request, stream_id: str, last_seen: int) -> tuple[Generation, int]:
    generation = request.app[SERVICE].generations.get(stream_id)
    if generation is None:
        raise unknown_stream(stream_id)
    first = last_seen + 1
    if first > generation.last_first:
        raise RequestError(400, "bad_request", f"Last-Event-ID: this answer has {generation.last_first} tokens")
    refuse_if_over(generation, first)
    return generation, first


async def _answer(request: web.Request, generation: Generation, first: int) -> web.StreamResponse:
    service = request.app[SERVICE]
    stream_id = generation.stream_id.encode("ascii")

    def encode(index: int, messages: list[bytes], end: bytes | None) -> bytes:
        if len(messages) == 1 and end is None and index != first:  # nearly always
            return wire.encode_token(stream_id, index, messages[0])
        events = [wire.encode_token(stream_id, index + k, message) for k, message in enumerate(messages)]
        if index == first:
            events.insert(0, wire.encode_retry())
        if end is not None:
            events.append(wire.encode_end(end) if generation.failure is None else wire.encode_failure(end))
        return b"".join(events)

    return await stream_answer(
        request,
        generation.stream_id,
        wire.CONTENT_TYPE,
        lambda writer: service.push(generation, first, HttpStream(request, writer, encode, wire.HEARTBEAT)),
    )

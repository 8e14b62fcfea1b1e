"""The SSE server: POST for fetch-style clients, GET for the browser's own EventSource, resumed by Last-Event-ID."""

from __future__ import annotations

from aiohttp import web

from servers.generation import Generation
from servers.http import SERVICE, Encode, HttpStream, application, read_chat, stream_answer, until_begun
from servers.service import Service
from servers.sse import dialects, openai_routes, wire
from servers.sse.opening import chat_from_query, check_length, check_new, dialect_in, is_over, opened

_SEEN = "Last-Event-ID"


def create(service: Service) -> web.Application:
    """The application behind `tokenderby serve sse`."""
    app = application(service)
    app.router.add_post("/chat", _post)
    app.router.add_get("/chat", _get, allow_head=False)
    openai_routes.add_openai_routes(app)
    return app


async def _post(request: web.Request) -> web.StreamResponse:
    dialect, chat = dialect_in(request.query), await read_chat(request)
    check_new(dialect, request.app[SERVICE].generations, chat)
    return await _answer(request, dialect, *opened(request.app[SERVICE].generations, chat, request.headers.get(_SEEN)))


async def _get(request: web.Request) -> web.StreamResponse:
    dialect, chat, seen = dialect_in(request.query), chat_from_query(request.query), request.headers.get(_SEEN)
    check_new(dialect, request.app[SERVICE].generations, chat)
    generation, first = opened(request.app[SERVICE].generations, chat, seen)
    if is_over(generation, first, seen):
        return web.Response(status=204, headers={"Stream-Id": generation.stream_id})
    return await _answer(request, dialect, generation, first)


async def _answer(request: web.Request, dialect: str, generation: Generation, first: int) -> web.StreamResponse:
    service = request.app[SERVICE]
    check_length(dialect, generation.schedule.texts)
    encode = _in_dialect(dialect, generation, first) if dialect else _as_our_own(generation, first)
    await until_begun(service, generation, first)
    return await stream_answer(
        request,
        generation.stream_id,
        wire.CONTENT_TYPE,
        lambda writer: service.push(
            generation, first, HttpStream(request, writer, encode, wire.HEARTBEAT, None if dialect else _token)
        ),
    )


def _token(generation: Generation, i: int, sent_ns: int) -> bytes:
    return wire.TOKEN_FORMAT % (generation.wire_id, i, i, generation.json_text(i), generation.due_ns[i], sent_ns)


def _as_our_own(generation: Generation, first: int) -> Encode:
    stream_id = generation.wire_id

    def encode(index: int, messages: list[bytes], end: bytes | None) -> bytes:
        events = [wire.encode_token(stream_id, index + k, message) for k, message in enumerate(messages)]
        if index == first:
            events.insert(0, wire.encode_retry())
        if end is not None:
            events.append(wire.encode_end(end) if generation.failure is None else wire.encode_failure(end))
        return b"".join(events)

    return encode


def _in_dialect(dialect: str, generation: Generation, first: int) -> Encode:
    write = dialects.writer(dialect, generation.stream_id, map(generation.json_text, range(first)))

    def encode(index: int, messages: list[bytes], end: bytes | None) -> bytes:
        events = [write.token(message) for message in messages]
        if index == first:
            events.insert(0, wire.encode_retry() + write.opening)
        if end is not None:
            is_whole = generation.failure is None
            events.append(write.closing + wire.encode_end(end) if is_whole else wire.encode_failure(end))
        return b"".join(events)

    return encode

"""aiohttp as people write it: `await response.write(…)` for each message.

All else is our own servers' (checks, limits, connections), so that beside those it shows what that one call costs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from servers.chat import open_answer
from servers.chunked import wire as chunked_wire
from servers.connection import listening
from servers.generation import Generation
from servers.http import SERVICE, application, read_chat, stream_answer
from servers.service import Service
from servers.sse import wire as sse_wire
from servers.sse.opening import chat_from_query, is_over, opened
from servers.stacks import answer


def serving(service: Service) -> AbstractAsyncContextManager[int]:
    """Serve for as long as the context lasts; yields the port."""
    app = application(service)
    if service.settings.transport == "sse":
        app.router.add_post("/chat", _post_sse)
        app.router.add_get("/chat", _get_sse, allow_head=False)
    else:
        app.router.add_post("/chat", _post_chunked)
    return listening(app, service.settings)


async def _post_chunked(request: web.Request) -> web.StreamResponse:
    service, chat = request.app[SERVICE], await read_chat(request)
    generation = open_answer(service.generations, chat)
    lines = answer.encoded_lines(service, generation, chat.first)
    return await _write(request, generation, chunked_wire.CONTENT_TYPE, lines)


async def _post_sse(request: web.Request) -> web.StreamResponse:
    chat, seen = await read_chat(request), request.headers.get("Last-Event-ID")
    return await _write_events(request, *opened(request.app[SERVICE].generations, chat, seen))


async def _get_sse(request: web.Request) -> web.StreamResponse:
    chat, seen = chat_from_query(request.query), request.headers.get("Last-Event-ID")
    generation, first = opened(request.app[SERVICE].generations, chat, seen)
    if is_over(generation, first, seen):
        return web.Response(status=204, headers={"Stream-Id": generation.stream_id})
    return await _write_events(request, generation, first)


async def _write_events(request: web.Request, generation: Generation, first: int) -> web.StreamResponse:
    events = answer.encoded_events(request.app[SERVICE], generation, first)
    return await _write(request, generation, sse_wire.CONTENT_TYPE, events)


async def _write(
    request: web.Request, generation: Generation, content_type: str, pieces: AsyncIterator[bytes]
) -> web.StreamResponse:
    async def write_all(writer: AbstractStreamWriter) -> None:
        async for piece in pieces:
            await writer.write(piece)  # all that `StreamResponse.write` does

    return await stream_answer(request, generation.stream_id, content_type, write_all)

"""The chunked server: one JSON message a line, in an HTTP response without a known length."""

from __future__ import annotations

from aiohttp import web

from servers.chat import open_answer
from servers.chunked import wire
from servers.generation import Generation
from servers.http import SERVICE, HttpStream, application, read_chat, stream_answer, until_begun
from servers.service import Service


def create(service: Service) -> web.Application:
    """The application behind `tokenderby serve chunked`."""
    app = application(service)
    app.router.add_post("/chat", _post)
    return app


async def _post(request: web.Request) -> web.StreamResponse:
    service = request.app[SERVICE]
    chat = await read_chat(request)
    generation = open_answer(service.generations, chat)
    await until_begun(service, generation, chat.first)
    return await stream_answer(
        request,
        generation.stream_id,
        wire.CONTENT_TYPE,
        lambda writer: service.push(
            generation, chat.first, HttpStream(request, writer, _encode, wire.HEARTBEAT, _token)
        ),
    )


def _token(generation: Generation, i: int, sent_ns: int) -> bytes:
    return wire.TOKEN_FORMAT % (i, generation.json_text(i), generation.due_ns[i], sent_ns)


def _encode(_: int, messages: list[bytes], end: bytes | None) -> bytes:
    lines = [wire.encode_token(message) for message in messages]
    if end is not None:
        lines.append(wire.encode_end(end))
    return b"".join(lines)

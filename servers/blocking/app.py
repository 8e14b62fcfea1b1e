"""The baseline without streaming: nothing until the answer is complete, then all of it.

It is one document, but never whole in memory: a reader that takes nothing costs no more than elsewhere.
"""

from __future__ import annotations

from aiohttp import web

from servers.blocking import wire
from servers.chat import open_answer
from servers.http import SERVICE, HttpStream, application, read_chat, stream_answer, until_ended
from servers.service import Service


def create(service: Service) -> web.Application:
    """The application behind `tokenderby serve blocking`."""
    app = application(service)
    app.router.add_post("/chat", _post)
    return app


async def _post(request: web.Request) -> web.StreamResponse:
    service = request.app[SERVICE]
    chat = await read_chat(request)
    generation = open_answer(service.generations, chat)
    await until_ended(service, generation)

    def encode(first: int, messages: list[bytes], end: bytes | None) -> bytes:
        return wire.encode_part(messages, end, begun=first > chat.first)

    return await stream_answer(
        request,
        generation.stream_id,
        "application/json",
        lambda writer: service.push(generation, chat.first, HttpStream(request, writer, encode, b"")),
    )

"""The baseline without streaming: nothing until the answer is complete, then all of it.

It is one document, but never whole in memory: a reader that takes nothing costs no more than elsewhere.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from servers.blocking import wire
from servers.chat import RequestError, open_answer
from servers.generation import Generation
from servers.http import SERVICE, HttpStream, application, read_chat, stream_answer
from servers.service import Service


def create(service: Service) -> web.Application:
    """The application behind `tokenderby serve blocking`."""
    app = application(service)
    app.router.add_post("/chat", _post)
    return app


class _End:
    """Waits for an answer's last token (servers.generation.Reader), or for the server's stop."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._over = asyncio.Event()

    def wake(self) -> None:
        """Notice the last token."""
        if self._generation.ended:
            self._over.set()

    def stop(self) -> None:
        """Wait no longer (servers.service.Stoppable)."""
        self._over.set()

    async def wait(self) -> bool:
        """Whether the answer is complete."""
        self._generation.subscribe(self)
        try:
            self.wake()
            await self._over.wait()
        finally:
            self._generation.unsubscribe(self)
        return self._generation.ended


async def _post(request: web.Request) -> web.StreamResponse:
    service = request.app[SERVICE]
    chat = await read_chat(request)
    generation = open_answer(service.generations, chat)
    end = _End(generation)
    with service.answering(end):
        if not await end.wait():
            raise RequestError(503, "stopping", "the server is stopping; ask again", 1)

    def encode(first: int, messages: list[bytes], end: bytes | None) -> bytes:
        return wire.encode_part(messages, end, begun=first > chat.first)

    return await stream_answer(
        request,
        generation.stream_id,
        "application/json",
        lambda writer: service.push(generation, chat.first, HttpStream(request, writer, encode, b"")),
    )

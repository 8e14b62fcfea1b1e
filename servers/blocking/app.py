"""The baseline without streaming: nothing until the answer is complete, then all of it."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web

from servers.blocking import wire
from servers.chat import RequestError, open_answer
from servers.generation import Generation
from servers.http import SERVICE, application, read_chat
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
    sent_ns = time.monotonic_ns()
    tokens = [generation.token(i, sent_ns) for i in range(chat.first, generation.schedule.n)]
    service.stats.note_sent(len(tokens))
    service.note_delivered(generation)
    body = wire.encode_answer(tokens, generation.end())
    headers = {"Stream-Id": generation.stream_id, "Cache-Control": "no-store"}
    return web.Response(body=body, content_type="application/json", headers=headers)

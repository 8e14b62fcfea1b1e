"""sse-starlette on FastAPI and uvicorn: `EventSourceResponse` over an async generator of events.

It writes CRLF lines, and a comment every 15 s, whatever was sent meanwhile: its defaults.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from fastapi.responses import Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from servers.generation import Generation
from servers.service import Service
from servers.sse.wire import RETRY_MS
from servers.stacks import answer, asgi, uvicorn_server


def serving(service: Service) -> AbstractAsyncContextManager[int]:
    """Serve for as long as the context lasts; yields the port."""

    def stream(generation: Generation, first: int) -> Response:
        return EventSourceResponse(
            _events(service, generation, first), headers=asgi.stream_headers(generation.stream_id)
        )

    return uvicorn_server.serving(asgi.sse_application(service, stream), service.settings)


async def _events(service: Service, generation: Generation, first: int) -> AsyncIterator[ServerSentEvent]:
    async for message in answer.encoded_messages(service, generation, first):
        data = message.data.decode()
        if message.i is not None:
            retry = RETRY_MS if message.i == first else None
            yield ServerSentEvent(data, id=f"{generation.stream_id}/{message.i}", retry=retry)
        else:
            yield ServerSentEvent(data, event="error" if message.is_error else "end")
            if not message.is_error:
                yield ServerSentEvent("[DONE]")

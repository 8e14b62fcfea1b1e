"""A known trap, for measurements: Server-Sent Events written with `str.splitlines()`.

That ends a line at U+2028, U+2029, U+0085 and others too, which no reader of the event stream does, and forgets that
there was a newline at the end (docs/stacks.md).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from fastapi.responses import Response

from servers.generation import Generation
from servers.service import Service
from servers.stacks import answer, asgi, uvicorn_server


def serving(service: Service) -> AbstractAsyncContextManager[int]:
    """Serve for as long as the context lasts; yields the port."""

    def stream(generation: Generation, first: int) -> Response:
        return asgi.event_stream(generation, _events(service, generation, first))

    return uvicorn_server.serving(asgi.sse_application(service, stream), service.settings)


async def _events(service: Service, generation: Generation, first: int) -> AsyncIterator[str]:
    async for message in answer.encoded_messages(service, generation, first):
        name = "message" if message.i is not None else "error" if message.is_error else "end"
        yield f"event: {name}\n{_data_lines(message.data.decode())}\n"


def _data_lines(text: str) -> str:
    return "".join(f"data: {line}\n" for line in text.splitlines())

"""A known trap, for measurements: FastAPI's `StreamingResponse` over a generator that is not async.

Each piece is fetched in a thread of anyio's pool, which has 40: a generator that waits there for its next token holds
one, and the 41st stream waits for it (docs/stacks.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager

from fastapi.responses import Response

from servers.generation import Generation
from servers.service import Service
from servers.stacks import answer, asgi, uvicorn_server


def serving(service: Service) -> AbstractAsyncContextManager[int]:
    """Serve for as long as the context lasts; yields the port."""
    loop = asyncio.get_running_loop()

    def stream(generation: Generation, first: int) -> Response:
        return asgi.event_stream(generation, _blocking(answer.encoded_events(service, generation, first), loop))

    return uvicorn_server.serving(asgi.sse_application(service, stream), service.settings)


def _blocking(pieces: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
    """What a provider's synchronous SDK gives: its `next` blocks until there is more."""

    async def next_piece() -> bytes | None:
        return await anext(pieces, None)

    while (piece := asyncio.run_coroutine_threadsafe(next_piece(), loop).result()) is not None:
        yield piece

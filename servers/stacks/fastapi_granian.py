"""The FastAPI application of `fastapi_uvicorn.py`, served by Granian, whose connections are Rust's.

Its embedded server, which runs on our event loop, so that the application has one emitter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from granian.constants import Interfaces
from granian.server.embed import Server

from servers.connection import CLOSE_S, QUEUED_CONNECTIONS
from servers.service import Service
from servers.stacks import fastapi_uvicorn
from servers.stacks.listener import own_port
from servers.stacks.ready import until_ready


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[int]:
    """Serve for as long as the context lasts; yields the port. Raises OSError."""
    settings = service.settings
    port = own_port(settings)
    server = Server(
        fastapi_uvicorn.create(service),
        address=settings.host,
        port=port,
        interface=Interfaces.ASGI,
        backlog=QUEUED_CONNECTIONS,
        log_enabled=False,
    )
    running = asyncio.create_task(server.serve())
    try:
        await until_ready(settings.host, port, lambda: not running.done())
        yield port
    finally:
        server.stop()  # type: ignore[no-untyped-call]
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await running

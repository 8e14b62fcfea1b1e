"""The FastAPI application of `fastapi_uvicorn.py`, served by Hypercorn.

It speaks HTTP/2 as well, without TLS to a client that knows before (prior knowledge, RFC 9113, 3.3).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hypercorn.asyncio import serve
from hypercorn.config import Config

from servers.connection import CLOSE_S, QUEUED_CONNECTIONS
from servers.service import Service, Settings
from servers.stacks import fastapi_uvicorn
from servers.stacks.listener import listening_socket
from servers.stacks.ready import until_ready
from servers.websocket.protocol import MAX_INCOMING_BYTES


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[int]:
    """Serve for as long as the context lasts; yields the port. Raises OSError."""
    stop = asyncio.Event()
    with listening_socket(service.settings) as listener:
        port: int = listener.getsockname()[1]
        config = _config(service.settings, listener.detach())  # Hypercorn closes it
        app = fastapi_uvicorn.create(service)
        running = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]
        try:
            await until_ready(service.settings.host, port, lambda: not running.done())
            yield port
        finally:
            stop.set()
            await running


def _config(settings: Settings, descriptor: int) -> Config:
    config = Config()
    config.bind = [f"fd://{descriptor}"]
    config.errorlog = None
    config.backlog = QUEUED_CONNECTIONS
    config.keep_alive_timeout = settings.keep_alive_s
    config.graceful_timeout = CLOSE_S
    config.websocket_max_message_size = MAX_INCOMING_BYTES
    return config

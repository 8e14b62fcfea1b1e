"""uvicorn, with its defaults, but for our limits of a message's size and of a stop's length."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import uvicorn

from servers.connection import CLOSE_S, QUEUED_CONNECTIONS
from servers.service import DRAIN_S, Settings
from servers.stacks.listener import listening_socket
from servers.websocket.protocol import MAX_INCOMING_BYTES

_LOOK_S = 0.01


@asynccontextmanager
async def serving(
    app: Any,
    settings: Settings,
    graceful_s: float | None = DRAIN_S + CLOSE_S,
    lifespan: Literal["auto", "off"] = "auto",
) -> AsyncIterator[int]:
    """Serve `app` by uvicorn for as long as the context lasts; yields the port. Raises OSError.

    Told to stop, uvicorn waits `graceful_s` for the answers under way; None, its default: for ever.
    """
    with listening_socket(settings) as listener:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            backlog=QUEUED_CONNECTIONS,
            timeout_keep_alive=max(1, round(settings.keep_alive_s)),
            timeout_graceful_shutdown=None if graceful_s is None else round(graceful_s),
            ws_max_size=MAX_INCOMING_BYTES,
            lifespan=lifespan,
        )
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not running.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(_LOOK_S)
        if running.done():
            running.result()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await running

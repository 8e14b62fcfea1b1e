"""A known trap, for measurements: FastAPI behind one `BaseHTTPMiddleware` that does nothing.

Each piece of a body passes through a queue without room, from one task to another (docs/stacks.md).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from fastapi import Request
from fastapi.responses import Response

from servers.service import Service
from servers.stacks import fastapi_uvicorn, uvicorn_server


def serving(service: Service) -> AbstractAsyncContextManager[int]:
    """Serve for as long as the context lasts; yields the port."""
    app = fastapi_uvicorn.create(service)

    @app.middleware("http")
    async def pass_on(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        return await call_next(request)

    return uvicorn_server.serving(app, service.settings)

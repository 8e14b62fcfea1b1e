"""A trap that is gone, for measurements: FastAPI behind `GZipMiddleware`.

It used to hold a stream back until there were some 32 KiB; Starlette as pinned here flushes behind each piece, and lets
`text/event-stream` alone (docs/stacks.md).
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from fastapi.middleware.gzip import GZipMiddleware

from servers.service import Service
from servers.stacks import fastapi_uvicorn, uvicorn_server


def serving(service: Service) -> AbstractAsyncContextManager[int]:
    """Serve for as long as the context lasts; yields the port."""
    app = fastapi_uvicorn.create(service)
    app.add_middleware(GZipMiddleware)
    return uvicorn_server.serving(app, service.settings)

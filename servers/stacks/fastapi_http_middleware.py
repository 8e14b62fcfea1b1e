"""A known mistake, for measurements: FastAPI with its access check written as HTTP middleware.

Such middleware is not run for a WebSocket upgrade, which therefore needs no token at all (docs/stacks.md).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from fastapi import Request
from fastapi.responses import Response

from servers.chat import RequestError
from servers.service import Service
from servers.stacks import asgi, fastapi_uvicorn, uvicorn_server


def serving(service: Service) -> AbstractAsyncContextManager[int]:
    """Serve for as long as the context lasts; yields the port."""
    app = asgi.fastapi_application(service)
    app.include_router(fastapi_uvicorn.routes(service))

    @app.middleware("http")
    async def check_access(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            if request.url.path != "/healthz":
                asgi.check_access(service, request)
        except RequestError as error:
            return asgi.refusal(error)
        return await call_next(request)

    return uvicorn_server.serving(app, service.settings)

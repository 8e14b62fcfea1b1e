"""A known trap, for measurements: FastAPI on uvicorn as it is, which waits for open streams when it is told to stop.

uvicorn's `--timeout-graceful-shutdown` has no default, and nothing tells the generators (docs/stacks.md).
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from fastapi.responses import Response

from servers.generation import Generation
from servers.service import Service
from servers.stacks import answer, asgi, uvicorn_server


def serving(service: Service) -> AbstractAsyncContextManager[int]:
    """Serve for as long as the context lasts; yields the port."""

    def stream(generation: Generation, first: int) -> Response:
        return asgi.event_stream(generation, answer.encoded_events(service, generation, first, stops=False))

    return uvicorn_server.serving(asgi.sse_application(service, stream), service.settings, graceful_s=None)

"""A known trap, for measurements: FastAPI behind a gzip middleware that does not flush.

zlib keeps what it is given until there are some 32 KiB of it. So did Starlette's own until it learnt to flush, and so
does Django's where it is run by WSGI (docs/stacks.md).
"""

from __future__ import annotations

import zlib
from contextlib import AbstractAsyncContextManager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from servers.service import Service
from servers.stacks import fastapi_uvicorn, uvicorn_server

_GZIP = 31  # zlib's number for gzip's format


def serving(service: Service) -> AbstractAsyncContextManager[int]:
    """Serve for as long as the context lasts; yields the port."""
    app = fastapi_uvicorn.create(service)
    app.add_middleware(_Gzip)
    return uvicorn_server.serving(app, service.settings)


class _Gzip:
    """Packs every answer to a client that takes gzip, as ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        packer = zlib.compressobj(wbits=_GZIP)

        async def send_packed(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [field for field in message["headers"] if field[0] != b"content-length"]
                message["headers"] = [*kept, (b"content-encoding", b"gzip")]
            else:
                message["body"] = packer.compress(message.get("body", b""))
                if not message.get("more_body"):
                    message["body"] += packer.flush()
            await send(message)

        takes_gzip = any(b"gzip" in value for name, value in scope["headers"] if name == b"accept-encoding")
        is_chat = scope["type"] == "http" and scope["path"] == "/chat"
        await self._app(scope, receive, send_packed if takes_gzip and is_chat else send)

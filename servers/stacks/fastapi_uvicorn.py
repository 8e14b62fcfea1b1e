"""FastAPI on uvicorn: `StreamingResponse` over an async generator, and a WebSocket with `await send_text`.

The access check is a dependency of the router, which holds for WebSockets as well.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from fastapi import APIRouter, FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import Response, StreamingResponse

from servers.chat import RequestError, open_answer
from servers.chunked import wire as chunked_wire
from servers.generation import Generation
from servers.messages import encode_error
from servers.service import Service
from servers.stacks import answer, asgi, uvicorn_server
from servers.websocket.protocol import INTERNAL_ERROR


def serving(service: Service) -> AbstractAsyncContextManager[int]:
    """Serve for as long as the context lasts; yields the port."""
    return uvicorn_server.serving(create(service), service.settings)


def create(service: Service) -> FastAPI:
    """The application."""
    app = asgi.fastapi_application(service)
    app.include_router(routes(service), dependencies=[asgi.needs_token(service)])
    return app


def routes(service: Service) -> APIRouter:
    """What needs the token, without the check."""
    add = {"sse": _add_sse, "chunked": _add_chunked, "websocket": _add_websocket}
    router = asgi.probes(service, APIRouter())
    add[service.settings.transport](service, router)
    return router


def _add_sse(service: Service, router: APIRouter) -> None:
    def stream(generation: Generation, first: int) -> Response:
        return asgi.event_stream(generation, answer.encoded_events(service, generation, first))

    asgi.add_sse(service, router, stream)


def _add_chunked(service: Service, router: APIRouter) -> None:
    @router.post("/chat")
    async def chat(request: Request) -> Response:
        asked = await asgi.read_asgi_chat(service, request)
        generation = open_answer(service.generations, asked)
        headers = asgi.stream_headers(generation.stream_id)
        lines = answer.encoded_lines(service, generation, asked.first)
        return StreamingResponse(lines, media_type=chunked_wire.CONTENT_TYPE, headers=headers)


def _add_websocket(service: Service, router: APIRouter) -> None:
    @router.websocket("/chat")
    async def chat(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await _answer(service, websocket)
        except WebSocketDisconnect:
            pass
        except RequestError as error:
            await websocket.send_text(encode_error(error.code, error.message).decode())
            await websocket.close(answer.close_code(error), error.code)


async def _answer(service: Service, websocket: WebSocket) -> None:
    """Answer the next request. Raises RequestError, WebSocketDisconnect."""
    received = await websocket.receive()
    if received["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(received["code"])
    generation, first = answer.open_frame(service, received.get("text"))
    async for message in answer.encoded_messages(service, generation, first):
        await websocket.send_text(message.data.decode())
    if generation.failure is not None:
        await websocket.close(INTERNAL_ERROR, generation.failure.code)
        raise WebSocketDisconnect(INTERNAL_ERROR)

"""What the stacks on FastAPI share: the probes, access, and errors in our form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import ContentStream
from starlette.websockets import WebSocket

from servers import access
from servers.body import too_large
from servers.chat import ChatRequest, RequestError
from servers.connection import refusal_headers
from servers.generation import Generation
from servers.http import STREAM_HEADERS, read_since
from servers.messages import encode_error
from servers.service import Service
from servers.sse.opening import chat_from_query, is_over, opened
from servers.sse.wire import CONTENT_TYPE
from servers.stacks import answer


def fastapi_application(service: Service) -> FastAPI:
    """An application with the open probe and errors in our form; a stack includes its routes."""
    app = FastAPI(openapi_url=None)
    app.add_exception_handler(RequestError, _refuse)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(ClientDisconnect, _nobody_to_answer)

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        return _probe(service.health_report())

    return app


def sse_application(service: Service, stream: Callable[[Generation, int], Response]) -> FastAPI:
    """An application of SSE alone, with the access check; `stream` answers from an index on."""
    router = probes(service, APIRouter(dependencies=[needs_token(service)]))
    add_sse(service, router, stream)
    app = fastapi_application(service)
    app.include_router(router)
    return app


def event_stream(generation: Generation, events: ContentStream) -> Response:
    """A `StreamingResponse` of events, as text or bytes, from an async generator or one that blocks."""
    return StreamingResponse(events, media_type=CONTENT_TYPE, headers=stream_headers(generation.stream_id))


def probes(service: Service, router: APIRouter) -> APIRouter:
    """`router` with the probes that need the token."""

    @router.get("/stats")
    async def stats(since: str = "0") -> JSONResponse:
        return _probe(service.stats_report(read_since(since)))

    @router.get("/clock")
    async def clock() -> JSONResponse:
        return _probe(service.clock_report())

    return router


def _probe(report: dict[str, object]) -> JSONResponse:
    return JSONResponse(report, headers=answer.PROBE_HEADERS)


def check_access(service: Service, asked: HTTPConnection) -> None:
    """The bearer check, of an HTTP request or a WebSocket upgrade. Raises RequestError."""
    settings = service.settings
    writes = asked.scope["type"] == "websocket" or asked.scope["method"] not in ("GET", "HEAD")
    access.check(asked.headers, settings.auth_token, settings.allow_origins, writes=writes)
    if asked.scope["type"] == "websocket":  # a page may read what it likes of a WebSocket: refused here or nowhere
        access.check_origin(asked.headers, settings.allow_origins)


def needs_token(service: Service) -> Any:
    """The same as a dependency: it asks for what requests and WebSockets have in common, and so holds for both."""

    async def check(asked: HTTPConnection) -> None:
        check_access(service, asked)

    return Depends(check)


async def read_asgi_chat(service: Service, request: Request) -> ChatRequest:
    """The chat request in the body; counts it. Raises RequestError."""
    service.stats.requests += 1
    if int(request.headers.get("Content-Length", "0")) > answer.READ_ON_BYTES:
        raise too_large()
    encoding = request.headers.get("Content-Encoding", "")
    return ChatRequest.parse(await answer.unpacked_body(request.stream(), encoding))


def add_sse(service: Service, router: APIRouter, stream: Callable[[Generation, int], Response]) -> None:
    """The routes of SSE: `stream` answers from an index on."""

    @router.post("/chat")
    async def post(request: Request) -> Response:
        chat = await read_asgi_chat(service, request)
        return stream(*opened(service.generations, chat, request.headers.get("Last-Event-ID")))

    @router.get("/chat")
    async def get(request: Request) -> Response:
        service.stats.requests += 1
        chat, seen = chat_from_query(request.query_params), request.headers.get("Last-Event-ID")
        generation, first = opened(service.generations, chat, seen)
        if is_over(generation, first, seen):
            return Response(status_code=204, headers={"Stream-Id": generation.stream_id})
        return stream(generation, first)


def stream_headers(stream_id: str) -> dict[str, str]:
    """The headers of a stream."""
    return {"Stream-Id": stream_id, **STREAM_HEADERS}


def refusal(error: RequestError) -> Response:
    """A refusal as JSON."""
    body = encode_error(error.code, error.message)
    return Response(body, error.status, refusal_headers(error), "application/json")


async def _refuse(_: Request | WebSocket, error: Exception) -> Response:
    """Of a WebSocket upgrade too: then it is refused with this answer."""
    if isinstance(error, HTTPException):
        code = error.detail.lower().replace(" ", "_")
        response = refusal(RequestError(error.status_code, code, error.detail))
        response.headers.update(error.headers or {})  # Allow
        return response
    assert isinstance(error, RequestError)
    return refusal(error)


async def _nobody_to_answer(_: Request | WebSocket, __: Exception) -> Response:
    return Response(status_code=400)

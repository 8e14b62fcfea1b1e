"""FastAPI's own SSE: a path operation that yields `ServerSentEvent`, with `EventSourceResponse` as its response class.

Each event passes two queues inside FastAPI, which adds a comment after 15 s without any. What may be refused is looked
at in a dependency: the path operation itself begins only when its answer does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from servers.generation import Generation
from servers.service import Service
from servers.sse.opening import chat_from_query, is_over, opened
from servers.sse.wire import RETRY_MS
from servers.stacks import answer, asgi, uvicorn_server

Opened = tuple[Generation, int]


class _Over(Exception):
    """A reconnecting EventSource has all."""


def serving(service: Service) -> AbstractAsyncContextManager[int]:
    """Serve for as long as the context lasts; yields the port."""
    app = asgi.fastapi_application(service)
    app.add_exception_handler(_Over, _say_over)
    app.include_router(_routes(service), dependencies=[asgi.needs_token(service)])
    return uvicorn_server.serving(app, service.settings)


async def _say_over(_: object, __: Exception) -> Response:
    return Response(status_code=204)


def _routes(service: Service) -> APIRouter:
    router = asgi.probes(service, APIRouter())

    async def by_body(request: Request, response: Response) -> Opened:
        chat = await asgi.read_asgi_chat(service, request)
        found = opened(service.generations, chat, request.headers.get("Last-Event-ID"))
        response.headers["Stream-Id"] = found[0].stream_id
        return found

    async def by_query(request: Request, response: Response) -> Opened:
        service.stats.requests += 1
        chat, seen = chat_from_query(request.query_params), request.headers.get("Last-Event-ID")
        found = opened(service.generations, chat, seen)
        if is_over(*found, seen):
            raise _Over
        response.headers["Stream-Id"] = found[0].stream_id
        return found

    @router.post("/chat", response_class=EventSourceResponse)
    async def post(found: Opened = Depends(by_body)) -> AsyncIterator[ServerSentEvent]:  # noqa: B008 - FastAPI's way
        async for event in _events(service, *found):
            yield event

    @router.get("/chat", response_class=EventSourceResponse)
    async def get(found: Opened = Depends(by_query)) -> AsyncIterator[ServerSentEvent]:  # noqa: B008 - FastAPI's way
        async for event in _events(service, *found):
            yield event

    return router


async def _events(service: Service, generation: Generation, first: int) -> AsyncIterator[ServerSentEvent]:
    async for message in answer.encoded_messages(service, generation, first):
        data = message.data.decode()
        if message.i is not None:
            retry = RETRY_MS if message.i == first else None
            yield ServerSentEvent(raw_data=data, id=f"{generation.stream_id}/{message.i}", retry=retry)
        else:
            yield ServerSentEvent(raw_data=data, event="error" if message.is_error else "end")
            if not message.is_error:
                yield ServerSentEvent(raw_data="[DONE]")

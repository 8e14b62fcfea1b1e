"""Django under ASGI on uvicorn: async views, and `StreamingHttpResponse` over an async generator.

Django serves HTTP alone. A WebSocket is a function beside it, before which none of its middleware stands: that function
checks access by itself (docs/stacks.md). This module is Django's list of URLs as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import django
from django.conf import settings as django_settings
from django.core.asgi import get_asgi_application
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.utils.decorators import async_only_middleware
from django.views.decorators.http import require_http_methods

from servers import access
from servers.body import too_large, unpacked
from servers.chat import ChatRequest, RequestError, open_answer
from servers.chunked import wire as chunked_wire
from servers.connection import refusal_headers
from servers.generation import Generation
from servers.http import STREAM_HEADERS, read_since
from servers.messages import encode_error
from servers.service import MAX_REQUEST_BYTES, Service
from servers.sse import wire as sse_wire
from servers.sse.opening import chat_from_query, is_over, opened
from servers.stacks import answer, asgi_websocket, uvicorn_server

View = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


def serving(service: Service) -> AbstractAsyncContextManager[int]:
    """Serve for as long as the context lasts; yields the port."""
    return uvicorn_server.serving(create(service), service.settings, lifespan="off")


def create(
    service: Service, *, checks_upgrades: bool = True, middleware: Sequence[str] = ()
) -> asgi_websocket.Application:
    """The application: Django for HTTP, and a function for WebSockets, which asks for the token or does not.

    `middleware` is Django's, by its names, outside of our own.
    """
    django_settings.configure(
        ALLOWED_HOSTS=["*"],
        DATA_UPLOAD_MAX_MEMORY_SIZE=MAX_REQUEST_BYTES,
        LOGGING_CONFIG=None,
        MIDDLEWARE=[*middleware, f"{__name__}.check_access"],
        ROOT_URLCONF=__name__,
        SERVICE=service,
    )
    django.setup()
    over_http = get_asgi_application()

    async def application(
        scope: asgi_websocket.AsgiEvent, receive: asgi_websocket.Receive, send: asgi_websocket.Send
    ) -> None:
        if scope["type"] == "websocket":
            await asgi_websocket.converse(service, scope, receive, send, checks_access=checks_upgrades)
        else:
            await over_http(scope, receive, send)

    return application


def _service() -> Service:
    service: Service = django_settings.SERVICE
    return service


@async_only_middleware  # type: ignore[untyped-decorator] # Django has no types
def check_access(get_response: View) -> View:
    """Django's middleware: who may ask, and whatever is refused as JSON."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        settings = _service().settings
        try:
            if request.path != "/healthz":
                writes = request.method not in ("GET", "HEAD")
                access.check(request.headers, settings.auth_token, settings.allow_origins, writes=writes)
        except RequestError as error:
            return _refusal(error)
        response = await get_response(request)
        return response if response.status_code < 400 else _as_json(response)

    return middleware


def _as_json(response: HttpResponseBase) -> HttpResponseBase:
    if response.headers.get("Content-Type") == "application/json":
        return response
    phrase = response.reason_phrase
    refused = _refusal(RequestError(response.status_code, phrase.lower().replace(" ", "_"), phrase))
    if allow := response.headers.get("Allow"):
        refused.headers["Allow"] = allow
    return refused


def _refusal(error: RequestError) -> HttpResponse:
    body = encode_error(error.code, error.message)
    headers = refusal_headers(error)
    return HttpResponse(body, status=error.status, headers=headers, content_type="application/json")


def _refusing(view: View) -> View:
    """A view whose RequestError becomes the answer."""

    async def refusing(request: HttpRequest) -> HttpResponseBase:
        try:
            return await view(request)
        except RequestError as error:
            return _refusal(error)
        except RequestDataTooBig:
            return _refusal(too_large())

    return refusing


def _probe(report: Callable[[HttpRequest], dict[str, object]]) -> Any:
    async def view(request: HttpRequest) -> HttpResponseBase:
        return JsonResponse(report(request), headers=answer.PROBE_HEADERS, json_dumps_params={"separators": (",", ":")})

    return require_http_methods(["GET"])(_refusing(view))


def _read_chat(request: HttpRequest) -> ChatRequest:
    _service().stats.requests += 1
    return ChatRequest.parse(unpacked(request.body, request.headers.get("Content-Encoding", "")))


def _stream(pieces: AsyncIterator[bytes], content_type: str, generation: Generation) -> HttpResponseBase:
    headers = {"Stream-Id": generation.stream_id, **STREAM_HEADERS}
    return StreamingHttpResponse(pieces, content_type=content_type, headers=headers)


def _events(generation: Generation, first: int) -> HttpResponseBase:
    return _stream(answer.encoded_events(_service(), generation, first), sse_wire.CONTENT_TYPE, generation)


async def _chunked(request: HttpRequest) -> HttpResponseBase:
    asked = _read_chat(request)
    generation = open_answer(_service().generations, asked)
    return _stream(answer.encoded_lines(_service(), generation, asked.first), chunked_wire.CONTENT_TYPE, generation)


async def _sse(request: HttpRequest) -> HttpResponseBase:
    seen = request.headers.get("Last-Event-ID")
    if request.method == "POST":
        return _events(*opened(_service().generations, _read_chat(request), seen))
    _service().stats.requests += 1
    generation, first = opened(_service().generations, chat_from_query(request.GET.dict()), seen)
    if is_over(generation, first, seen):
        return HttpResponse(status=204, headers={"Stream-Id": generation.stream_id})
    return _events(generation, first)


async def _chat(request: HttpRequest) -> HttpResponseBase:
    views = {"sse": (_sse, ["GET", "POST"]), "chunked": (_chunked, ["POST"])}
    view, methods = views.get(_service().settings.transport, (None, []))
    if view is None:
        raise RequestError(426, "upgrade_required", "this path is a WebSocket's")
    response: HttpResponseBase = await require_http_methods(methods)(view)(request)
    return response


urlpatterns = [
    path("healthz", _probe(lambda _: _service().health_report())),
    path("clock", _probe(lambda _: _service().clock_report())),
    path("stats", _probe(lambda request: _service().stats_report(read_since(request.GET.get("since", "0"))))),
    path("chat", _refusing(_chat)),
]

"""The polling server: a question is accepted at once, and its tokens are fetched from Redis page by page."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator

from aiohttp import web
from redis.exceptions import RedisError

from servers import redis_server
from servers.chat import RequestError, open_answer, unknown_stream
from servers.http import SERVICE, STREAM_HEADERS, application, read_chat
from servers.polling import wire
from servers.polling.store import Page, TokenStore
from servers.service import Service

MAX_WAIT_S = 300.0
# A stream that another process writes cannot wake us: then Redis is asked again so often.
FOREIGN_CHECK_S = 0.05
STOP_CHECK_S = 1.0
_NUMBER_CHARS = 32  # more digits are no index and no time, and would cost the more the more they are
STORE = web.AppKey("store", TokenStore)


def create(service: Service) -> web.Application:
    """The application behind `tokenderby serve polling`."""
    app = application(service)
    app.router.add_post("/chat", _post)
    app.router.add_get("/chat/{stream_id:[A-Za-z0-9_-]{1,64}}", _poll, allow_head=False)
    app.cleanup_ctx.append(_redis)
    return app


async def _redis(app: web.Application) -> AsyncIterator[None]:
    service = app[SERVICE]
    with redis_server.running(service.settings.redis_url) as server:
        if server.pid is not None:
            service.stats.extra["redis_pid"] = server.pid
        app[STORE] = store = TokenStore(
            server.url, service.emitter, service.settings.keep_s, service.stats.note_commands
        )
        try:
            await store.ping()
        except RedisError as error:
            raise redis_server.RedisUnavailable(f"Redis does not answer: {error}; see --redis-url") from error
        yield
        await store.close(service.generations.ids())


async def _post(request: web.Request) -> web.StreamResponse:
    service = request.app[SERVICE]
    chat = await read_chat(request)
    known = chat.stream_id is not None and service.generations.get(chat.stream_id) is not None
    generation = open_answer(service.generations, chat)
    if not known:
        try:
            await request.app[STORE].begin(generation)
        except RedisError as error:
            service.generations.discard(generation)
            raise _redis_failed(error) from error
    headers = {"Stream-Id": generation.stream_id, "Cache-Control": "no-store"}
    body = wire.encode_accepted(generation.stream_id)
    return web.Response(status=202, body=body, content_type="application/json", headers=headers)


async def _poll(request: web.Request) -> web.StreamResponse:
    stream_id = request.match_info["stream_id"]
    first = _number(request, "from", int, 2**31)
    wait_s = _number(request, "wait", float, MAX_WAIT_S)
    page = await _page(request, stream_id, int(first), wait_s)
    service = request.app[SERVICE]
    service.stats.note_sent(len(page.tokens))
    generation = service.generations.get(stream_id)
    if page.end is not None and generation is not None:
        service.note_delivered(generation)
    body = wire.encode_page(page.tokens, int(first) + len(page.tokens), page.end)
    headers = {"Stream-Id": stream_id, **STREAM_HEADERS}
    return web.Response(body=body, content_type="application/json", headers=headers)


async def _page(request: web.Request, stream_id: str, first: int, wait_s: float) -> Page:
    """What there is from `first` on, or what has come within `wait_s`."""
    service, store = request.app[SERVICE], request.app[STORE]
    deadline = time.monotonic() + wait_s
    while True:
        with store.next_write(stream_id) as next_write:  # before the read: what comes in between is not missed
            ours = service.generations.get(stream_id) is not None
            page = await _read(store, stream_id, first, ours=ours)
            left_s = deadline - time.monotonic()
            if page.tokens or page.end is not None or left_s <= 0 or service.stopping.is_set():
                return page
            await asyncio.wait([next_write], timeout=min(left_s, STOP_CHECK_S if ours else FOREIGN_CHECK_S))


async def _read(store: TokenStore, stream_id: str, first: int, *, ours: bool) -> Page:
    try:
        page = await store.read(stream_id, first)
    except RedisError as error:
        raise _redis_failed(error) from error
    if page is None and ours:  # Redis has lost it; it is being written anew
        raise RequestError(503, "redis_unavailable", "Redis has lost the stream, which is being written anew", 1)
    if page is None:
        raise unknown_stream(stream_id)
    return page


def _number(request: web.Request, name: str, kind: type[int] | type[float], highest: float) -> float:
    given = request.query.get(name, "0")
    try:
        value = kind(given) if len(given) <= _NUMBER_CHARS else -1
    except ValueError:
        value = -1
    if not (math.isfinite(value) and 0 <= value <= highest):
        raise RequestError(400, "bad_request", f"{name}: takes a number from 0 to {highest:g}")
    return value


def _redis_failed(error: RedisError) -> RequestError:
    return RequestError(503, "redis_unavailable", f"Redis does not answer: {type(error).__name__}; try again", 1)

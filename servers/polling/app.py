"""The polling server: a question is accepted at once, and its tokens are fetched from Redis page by page."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from servers import redis_server
from servers.chat import RequestError, open_answer, unknown_stream
from servers.http import SERVICE, STREAM_HEADERS, HttpStream, application, read_chat, stream_answer
from servers.lags import Lags
from servers.messages import decode_error
from servers.polling import wire
from servers.polling.link import RedisError
from servers.polling.token_store import StoredPart, TokenStore
from servers.push import ReaderGone, drained
from servers.service import Service

MAX_WAIT_S = 300.0
# A stream that another process writes cannot wake us: then Redis is asked again so often.
FOREIGN_CHECK_S = 0.05
STOP_CHECK_S = 1.0
RESTORE_S = 1.0  # how long a poll waits for a stream that Redis has lost
_NUMBER_CHARS = 32  # more digits are no index and no time, and would cost the more the more they are
_REASON_CHARS = 100  # of what Redis or the system says
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
    with redis_server.running_redis(service.settings.redis_url) as server:
        if server.pid is not None:
            service.stats.extra["redis_pid"] = server.pid
        address = redis_server.Address.parse(server.url)
        service.lags["redis"] = lags = Lags()
        note_commands = service.stats.note_commands
        app[STORE] = store = TokenStore(address, service.emitter, service.generations, note_commands, lags.note)
        try:
            await store.connect()
        except RedisError as error:
            raise redis_server.RedisUnavailable(f"Redis at {address} {error.deed}: {error}; see --redis-url") from error
        yield
        await store.close(service.generations.ids())


async def _post(request: web.Request) -> web.StreamResponse:
    service = request.app[SERVICE]
    chat = await read_chat(request)
    generation = open_answer(service.generations, chat)
    try:
        await request.app[STORE].begin(generation)
    except RedisError as error:
        raise _redis_failed(error) from error
    headers = {"Stream-Id": generation.stream_id, "Cache-Control": "no-store"}
    body = wire.encode_accepted(generation.stream_id)
    return web.Response(status=202, body=body, content_type="application/json", headers=headers)


async def _poll(request: web.Request) -> web.StreamResponse:
    stream_id = request.match_info["stream_id"]
    first = int(_number(request, "from", int, 2**31))
    wait_s = _number(request, "wait", float, MAX_WAIT_S)
    with request.app[SERVICE].spans.of(stream_id):  # a poll that waits may wait for nobody
        page = await _page(request, stream_id, first, wait_s)
    if page.failure is not None and not page.tokens:  # tokens that came before it are told first
        raise _failed(request.app[SERVICE], stream_id, page.failure)
    if page.more:
        return await _send_in_parts(request, stream_id, first, page)
    _note_sent(request.app[SERVICE], stream_id, page)
    body = wire.encode_page(page.tokens, first + len(page.tokens), page.end)
    headers = {"Stream-Id": stream_id, **STREAM_HEADERS}
    return web.Response(body=body, content_type="application/json", headers=headers)


async def _send_in_parts(request: web.Request, stream_id: str, first: int, page: StoredPart) -> web.StreamResponse:
    """Send a page of any size with no more of it in memory than its reader has not taken yet."""

    async def send(writer: AbstractStreamWriter) -> None:
        part, at = page, first
        connection = HttpStream(request, writer, lambda _, messages, __: b"".join(messages), b"")
        connection.write(0, [wire.PAGE_HEAD], None)
        while True:
            tokens = wire.encode_page_part(part.tokens, begun=at > first)
            at += len(part.tokens)
            tail = b"" if part.more else wire.encode_page_tail(at, part.end)
            connection.write(0, [tokens, tail], None)
            _note_sent(request.app[SERVICE], stream_id, part)
            await drained(connection)
            if not part.more:
                return
            part = await _next_part(request.app[STORE], stream_id, at)

    return await stream_answer(request, stream_id, "application/json", send)


async def _next_part(store: TokenStore, stream_id: str, first: int) -> StoredPart:
    """The next part of a page. Raises ReaderGone where there is none: a head that was sent cannot become an error."""
    try:
        part = await store.read(stream_id, first)
    except RedisError as error:
        raise ReaderGone from error
    if part is None:
        raise ReaderGone
    return part


def _note_sent(service: Service, stream_id: str, page: StoredPart) -> None:
    service.stats.note_sent(len(page.tokens))
    generation = service.generations.get(stream_id)
    if page.end is not None and generation is not None:
        service.note_delivered(generation)


async def _page(request: web.Request, stream_id: str, first: int, wait_s: float) -> StoredPart:
    """What there is from `first` on, or what has come within `wait_s`."""
    service, store = request.app[SERVICE], request.app[STORE]
    if not wait_s and (page := await _read(store, stream_id, first)) is not None:
        return page
    now = time.monotonic()
    deadline, lost_until = now + wait_s, now + RESTORE_S
    while True:
        with store.next_write(stream_id) as next_write:  # before the read: what comes in between is not missed
            page = await _read(store, stream_id, first)
            ends_at = deadline if page is not None else lost_until
            left_s = ends_at - time.monotonic()
            if page is None and left_s <= 0:
                raise RequestError(
                    503, "redis_unavailable", "Redis has lost the stream, which is being written anew", 1
                )
            if page is not None and (page.tells or left_s <= 0 or service.stopping.is_set()):
                return page
            ours = service.generations.get(stream_id) is not None
            await asyncio.wait([next_write], timeout=min(left_s, STOP_CHECK_S if ours else FOREIGN_CHECK_S))


async def _read(store: TokenStore, stream_id: str, first: int) -> StoredPart | None:
    """The stream from `first` on; None for one that Redis has lost and that is being written anew."""
    try:
        page = await store.read(stream_id, first)
    except RedisError as error:
        raise _redis_failed(error) from error
    if page is None and not store.restore(stream_id):
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


def _failed(service: Service, stream_id: str, failure: bytes) -> RequestError:
    generation = service.generations.get(stream_id)
    if generation is not None and generation.failure is not None:
        return RequestError(*generation.failure)
    error = decode_error(failure)  # of a stream that another process has written
    return RequestError(502, error.code, error.message) if error else unknown_stream(stream_id)


def _redis_failed(error: RedisError) -> RequestError:
    return RequestError(503, "redis_unavailable", f"Redis {error.deed}: {str(error)[:_REASON_CHARS]}; try again", 1)

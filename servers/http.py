"""What the HTTP servers share: probes, access, request bodies, errors as JSON, and the streaming response."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from servers import access, page
from servers.body import unpacked
from servers.chat import ChatRequest, RequestError
from servers.connection import ServerConnection, error_response
from servers.generation import Generation
from servers.push import ReaderGone
from servers.service import MAX_REQUEST_BYTES, Service

BODY_TIMEOUT_S = 30.0
_VERSIONS = ((1, 0), (1, 1))  # the parser reads 0.9 and 2.0 as well, which nobody speaks so
CHAT_PATHS = ("/chat", "/v1/chat")  # whose requests are counted
SERVICE = web.AppKey("service", Service)
PREFIX = web.AppKey("prefix", str)
CORS = web.RequestKey("cors", dict[str, str])
# The same for every stream: no cache may keep it, and no proxy that honours this (nginx) may hold it back.
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
HINT = "X-Accel-Buffering"
_USUAL_NAMES = "Authorization, Content-Type, Last-Event-ID"
_NAMES = re.compile(r"[A-Za-z0-9_, -]{1,2048}")  # of headers, as a preflight lists them
_NS_DIGITS = 19
_log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Encode = Callable[[int, list[bytes], bytes | None], bytes]
"""What a body has for token messages from an index on, and for the end message if there is one."""
EncodeToken = Callable[[Generation, int, int], bytes]
"""What it has for one token (its index, and when it was sent) in mid-answer: the same as `Encode`, at a lower cost."""
_KEPT_HEADS = 1024
_CHUNK_HEADS = tuple(b"%x\r\n" % n_bytes for n_bytes in range(_KEPT_HEADS))


def application(service: Service) -> web.Application:
    """An application with the probes and the shared checks; a transport adds its routes."""
    app = web.Application(middlewares=[_shared_checks], client_max_size=MAX_REQUEST_BYTES)
    app[SERVICE] = service
    app[PREFIX] = f"/{service.settings.transport}" if service.settings.also else ""
    for path, report in (
        ("/healthz", service.health_report),
        ("/clock", service.clock_report),
    ):
        app.router.add_get(path, _probe(report))
    app.router.add_get("/stats", _stats)
    if not app[PREFIX]:  # the page's files know each other by paths from the root
        race = page.PageRace(page.columns_of(service.settings.transport))
        page.add_routes(app, lambda: race)
    return app


def together(applications: Iterable[web.Application]) -> web.Application:
    """Applications of several transports behind one port, each below its transport's name."""
    root = web.Application(client_max_size=MAX_REQUEST_BYTES)
    for app in applications:
        root.add_subapp(app[PREFIX], app)
    return root


def _probe(report: Callable[[], dict[str, object]]) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return json_response(report())

    return answer


async def _stats(request: web.Request) -> web.Response:
    return json_response(request.app[SERVICE].stats_report(read_since(request.query.get("since", "0"))))


def read_since(since: str) -> int:
    """The moment (ns) that `/stats?since=` names. Raises RequestError."""
    if not (since.isascii() and since.isdecimal() and len(since) <= _NS_DIGITS):
        raise RequestError(400, "bad_request", "since: takes nanoseconds, as `now_ns` tells them")
    return int(since)


def json_response(value: object, status: int = 200) -> web.Response:
    """`value` as JSON."""
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


@web.middleware
async def _shared_checks(request: web.Request, handler: Handler) -> web.StreamResponse:
    service = request.app[SERVICE]
    request[CORS] = _cors_headers(request, service.settings.allow_origins)
    try:
        if request.version not in _VERSIONS:
            raise RequestError(400, "bad_http", "the request is not HTTP/1.1")
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return _preflight(request)
        path = request.path.removeprefix(request.app[PREFIX])
        if path != "/healthz":
            writes = request.method not in ("GET", "HEAD")
            settings = service.settings
            access.check(request.headers, settings.auth_token, settings.allow_origins, writes=writes)
        if path.startswith(CHAT_PATHS):
            service.stats.requests += 1
        response = await handler(request)
    except RequestError as error:
        response = error_response(error)
    except web.HTTPException as error:
        response = error_response(error)
    except (ConnectionError, ReaderGone) as error:
        raise ConnectionResetError("the client has gone") from error  # nobody to answer, and nobody's fault
    except Exception:
        _log.exception("a fault of the server's own")
        response = error_response(RequestError(500, "internal", "a fault of the server's own; its log says more"))
    if not response.prepared:
        response.headers.update(request[CORS])
        response.headers.setdefault("Cache-Control", "no-store")  # a probe is about now, an answer is one person's
    return response


def _cors_headers(request: web.Request, allowed: tuple[str, ...]) -> dict[str, str]:
    origin = request.headers.get("Origin")
    if origin is None or not origin.isascii() or not access.is_allowed(origin, allowed):
        return {}
    headers = {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": "Retry-After, Stream-Id",
        "Vary": "Origin",
    }
    if origin in allowed:  # named, not by "*": then its pages may send the cookie
        headers["Access-Control-Allow-Credentials"] = "true"
    return headers


def _preflight(request: web.Request) -> web.Response:
    cors = request[CORS]
    headers = dict(cors)
    if headers:
        headers["Access-Control-Allow-Methods"] = "GET, POST"
        asked = request.headers.get("Access-Control-Request-Headers", "")
        # Any others change nothing here; OpenAI's library for browsers sends a dozen of its own.
        headers["Access-Control-Allow-Headers"] = asked if _NAMES.fullmatch(asked) else _USUAL_NAMES
        headers["Access-Control-Max-Age"] = "600"
    return web.Response(status=204, headers=headers)


async def read_chat(request: web.Request) -> ChatRequest:
    """The chat request in the body. Raises RequestError; too large a body raises aiohttp's 413."""
    return ChatRequest.parse(await read_body(request))


async def read_body(request: web.Request) -> bytes:
    """The body, unpacked. Raises RequestError; too large a body raises aiohttp's 413."""
    if (request.content_length or 0) > MAX_REQUEST_BYTES:
        raise web.HTTPRequestEntityTooLarge(MAX_REQUEST_BYTES, request.content_length or 0)
    if request.headers.get("Transfer-Encoding", "chunked").strip().lower() != "chunked":  # as `gzip, chunked`
        raise RequestError(400, "bad_body", "Transfer-Encoding: takes chunked")
    # Nearly always it has come with the head: then nothing is waited for.
    body = await (request.read() if request.content.is_eof() else _awaited_body(request))
    return unpacked(body, request.headers.get("Content-Encoding", ""))


async def _awaited_body(request: web.Request) -> bytes:
    connection = request.protocol
    assert isinstance(connection, ServerConnection)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            with connection.reading(request.content):
                return await request.read()
    except TimeoutError:
        raise RequestError(408, "body_timeout", f"the body did not come within {BODY_TIMEOUT_S:g} s") from None


class HttpStream:
    """A streaming answer on one HTTP connection (servers.push.MessageWriter).

    Chunks are framed here and handed straight to the transport: aiohttp's own `write` is a coroutine, which would cost
    a task switch per token.
    """

    __slots__ = ("_chunked", "_encode", "_encode_token", "_heartbeat", "_transport", "_writer", "backlog_bytes")

    def __init__(
        self,
        request: web.Request,
        writer: AbstractStreamWriter,
        encode: Encode,
        heartbeat: bytes,
        encode_token: EncodeToken | None = None,
    ) -> None:
        transport = request.transport
        if transport is None:
            raise ReaderGone
        self._transport = transport
        self._writer = writer
        self._encode = encode
        self._encode_token = encode_token
        self._heartbeat = heartbeat
        self._chunked = request.version >= (1, 1)
        self.backlog_bytes = transport.get_write_buffer_size

    def write_token(self, generation: Generation, i: int, sent_ns: int) -> int:
        """Send a token in a chunk of its own; the backlog in bytes then."""
        encode, transport = self._encode_token, self._transport
        if encode is None or not self._chunked:
            self.write(i, [generation.token(i, sent_ns)], None)
        elif not transport.is_closing():
            transport.write(_chunk(encode(generation, i, sent_ns)))
        return transport.get_write_buffer_size()

    def write(self, first: int, messages: list[bytes], end: bytes | None) -> None:
        """Send messages in one chunk."""
        self._send(self._encode(first, messages, end))

    def heartbeat(self) -> None:
        """Send what the transport's readers pass over."""
        self._send(self._heartbeat)

    async def drain(self) -> None:
        """Return when the transport's buffer is below its limit. Raises OSError when the connection is lost."""
        if self._transport.is_closing():
            raise ConnectionResetError("the connection is closing")
        await self._writer.drain()

    def _send(self, data: bytes) -> None:
        transport = self._transport
        if data and not transport.is_closing():  # a chunk of nothing would be the last one
            transport.write(_chunk(data) if self._chunked else data)


def _chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    size = len(data)
    return b"".join((_CHUNK_HEADS[size] if size < _KEPT_HEADS else b"%x\r\n" % size, data, b"\r\n"))


async def stream_answer(
    request: web.Request,
    stream_id: str,
    content_type: str,
    run: Callable[[AbstractStreamWriter], Awaitable[Any]],
) -> web.StreamResponse:
    """Send the head of a streaming answer at once, let `run` write the body, and end it properly."""
    cors = request[CORS]
    response = web.StreamResponse(headers={"Stream-Id": stream_id, **STREAM_HEADERS, **cors})
    if request.headers.get(HINT) == "yes":  # a probe asks what a proxy does to answers that do not ask it to hurry
        del response.headers[HINT]
    response.content_type = content_type
    if request.version >= (1, 1):
        response.enable_chunked_encoding()
    else:
        response.force_close()  # where there are no chunks, only the connection's end is the body's (RFC 9112, 6.3)
    writer = await response.prepare(request)
    if writer is None:
        raise ReaderGone
    writer.send_headers()
    try:
        await run(writer)
    except ReaderGone:
        _cut(request)
    except Exception:
        # The head has gone out: only a cut connection still tells the client that this is no whole answer.
        _log.exception("a fault of the server's own, in mid-stream")
        _cut(request)
    else:
        await response.write_eof()
    return response


async def until_begun(service: Service, generation: Generation, first: int) -> None:
    """Return when a response's head may go: at once, or on a server with late heads once there is a token from `first`
    on. Raises RequestError if the answer fails before that, or if the server stops.
    """
    if service.settings.late_head:
        await _until(service, generation, lambda: generation.ended or generation.produced > first)
        if generation.failure is not None and generation.ended and generation.produced <= first:
            raise RequestError(*generation.failure)


async def until_ended(service: Service, generation: Generation) -> None:
    """Return when the answer is complete. Raises RequestError if it fails, or if the server stops before."""
    await _until(service, generation, lambda: generation.ended)
    if generation.failure is not None:
        raise RequestError(*generation.failure)


async def _until(service: Service, generation: Generation, is_there: Callable[[], bool]) -> None:
    moment = _Moment(generation, is_there)
    with service.answering(moment, generation.stream_id):
        if not await moment.wait():
            raise RequestError(503, "stopping", "the server is stopping; ask again", 1)


class _Moment:
    """Waits for a moment in an answer (servers.generation.Reader), or for the server's stop."""

    def __init__(self, generation: Generation, is_there: Callable[[], bool]) -> None:
        self._generation = generation
        self._is_there = is_there
        self._over = asyncio.Event()

    def wake(self) -> None:
        """Look whether it is there."""
        if self._is_there():
            self._over.set()

    def stop(self) -> None:
        """Wait no longer (servers.service.Stoppable)."""
        self._over.set()

    async def wait(self) -> bool:
        """Whether it came."""
        self._generation.subscribe(self)
        try:
            self.wake()
            await self._over.wait()
        finally:
            self._generation.unsubscribe(self)
        return self._is_there()


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()

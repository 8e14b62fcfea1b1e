"""HTTP connections, as aiohttp serves them, with what it does not do: every refusal is JSON, a body that cannot go on
is refused at once, a client that has sent its last byte still gets its answer, and a WebSocket may take it over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Protocol

from aiohttp import StreamReader, web

from servers.body import too_large
from servers.chat import RequestError
from servers.messages import encode_error
from servers.push import limit_stall
from servers.service import Settings

CLOSE_S = 1.0  # connections still open when the answers have ended are cut after so long
QUEUED_CONNECTIONS = 1024
_REASON_CHARS = 100  # of a parser's words, which quote what was sent
_log = logging.getLogger(__name__)


class Upgraded(Protocol):
    """Who has a connection after an upgrade. The first two are what aiohttp asks of its own readers."""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes of the client. The result is for aiohttp: not over yet, and nothing left."""

    def feed_eof(self) -> None:
        """The connection is lost."""

    def eof_received(self) -> None:
        """The client has sent its last byte."""

    def pause_writing(self) -> None:
        """The client takes less than it is sent (asyncio.BaseProtocol)."""

    def resume_writing(self) -> None:
        """It has caught up (asyncio.BaseProtocol)."""


class ServerConnection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_asked", "_body", "_half_closed", "_spoilt", "_upgraded_to")

    def __init__(self, server: web.Server, settings: Settings) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=settings.keep_alive_s,
            access_log=None,  # type: ignore[arg-type] # as web.AppRunner's own `access_log=None`
            auto_decompress=False,  # servers.body does it, within bounds
            lingering_time=CLOSE_S,  # for the rest of a body that nobody wants
        )
        self._asked = False  # anything yet
        self._body: StreamReader | None = None  # being read by a handler
        self._half_closed = False
        self._spoilt = False  # what follows on this connection cannot be told apart any more
        self._upgraded_to: Upgraded | None = None

    @contextlib.contextmanager
    def reading(self, body: StreamReader) -> Iterator[None]:
        """While a handler reads `body`: if the rest of it cannot come, raise RequestError in its read."""
        self._body = body
        try:
            self._check_body()
            yield
        finally:
            self._body = None
            if self._spoilt:
                body.feed_eof()  # aiohttp would wait for the rest

    def upgrade(self, to: Upgraded) -> None:
        """From now on `to` reads the connection, first what the client has sent already."""
        self._upgraded_to = to
        self.set_parser(to)  # type: ignore[arg-type] # anything that reads so

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client (asyncio.Protocol)."""
        if self._upgraded_to is not None:
            self._upgraded_to.feed_data(data)
            return
        super().data_received(data)
        self._asked = self._asked or bool(self._messages)
        if self._body is not None:
            self._check_body()

    def eof_received(self) -> bool:  # type: ignore[override] # aiohttp's never keeps the connection open
        """The client has sent its last byte, and may still read (RFC 9112, 9.6): stay open while answers are due."""
        if self._upgraded_to is not None:
            self._upgraded_to.eof_received()
            return False
        self._half_closed = True
        if self._body is not None:
            self._check_body()
        idle = self._waiter is not None and not self._waiter.done()
        if idle or not self._asked:
            return False
        self._close_behind_the_last()
        return True

    def pause_writing(self) -> None:
        """The client takes less than it is sent (asyncio.BaseProtocol)."""
        super().pause_writing()
        if self._upgraded_to is not None:
            self._upgraded_to.pause_writing()

    def resume_writing(self) -> None:
        """It has caught up (asyncio.BaseProtocol)."""
        super().resume_writing()
        if self._upgraded_to is not None:
            self._upgraded_to.resume_writing()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no HTTP, or to a fault outside of all handlers. Raises ConnectionError to give none."""
        if isinstance(exc, ConnectionError):
            raise exc
        if isinstance(exc, ValueError):  # aiohttp itself could not read the request: no handler's error comes here
            error = RequestError(400, "bad_http", "the request has bytes where HTTP has none")
        elif status >= 500:
            _log.error("a fault of the server's own", exc_info=exc)
            error = RequestError(500, "internal", "a fault of the server's own; its log says more")
        else:
            reason = (message or "").strip().partition("\n")[0].rstrip(": ")[:_REASON_CHARS]
            error = RequestError(400, "bad_http", f"the request is not HTTP/1.1: {reason}")
        if request.writer.output_size > 0:
            raise ConnectionResetError("an answer has begun; another would be taken for a part of it")
        self._spoilt = True
        return error_response(error)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer, or what is left of it. aiohttp's own refusals that pass by every handler become JSON here."""
        if isinstance(resp, web.HTTPException):
            resp = error_response(resp)
        if self._spoilt:
            resp.force_close()
        resp, gone = await super().finish_response(request, resp, start_time)
        self._close_behind_the_last()
        return resp, gone

    def _close_behind_the_last(self) -> None:
        """Of a client that has sent its last byte, the last answer is the one that nothing is queued behind."""
        if self._half_closed and not self._messages:
            self.close()

    def _check_body(self) -> None:
        body = self._body
        # A message behind a body that is not complete can only be the parser's complaint about that body.
        if body is None or body.is_eof() or not (self._messages or self._half_closed):
            return
        self._spoilt = True
        what = "is cut off" if self._half_closed else "is not as its Transfer-Encoding says"
        body.set_exception(RequestError(400, "bad_body", f"the body {what}"))


def error_response(error: RequestError | web.HTTPException) -> web.Response:
    """A refusal as JSON."""
    if isinstance(error, web.HTTPException):
        response = error_response(_from_http_exception(error))
        response.headers.update({name: value for name, value in error.headers.items() if name == "Allow"})
        return response
    body = encode_error(error.code, error.message)
    return web.Response(body=body, status=error.status, headers=refusal_headers(error), content_type="application/json")


def refusal_headers(error: RequestError) -> dict[str, str]:
    """The headers that a refusal has beside those of its body."""
    headers = {"Cache-Control": "no-store"}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status == 426:
        headers |= {"Upgrade": "websocket", "Connection": "Upgrade"}
    return headers


def _from_http_exception(error: web.HTTPException) -> RequestError:
    if error.status == 413:
        return too_large()
    return RequestError(error.status, error.reason.lower().replace(" ", "_"), error.reason)


@contextlib.asynccontextmanager
async def listening(app: web.Application, settings: Settings) -> AsyncIterator[int]:
    """Serve `app` for as long as the context lasts; yields the port."""
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=CLOSE_S)
    loop = asyncio.get_running_loop()
    try:
        await runner.setup()
        server = runner.server
        assert server is not None
        listener = await loop.create_server(
            lambda: ServerConnection(server, settings), settings.host, settings.port, backlog=QUEUED_CONNECTIONS
        )
        for accepting in listener.sockets:
            limit_stall(accepting)
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
    finally:
        await runner.cleanup()

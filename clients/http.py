"""What the clients over HTTP share: one user's aiohttp session, with a stamp straight after every read.

aiohttp hands a body over through a coroutine, one task switch and several microseconds after the read, and later the
more other connections are busy. So the stamp is taken in the connection's own `data_received`, and a streamed body is
decoded there as well. The WebSocket client does the same, so that the transports' stamps mean the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

from clients.client import Client, Settings
from clients.errors import (
    AnswerTruncated,
    ClientFailure,
    NoConnection,
    NotTheFormat,
    OwnFault,
    RequestRefused,
    SilenceTimeout,
    broken,
    seconds,
)
from clients.exchange import Exchange
from clients.ledger import Ledger
from servers.messages import EndMessage, ProtocolError, TokenMessage, decode_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LINGER_S = 2.0  # how long the response may stay open after the end message, before the connection is given up
MAX_BODY_BYTES = 256 << 20  # of a page or a whole answer: far above what the largest stream takes
_MAX_ERROR_BYTES = 65_536
_KEEP_ALIVE_S = 86_400.0  # the server or a proxy ends an idle connection, never this client


class Decoder(Protocol):
    """A streaming wire format's decoder."""

    def feed(self, data: bytes) -> Sequence[TokenMessage | EndMessage]:
        """The messages that `data` completes."""


class HttpClient(Client):
    """A user with one HTTP/1.1 connection at a time."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.handler: _Handler | None = None  # the connection that answered last
        self.pump: _Pump | None = None  # where the next response's body goes as it comes
        self._session: aiohttp.ClientSession | None = None

    async def _hang_up(self, *, orderly: bool) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _stream(
        self, exchange: Exchange, decoder: Decoder, content_type: str, method: str = "POST", **request: Any
    ) -> int:
        """Send a request and decode its response as it comes; the status: 200, or 204 without a body.

        Returns when the response is complete. Raises ClientFailure.
        """
        self.pump = pump = _Pump(decoder, exchange.ledger)
        try:
            async with self._response(exchange, method, "/chat", (200, 204), **request) as response:
                if response.status == 200:
                    if response.content_type != content_type:
                        raise NotTheFormat(f"Content-Type {response.content_type} instead of {content_type}")
                    await self._until_done(pump)
                return response.status
        finally:
            self.pump = None
            pump.detach()

    async def _body(self, exchange: Exchange, status: int, method: str, path: str, **request: Any) -> tuple[bytes, int]:
        """Send a request and read its whole response; with it the stamp of the last read. Raises ClientFailure."""
        try:
            async with asyncio.timeout(self.settings.silence_s) as limit:
                async with self._response(exchange, method, path, (status,), **request) as response:
                    body = await _read_all(response)
        except TimeoutError:
            if limit.expired():
                raise SilenceTimeout(self.settings.silence_s or 0.0) from None
            raise
        return body, self.last_read_ns()

    def last_read_ns(self) -> int:
        """The stamp of the last read from the connection that answered last."""
        return self.handler.read_ns if self.handler is not None else 0

    @asynccontextmanager
    async def _response(
        self, exchange: Exchange, method: str, path: str, statuses: tuple[int, ...], **request: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response to a request, if it has one of `statuses`; whatever goes wrong becomes a ClientFailure."""
        exchange.note_request()
        response = None
        try:
            response = await self._send(method, path, **request)
            if response.status not in statuses:
                raise await _refusal(response)
            yield response
        except (aiohttp.ClientError, OSError) as error:
            raise self._failure(error) from error
        finally:
            if response is not None and not response.content.is_eof():
                response.close()

    async def _send(self, method: str, path: str, **request: Any) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=_Connector(self),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self.headers,
                timeout=aiohttp.ClientTimeout(total=None),  # limits are the message's, see Client.ask
            )
            # aiohttp sends a GET once more by itself when its connection breaks: a cut, and a request, unseen.
            self._session._retry_connection = False
        url = f"http://{self.host}:{self.port}{path}"
        try:
            async with asyncio.timeout(self.settings.silence_s) as limit:
                return await self._session.request(method, url, allow_redirects=False, **request)
        except TimeoutError:
            if limit.expired():
                raise SilenceTimeout(self.settings.silence_s or 0.0) from None
            raise

    async def _until_done(self, pump: _Pump) -> None:
        """Wait for the end of the response, or for silence. Raises ClientFailure."""
        silence_s = self.settings.silence_s
        while silence_s is not None and not pump.done.done():
            left_s = silence_s - (monotonic_ns() - pump.last_read_ns()) / 1e9
            if left_s <= 0:
                raise SilenceTimeout(silence_s)
            await asyncio.wait([pump.done], timeout=left_s)
        await pump.done
        if pump.failure is not None:
            failure = pump.failure
            raise failure if isinstance(failure, ClientFailure) else self._failure(failure)

    def _failure(self, error: BaseException) -> ClientFailure:
        """Whose fault it was. How the connection ended tells FIN from RST, not the type of aiohttp's error."""
        handler = self.handler
        text = (str(error) or type(error).__name__).partition("\n")[0]
        if isinstance(error, aiohttp.ClientConnectorError):
            return NoConnection(str(error.os_error))
        if isinstance(error, aiohttp.ServerDisconnectedError):
            return AnswerTruncated("the connection was closed before the response", "fin")
        if isinstance(error, aiohttp.ClientPayloadError) and handler is not None and handler.is_lost:
            return broken(handler.lost) if handler.lost is not None else AnswerTruncated(text, "fin")
        if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ClientResponseError | HttpProcessingError):
            return NotTheFormat(text)
        if isinstance(error, aiohttp.ClientConnectionError | OSError):
            return broken(error)
        return OwnFault(error)


async def _read_all(response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise NotTheFormat(f"a body of more than {MAX_BODY_BYTES} bytes")
    return b"".join(parts)


async def _refusal(response: aiohttp.ClientResponse) -> RequestRefused:
    body = await response.content.read(_MAX_ERROR_BYTES)
    error = decode_error(body)
    detail = f"{error.code}: {error.message}" if error is not None else body[:80].decode("utf-8", "replace")
    wish_s = seconds(response.headers.get("Retry-After"))
    return RequestRefused(detail, f"status {response.status}", response.status, wish_s)


class _Connector(aiohttp.TCPConnector):
    """Opens a user's connections with our handler."""

    def __init__(self, client: HttpClient) -> None:
        keep: dict[str, Any] = {"keepalive_timeout": _KEEP_ALIVE_S} if client.settings.reuse else {"force_close": True}
        super().__init__(limit=0, **keep)
        self._factory: Any = lambda: _Handler(client)  # aiohttp has no public place for it


class _Handler(ResponseHandler):
    """aiohttp's side of a connection, with our eyes: when it was read, when and why it was lost, its bytes."""

    def __init__(self, client: HttpClient) -> None:
        super().__init__(asyncio.get_running_loop())
        self._client = client
        self.pump: _Pump | None = None
        self._metered: asyncio.BaseTransport | None = None
        self.read_ns = 0
        self.is_lost = False
        self.lost: BaseException | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._metered = transport
        self._client.handler = self
        self._client.meter.opened(transport)

    def data_received(self, data: bytes) -> None:
        if not data:  # not a read: aiohttp goes on with what it held while paused
            super().data_received(data)
            return
        self.read_ns = monotonic_ns()
        ResponseHandler.data_received(self, data)
        pump = self.pump
        if pump is not None:
            pump.on_read(self.read_ns)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """A response's head is complete (aiohttp calls this while it parses a read)."""
        message, payload = data
        self._client.handler = self
        self.pump = self._client.pump if message.code == 200 else None
        if self.pump is not None:
            self.pump.attach(self, payload)
        super().feed_data(data, size)

    def resume_reading(self, resume_parser: bool = True) -> None:
        # aiohttp calls this after each piece taken, to no effect unless it had paused, but at a cost.
        if self._reading_paused:
            super().resume_reading(resume_parser)
            if self.pump is not None:
                self._loop.call_soon(self.pump.on_read, self.read_ns)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.is_lost, self.lost = True, exc
        if self._metered is not None:
            self._client.meter.lost(self._metered)
        super().connection_lost(exc)
        if self.pump is not None:
            self.pump.on_lost(self.exception())


class _Pump:
    """Takes a response's body as it comes, decodes it, and enters it in the ledger. `done` is set at its end."""

    def __init__(self, decoder: Decoder, ledger: Ledger) -> None:
        self._loop = asyncio.get_running_loop()
        self._decode, self._enter, self._ledger = decoder.feed, ledger.add, ledger
        self._handler: _Handler | None = None
        self._take: Callable[[], bytes] | None = None  # what has come of the body; None before it and after its end
        self._complete = False
        self._linger: asyncio.TimerHandle | None = None
        self.done = self._loop.create_future()
        self.failure: BaseException | None = None

    def attach(self, handler: _Handler, content: aiohttp.StreamReader) -> None:
        """The response has begun on this connection."""
        self._handler, self._take = handler, content.read_nowait
        content.on_eof(self._note_complete)

    def detach(self) -> None:
        """Nobody waits for it any more."""
        self._take = None
        if self._handler is not None:
            self._handler.pump = None
        if self._linger is not None:
            self._linger.cancel()

    def last_read_ns(self) -> int:
        """When anything was read last."""
        return self._handler.read_ns if self._handler is not None else monotonic_ns()

    def on_read(self, read_ns: int) -> None:
        """Something was read at `read_ns`."""
        if self._take is None:
            return
        try:
            if data := self._take():
                self._enter(self._decode(data), read_ns)
        except ProtocolError as error:
            self._enter(error.messages, read_ns)
            self._finish(NotTheFormat(str(error)))
        except Exception as error:  # what aiohttp found wrong with the response
            self._finish(error)
        if self._complete:
            self._finish(None)
        elif self._ledger.end is not None and self._linger is None:
            self._linger = self._loop.call_later(LINGER_S, self._finish, None)

    def on_lost(self, error: BaseException | None) -> None:
        """The connection is gone; `error` is what aiohttp holds against it."""
        self.on_read(self.last_read_ns())
        self._finish(error or aiohttp.ClientPayloadError("the connection was lost"))

    def _note_complete(self) -> None:
        """aiohttp has parsed the end of the response, in the read that is about to be announced."""
        self._complete = True

    def _finish(self, failure: BaseException | None) -> None:
        self._take = None
        if not self.done.done():
            self.failure = failure
            self.done.set_result(None)

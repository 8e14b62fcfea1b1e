"""Polling, chunked and SSE users: HTTP/1.1 over a connection that hands over what has come.

The parser is geventhttpclient's (llhttp), fed with every read as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic, monotonic_ns
from urllib.parse import urlencode

import gevent
from geventhttpclient.response import HTTPParseError, HTTPResponse

from clients.client import Settings
from clients.errors import AnswerTruncated, NotTheFormat, RequestRefused, seconds
from clients.exchange import Exchange
from clients.http import LINGER_S, MAX_BODY_BYTES, Decoder
from clients.locusts.asking import GeventClient
from clients.locusts.connection import Connection
from servers.chunked import wire as chunked
from servers.messages import EndMessage, ProtocolError, TokenMessage, decode_error
from servers.polling import wire as polling
from servers.sse import wire as sse


class _Response(HTTPResponse):
    """A response that is still coming: `take` gives the body's bytes since the last time."""

    def __init__(self, method: str) -> None:
        super().__init__(method)
        self._body: list[bytes] = []

    def _on_body(self, buf: bytearray) -> None:
        self._body.append(bytes(buf))

    def take(self) -> bytes:
        """The body's bytes that were not taken yet."""
        body, self._body = self._body, []
        return b"".join(body)

    def header(self, name: str) -> str | None:
        """A header's value, the last one if it was sent several times."""
        value = self.get(name)
        return value[-1] if isinstance(value, list) else value

    @property
    def content_type(self) -> str:
        """The media type without parameters."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()


@dataclass(frozen=True)
class _Request:
    """A request; `statuses` are those that the contract names for its response."""

    statuses: tuple[int, ...]
    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class HttpUser(GeventClient):
    """A user with one HTTP/1.1 connection at a time."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._connection: Connection | None = None

    def hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _stream(self, exchange: Exchange, decoder: Decoder, content_type: str, headers: Mapping[str, str]) -> int:
        """Ask, and decode the response as it comes; the status: 200, or 204 without a body. Raises ClientFailure."""
        request = _Request((200, 204), "POST", "/chat", {"Accept": content_type, **headers}, exchange.body())
        connection, response = self._response(exchange, request)
        if response.status_code == 200:
            if response.content_type != content_type:
                raise NotTheFormat(f"Content-Type {response.content_type} instead of {content_type}")
            self._pump(exchange, decoder, connection, response)
        self._done_with(connection, response)
        return response.status_code

    def _pump(self, exchange: Exchange, decoder: Decoder, connection: Connection, response: _Response) -> None:
        """Enter what comes until the response is complete. Raises ClientFailure."""
        ledger = exchange.ledger
        while True:
            try:
                if data := response.take():
                    ledger.add(decoder.feed(data), connection.read_ns)
            except ProtocolError as error:
                ledger.add(error.messages, connection.read_ns)
                raise NotTheFormat(str(error)) from error
            if response.message_complete:
                return
            if ledger.end is not None:
                connection.wait_at_most(LINGER_S)
            if not self._feed(connection, response):
                raise AnswerTruncated("the connection was closed within the response", "fin")

    def _whole(self, exchange: Exchange, request: _Request) -> tuple[bytes, int]:
        """Send a request and read its whole response; with it the stamp of the last read. Raises ClientFailure."""
        connection, response = self._response(exchange, request)
        answer = self._rest(connection, response)
        self._done_with(connection, response)
        return answer, connection.read_ns

    def _rest(self, connection: Connection, response: _Response) -> bytes:
        """The whole body. Raises ClientFailure."""
        parts, size = [response.take()], 0
        while not response.message_complete:
            if not self._feed(connection, response):
                raise AnswerTruncated("the connection was closed within the response", "fin")
            parts.append(response.take())
            size += len(parts[-1])
            if size > MAX_BODY_BYTES:
                raise NotTheFormat(f"a body of more than {MAX_BODY_BYTES} bytes")
        return b"".join(parts)

    def _response(self, exchange: Exchange, request: _Request) -> tuple[Connection, _Response]:
        """Send a request; its response, once the head is there and has one of `statuses`. Raises ClientFailure."""
        exchange.note_request()
        connection = self._connected()
        asked_ns = monotonic_ns()
        connection.send((self._head(request), request.body))
        response = _Response(request.method)
        while not response.headers_complete or response.status_code < 200:
            begun = response.message_begun
            if not self._feed(connection, response):
                raise AnswerTruncated("the connection was closed before the response", "fin")
            if not begun:
                self.note_response(asked_ns, connection.read_ns)
        if response.status_code not in request.statuses:
            raise self._refusal(connection, response)
        return connection, response

    def _connected(self) -> Connection:
        connection = self._connection
        if connection is None or not connection.is_idle():
            self.hang_up()
            self._connection = connection = Connection(self.host, self.port, self.meter, self.settings.silence_s)
        return connection

    def _head(self, request: _Request) -> bytes:
        fields = {**self.headers, **request.headers}
        if request.body:
            fields |= {"Content-Type": "application/json", "Content-Length": str(len(request.body))}
        if not self.settings.reuse:
            fields["Connection"] = "close"
        lines = [f"{request.method} {request.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _feed(self, connection: Connection, response: _Response) -> bool:
        """Read once; False at the end of the connection, unless that completes the response. Raises ClientFailure."""
        data = connection.read()
        try:
            response.feed(data)
        except HTTPParseError as error:
            if not data:
                return False
            raise NotTheFormat(str(error)) from error
        return bool(data) or response.message_complete

    def _refusal(self, connection: Connection, response: _Response) -> RequestRefused:
        body = self._rest(connection, response)
        told = decode_error(body)
        detail = f"{told.code}: {told.message}" if told is not None else body[:80].decode("utf-8", "replace")
        status = response.status_code
        self.hang_up()
        return RequestRefused(detail, f"status {status}", status, seconds(response.header("retry-after")))

    def _done_with(self, connection: Connection, response: _Response) -> None:
        """The response is complete: keep the connection, if both sides agree."""
        connection.wait_as_before()
        if response.should_close():
            self.hang_up()


class ChunkedClient(HttpUser):
    """JSON lines over one POST. Resumes by `from`."""

    def _attempt(self, exchange: Exchange) -> None:
        self._stream(exchange, chunked.Decoder(), chunked.CONTENT_TYPE, {})


class SseClient(HttpUser):
    """Server-Sent Events by POST, as a fetch-based client does. Resumes by `Last-Event-ID`."""

    def _attempt(self, exchange: Exchange) -> None:
        decoder = sse.Decoder()
        headers = {"Cache-Control": "no-store"}
        if exchange.last_event_id:
            headers["Last-Event-ID"] = exchange.last_event_id
            exchange.first = 0  # the id says it
        try:
            status = self._stream(exchange, decoder, sse.CONTENT_TYPE, headers)
        finally:
            exchange.last_event_id = decoder.last_event_id or exchange.last_event_id
            exchange.retry_s = (decoder.retry_ms or 0) / 1000 or exchange.retry_s
        if status == 204:  # everything was delivered before; only the end message had been missed
            schedule = exchange.question.schedule
            exchange.ledger.add([EndMessage(True, schedule.n, schedule.sha256)], monotonic_ns())


class PollingClient(HttpUser):
    """Asks, then fetches what has come: every `interval_s`, or at once if the server holds polls for `wait_s`."""

    def _attempt(self, exchange: Exchange) -> None:
        if not exchange.poll_path:
            exchange.poll_path = self._post(exchange)
        while exchange.ledger.end is None:
            started = monotonic()
            page = self._poll(exchange)
            exchange.first = page.next
            if page.end is None and not self._polls_at_once(page, started):
                gevent.sleep(max(0.0, started + self.settings.interval_s - monotonic()))

    def _post(self, exchange: Exchange) -> str:
        body, _ = self._whole(exchange, _Request((202,), "POST", "/chat", body=exchange.body()))
        try:
            path = polling.decode_accepted(body).poll
        except ProtocolError as error:
            raise NotTheFormat(str(error)) from error
        if not path.startswith("/") or path.startswith("//") or not path.isprintable() or " " in path:
            raise NotTheFormat(f"no path to poll: {path[:80]}")
        return path

    def _poll(self, exchange: Exchange) -> polling.Page:
        query = {"from": str(exchange.first)}
        if self.settings.wait_s > 0:
            query["wait"] = f"{self.settings.wait_s:g}"
        body, read_ns = self._whole(exchange, _Request((200,), "GET", f"{exchange.poll_path}?{urlencode(query)}"))
        try:
            page = polling.decode_page(body)
        except ProtocolError as error:
            raise NotTheFormat(str(error)) from error
        found: list[TokenMessage | EndMessage] = [*page.tokens]
        exchange.ledger.add(found if page.end is None else [*found, page.end], read_ns)
        return page

    def _polls_at_once(self, page: polling.Page, started: float) -> bool:
        """Long polling goes on at once, unless the server did not hold the poll: that would be a busy loop."""
        held = monotonic() - started >= 0.9 * self.settings.wait_s
        return self.settings.wait_s > 0 and (bool(page.tokens) or held)

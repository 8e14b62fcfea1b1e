"""What the transports over HTTP do alike: a request and its response, as scripts (pure; see clients.core.session)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from clients.core.carrier import Place
from clients.core.errors import ClientFailure, NetworkFault, NotTheFormat, RequestRefused, SilenceTimeout, refused
from clients.core.exchange import Exchange
from clients.core.http1 import HttpConnection, Request
from clients.core.ledger import Ledger
from clients.core.response import Response
from clients.core.session import Script, Session
from clients.core.unread import stop_reading
from servers.messages import AnswerFailed, EndMessage, ProtocolError, TokenMessage, decode_error
from servers.retry_after import retry_after_s

LINGER_NS = 2_000_000_000  # how long a response may stay open after the end message, before it is given up
_SWITCHING = 101  # where nobody asked for it, what follows is no body
_MAX_ERROR_BYTES = 65_536
# Browsers accept compressed answers; an intermediary that compresses must not be told apart by its client.
_ALWAYS = {"User-Agent": "tokenderby", "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}

A = TypeVar("A")


class StreamDecoder(Protocol):
    """A streaming wire format's decoder."""

    def feed(self, data: bytes) -> Sequence[TokenMessage | EndMessage]:
        """The messages that `data` completes."""


@dataclass
class Asked:
    """A request that has got a response's head: the connection, or its part of one, is the response's till `finish`."""

    connection: HttpConnection | Place
    response: Response


def respond(session: Session, exchange: Exchange, request: Request, statuses: tuple[int, ...]) -> Script[Asked]:
    """Send a request; its response, once the head is there and has one of `statuses`. Raises ClientFailure."""
    exchange.note_request(session.now_ns)
    asked = yield from send(session, request)
    asked_ns = session.now_ns  # a connection that had to be opened first has times of its own
    if "Upgrade" not in request.headers:
        exchange.note_asked(asked_ns)
    yield from _until(session, asked.response, lambda: asked.response.has_begun)
    exchange.record.response_ms.append((session.now_ns - asked_ns) / 1e6)
    yield from _until(session, asked.response, lambda: asked.response.has_head)
    exchange.note_answered(session.now_ns)
    if exchange.record.head_ms is None:
        exchange.record.head_ms = (session.now_ns - asked_ns) / 1e6
    if asked.response.status not in statuses:
        raise (yield from _refusal(session, asked))
    return asked


def send(session: Session, request: Request) -> Script[Asked]:
    """Send a request, over a new connection if the old one is not fit. Raises ClientFailure."""
    connection = session.connection
    if not isinstance(connection, HttpConnection | Place) or not connection.is_fit:
        pool = session.pool
        connection = yield from (session.open(HttpConnection()) if pool is None else pool.join(session))
    session.asks()
    return Asked(connection, connection.ask(session, request, _ALWAYS | session.headers))


def _until(session: Session, response: Response, is_there: Callable[[], bool]) -> Script[None]:
    while not is_there():
        if response.failure is not None:
            raise response.failure
        yield from session.wait_for_news()


def whole_body(session: Session, asked: Asked, limit_bytes: int) -> Script[bytes]:
    """The rest of the response; its connection may be used again. Raises ClientFailure."""
    response = asked.response
    parts, size = [response.take()], 0
    while True:
        size += len(parts[-1])
        if size > limit_bytes:
            raise NotTheFormat(f"a body of more than {limit_bytes} bytes")
        if response.is_complete:
            break
        if response.failure is not None:
            raise response.failure
        yield from session.wait_for_news()
        parts.append(response.take())
    done_with(session, asked)
    return b"".join(parts)


def ask_for(
    session: Session, exchange: Exchange, request: Request, status: int, decode: Callable[[bytes], A]
) -> Script[A]:
    """Send a request whose answer has this status; its whole body, decoded. Raises ClientFailure."""
    asked = yield from respond(session, exchange, request, (status,))
    body = yield from whole_body(session, asked, exchange.question.most_bytes)
    try:
        return decode(body)
    except ProtocolError as error:
        raise NotTheFormat(str(error)) from error


def done_with(session: Session, asked: Asked) -> None:
    """The response is complete: keep the connection, if both sides agree; who has said `close` asks no more."""
    asked.connection.finish()
    if not asked.connection.is_fit or not session.settings.reuse:
        session.hang_up()


def _refusal(session: Session, asked: Asked) -> Script[RequestRefused]:
    status, headers = asked.response.status, asked.response.headers
    wish_s = retry_after_s(headers.get("retry-after"), headers.get("date"))
    try:
        body = b"" if status == _SWITCHING else (yield from whole_body(session, asked, _MAX_ERROR_BYTES))
    except (NetworkFault, NotTheFormat, SilenceTimeout):
        body = b""  # cut, hanging, or somebody's page; its status says what it is
    if token := session.settings.auth_token:
        body = body.replace(token.encode(), b"(the token)")  # who repeats it must not bring it into our tables
    error = decode_error(body)
    detail = f"{error.code}: {error.message}" if error is not None else body[:80].decode("utf-8", "replace")
    return RequestRefused(detail, f"status {status}", status, wish_s, by_server=error is not None)


def stream(
    session: Session, exchange: Exchange, request: Request, decoder: StreamDecoder, content_type: str
) -> Script[int]:
    """Send a request and enter its response's messages as they come; the status: 200, or 204 without a body.

    Returns when the response is complete. Raises ClientFailure.
    """
    asked = yield from respond(session, exchange, request, (200, 204))
    response = asked.response
    if response.status == 200:
        if response.content_type != content_type:
            raise NotTheFormat(f"Content-Type {response.content_type} instead of {content_type}")
        yield from _enter(session, exchange, response, decoder)
    if response.is_complete:
        done_with(session, asked)
    else:
        session.hang_up()
    return response.status


def _enter(session: Session, exchange: Exchange, response: Response, decoder: StreamDecoder) -> Script[None]:
    ledger = exchange.ledger
    inflow = _Inflow(ledger, response, decoder)
    inflow.enter(b"", session.now_ns)  # what came with the head
    yield from stop_reading(session, exchange, inflow.enter)
    session.on_read = inflow.enter
    try:
        while not response.is_complete:
            failure = inflow.failure or response.failure
            if failure is not None:
                raise failure
            if ledger.end is None:
                yield from session.wait_for_news()
            elif session.now_ns < ledger.end_ns + LINGER_NS:
                yield ledger.end_ns + LINGER_NS
            else:
                return
        if inflow.failure is not None:
            raise inflow.failure
    finally:
        session.on_read = None


class _Inflow:
    """Each read of a streamed body, decoded and entered where it was made; true when the script has to look."""

    __slots__ = "_add", "_decode", "_ledger", "_read", "_response", "failure"

    def __init__(self, ledger: Ledger, response: Response, decoder: StreamDecoder) -> None:
        self.failure: ClientFailure | None = None
        self._ledger, self._response = ledger, response
        self._read, self._decode, self._add = response.read, decoder.feed, ledger.add

    def enter(self, data: bytes, read_ns: int) -> bool:
        """A read and its stamp."""
        response, ledger = self._response, self._ledger
        try:
            if body := self._read(data):
                self._add(self._decode(body), read_ns)
        except ProtocolError as error:
            ledger.add(error.messages, read_ns)
            told = error.error if isinstance(error, AnswerFailed) else None
            self.failure = refused(told.code, told.message) if told else NotTheFormat(str(error))
        except NotTheFormat as error:
            self.failure = error
        return (
            response.is_complete or response.failure is not None or ledger.end is not None or self.failure is not None
        )

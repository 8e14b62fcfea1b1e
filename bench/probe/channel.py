"""One connection to a deployment, and everything that was seen of it, stamped straight after each read.

The bytes are moved by clients.drivers.aio, HTTP and WebSocket are clients.core's. Here is only the watching: each read
with its time and size, when the head came, and how it ended.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self, cast
from urllib.parse import urlencode

from websockets.protocol import Protocol, Side

from bench.probe.deployment import Deployment
from bench.probe.finding import BLACK_HOLE, NO_CUT
from clients.core.errors import ClientFailure, NotTheFormat, refused
from clients.core.http1 import HttpConnection, Request
from clients.core.http_scripts import Asked
from clients.core.session import NEVER_NS, Script, Session
from clients.core.websocket_connection import WebSocketConnection
from clients.sockets import Meter
from servers.chunked import wire as chunked
from servers.messages import MAX_TOKENS, EndMessage, ProtocolError, TokenMessage, decode_error
from servers.sse import wire as sse
from servers.websocket.wire import decode as decode_frame

MAX_KEPT_BODY_BYTES = 65_536
MAX_KEPT_READS = 100_000
CONNECT_S = 10.0
_HEADERS = {"User-Agent": "tokenderby-probe", "Accept": "*/*", "Accept-Encoding": "identity"}

_SWITCHING = 101

Decode = Callable[[bytes], list[TokenMessage | EndMessage]]


class BytesRead(NamedTuple):
    """Bytes came: when, and how many (of TLS the plain ones)."""

    at_ns: int
    size_bytes: int


class Token(NamedTuple):
    """A token came: when here; when it was due and sent by the server's clock."""

    at_ns: int
    i: int
    due_ns: int
    sent_ns: int


@dataclass(frozen=True)
class Up:
    """What a client sends while an answer streams, every `every_s`.

    pong: a WebSocket pong that nobody asked for, which nobody answers (RFC 6455 §5.5.3): bytes up only
    ping: a WebSocket ping: a pong comes back
    message: a frame of a text message that is never finished
    body: the next byte of the request's own body, for which no server of ours waits at a GET
    """

    kind: Literal["pong", "ping", "message", "body"]
    every_s: float


@dataclass(frozen=True)
class Talk:
    """One chat request, and how long its answer is waited for.

    limit_s: from the request on; then the ending is `black_hole`
    """

    stream: Mapping[str, Any]
    limit_s: float
    up: Up | None = None
    method: str = "POST"
    path: str = "/chat"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Heard:
    """What came of a request. Times are CLOCK_MONOTONIC ns.

    ending: `none` where all came, else how it ended (bench.probe.finding.Seen)
    body: its first MAX_KEPT_BODY_BYTES, of an HTTP answer
    is_complete: whether the end message has come
    is_fit: whether the connection may be used again
    """

    opened_ns: int = 0
    asked_ns: int = 0
    head_ns: int | None = None
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    reads: list[BytesRead] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    ended_ns: int = 0
    ending: str = NO_CUT
    detail: str = ""
    is_complete: bool = False
    is_fit: bool = False

    @property
    def last_read_ns(self) -> int:
        """Of the last byte that came; of the request if none did."""
        return self.reads[-1].at_ns if self.reads else self.asked_ns


class _Watch:
    """Mixed into a protocol's connection: tells what comes, and how it ends, to whoever has asked last."""

    def watch(self, session: Session) -> Self:
        """Begin to watch."""
        self.session = session
        self.heard: Heard | None = None
        self.ending, self.ended_ns = "", 0
        return self

    def receive(self, data: bytes) -> None:
        """Bytes have come (clients.core.session.Connection)."""
        heard = self.heard
        if heard is not None and len(heard.reads) < MAX_KEPT_READS:
            heard.reads.append(BytesRead(self.session.now_ns, len(data)))
        super().receive(data)  # type: ignore[misc]

    def end(self, failure: ClientFailure | None) -> None:
        """The connection has ended (clients.core.session.Connection)."""
        if not self.ending:
            self.ending, self.ended_ns = "fin" if failure is None else failure.how, self.session.now_ns
        super().end(failure)  # type: ignore[misc]


class _Http(_Watch, HttpConnection):
    pass


class _WebSocket(_Watch, WebSocketConnection):
    is_fit = True  # but not while an answer is still to come, which would be taken for that to the next request


class Channel:
    """A connection, opened by the first request and closed at the end of its context. One request at a time.

    It waits where too many are open, if it `needs_slot`.
    """

    def __init__(
        self,
        deployment: Deployment,
        transport: str,
        tcp_keepalive_s: float | None = None,
        *,
        needs_slot: bool = True,
    ) -> None:
        self.transport = transport
        self._slot = deployment.slots if needs_slot else nullcontext()
        self._client = deployment.client(transport)
        self._client.sockets = self._client.meter = _Keepalive(tcp_keepalive_s)
        self._session = self._client.session
        self.opened_ns = 0

    async def __aenter__(self) -> Self:
        await self._slot.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._client.run(_hang_up(self._session))
        finally:
            await self._slot.__aexit__(None, None, None)

    @property
    def connection(self) -> _Http | _WebSocket | None:
        """The open connection, also when it has ended; None before the first request."""
        connection = self._session.connection
        return connection if isinstance(connection, _Http | _WebSocket) else None

    async def ask(self, request: Request, limit_s: float) -> Heard:
        """One HTTP exchange, over the connection if it is fit, else over a new one."""
        heard = Heard()
        await self._run(self._exchange(heard, request, limit_s), heard)
        return heard

    async def talk(self, talk: Talk) -> Heard:
        """One chat request and its answer; polling's POST alone."""
        heard = Heard()
        conversation = self._frames if self.transport == "websocket" else self._response
        await self._run(conversation(heard, talk), heard)
        return heard

    async def wait_for_end(self, limit_s: float) -> str:
        """Do nothing until the connection ends; how it did (`connection.ended_ns` has when), "" if it stays open."""
        connection = self.connection
        if connection is not None and not connection.ending:
            await self._client.run(_until_ended(self._session, connection, limit_s))
        return connection.ending if connection is not None else ""

    async def poke(self, limit_s: float) -> str:
        """Send what nobody answers over a connection that looks open, and wait for its end; "" if there is none."""
        connection = self.connection
        if connection is not None and not connection.ending:
            data = _frame("pong", Protocol(Side.CLIENT)) if isinstance(connection, _WebSocket) else b"\r\n"
            await self._client.run(_send(self._session, data))
        return await self.wait_for_end(limit_s)

    async def _run(self, script: Script[None], heard: Heard) -> None:
        try:
            await self._client.run(script)
        except ClientFailure as failure:
            heard.ending, heard.detail = failure.how, str(failure)
        heard.opened_ns, heard.ended_ns = self.opened_ns, self._session.now_ns
        if self.connection is not None:
            self.connection.heard = None

    # Scripts (clients.core.session).

    def _open(self) -> Script[_Http]:
        connection = self.connection
        if isinstance(connection, _Http) and connection.is_fit:
            return connection
        session = self._session
        session.limit(session.now_ns + round(CONNECT_S * 1e9), CONNECT_S)
        opened = yield from session.open(_Http().watch(session))
        session.no_limit()
        self.opened_ns = session.now_ns
        return opened

    def _send_request(self, heard: Heard, request: Request) -> Script[Asked]:
        connection = yield from self._open()
        session = self._session
        response = connection.begin()
        connection.heard, heard.asked_ns = heard, session.now_ns
        session.send(request.encode(session.endpoint, _HEADERS | session.headers))
        return Asked(connection, response)

    def _exchange(self, heard: Heard, request: Request, limit_s: float) -> Script[None]:
        asked = yield from self._send_request(heard, request)
        yield from self._follow(heard, asked, limit_s)

    def _response(self, heard: Heard, talk: Talk) -> Script[None]:
        asked = yield from self._send_request(heard, _chat(talk))
        up = _Sender(talk.up, self._session)
        yield from self._follow(heard, asked, talk.limit_s, decode=_decoder(self.transport), up=up)

    def _follow(
        self,
        heard: Heard,
        asked: Asked,
        limit_s: float,
        *,
        decode: Decode | None = None,
        up: _Sender | None = None,
    ) -> Script[None]:
        session, response, connection = self._session, asked.response, cast(_Http, asked.connection)
        until_ns = heard.asked_ns + round(limit_s * 1e9)
        try:
            while True:
                _note(heard, session, asked, decode)
                if response.is_complete:
                    heard.ending = _complete_or_status(heard, decode)
                    return
                if response.failure is not None:
                    raise response.failure
                if session.now_ns >= until_ns:
                    heard.ending = BLACK_HOLE
                    return
                yield min(until_ns, up.send_due() if up else NEVER_NS)
        finally:
            connection.finish()  # without the whole answer it is not fit for another
            heard.is_fit = connection.is_fit and not connection.ending

    def _frames(self, heard: Heard, talk: Talk) -> Script[None]:
        session, connection = self._session, self.connection
        if not isinstance(connection, _WebSocket) or connection.ending or not connection.is_fit:
            yield from self._upgrade(heard, talk)
            connection = cast(_WebSocket, self.connection)
            if heard.status != _SWITCHING:
                return
            if connection.failure is not None:  # the close has come with the head
                raise connection.failure
        connection.heard, heard.asked_ns, connection.is_fit, heard.is_fit = heard, session.now_ns, False, False
        connection.send(_chat(talk, is_frame=True).body)
        until_ns, up = heard.asked_ns + round(talk.limit_s * 1e9), _Sender(talk.up, session)
        while not _take_frames(heard, session, connection):
            if connection.failure is not None:
                raise connection.failure
            if session.now_ns >= until_ns:
                heard.ending = BLACK_HOLE
                return
            yield min(until_ns, up.send_due())
        connection.is_fit = heard.is_fit = connection.failure is None

    def _upgrade(self, heard: Heard, talk: Talk) -> Script[None]:
        """Open a WebSocket; a refusal is in `heard`."""
        connection = _WebSocket(self._session.endpoint, talk.path).watch(self._session)
        request = connection.upgrade()
        request = Request(request.method, request.path, {**talk.headers, **request.headers})
        asked = yield from self._send_request(heard, request)
        yield from self._follow(heard, asked, talk.limit_s)
        if heard.status == _SWITCHING:
            heard.ending = NO_CUT
            connection.begin(asked.response)
            self._session.connection = connection


class _Keepalive(Meter):
    """Also asks the kernel for TCP keepalive probes, where somebody wants to know whether they help."""

    def __init__(self, every_s: float | None) -> None:
        super().__init__()
        self._every_s = every_s

    def opened(self, transport: asyncio.BaseTransport) -> None:
        """A connection was made."""
        super().opened(transport)
        if self._every_s is None:
            return
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        seconds = max(1, round(self._every_s))  # whole ones are all that it takes
        idle = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)  # the second: macOS
        assert idle is not None
        raw.setsockopt(socket.IPPROTO_TCP, idle, seconds)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, seconds)


class _Sender:
    """Sends what a client sends while an answer streams, whenever it is due."""

    def __init__(self, up: Up | None, session: Session) -> None:
        self._up, self._session = up, session
        self._due_ns = NEVER_NS if up is None else session.now_ns + round(up.every_s * 1e9)
        self._frames = Protocol(Side.CLIENT)
        self._is_first = True

    def send_due(self) -> int:
        """Send it, if it is due; when the next is."""
        if self._up is not None and self._session.now_ns >= self._due_ns:
            self._session.send(self._bytes(self._up.kind))
            self._is_first = False
            self._due_ns += round(self._up.every_s * 1e9)
        return self._due_ns

    def _bytes(self, kind: str) -> bytes:
        if kind == "body":
            return b"1\r\n \r\n"  # a chunk (RFC 9112 §7.1)
        return _frame(kind, self._frames, is_first=self._is_first)


def _frame(kind: str, sender: Protocol, *, is_first: bool = True) -> bytes:
    """An empty ping or pong, or a part of a message that never ends."""
    if kind == "ping":
        sender.send_ping(b"")
    elif kind == "pong":
        sender.send_pong(b"")
    else:
        (sender.send_text if is_first else sender.send_continuation)(b" ", fin=False)
    return b"".join(sender.data_to_send())


def _chat(talk: Talk, *, is_frame: bool = False) -> Request:
    """The chat request: by GET in the query, as EventSource asks, else in a body, which may be a WebSocket's frame."""
    fields = {"message": "probe", "stream": talk.stream}
    headers = dict(talk.headers)
    if talk.method == "GET" and not is_frame:
        query = urlencode({"message": "probe", "stream": json.dumps(talk.stream)})
        if talk.up is not None:
            headers["Transfer-Encoding"] = "chunked"
        return Request("GET", f"{talk.path}?{query}", headers)
    return Request(talk.method, talk.path, headers, json.dumps(fields).encode())


def _decoder(transport: str) -> Decode | None:
    """What reads the tokens of a streamed body; None where it does not stream."""
    if transport == "sse":
        return sse.Decoder().feed
    return chunked.Decoder().feed if transport == "chunked" else None


def _note(heard: Heard, session: Session, asked: Asked, decode: Decode | None) -> None:
    """Enter what has come since the last time. Raises NotTheFormat."""
    response = asked.response
    if response.has_head and heard.head_ns is None:
        heard.head_ns, heard.status, heard.headers = session.now_ns, response.status, response.headers
    data = response.take()
    heard.body += data[: MAX_KEPT_BODY_BYTES - len(heard.body)]
    if data and decode is not None and heard.status == 200:
        try:
            found = decode(data)
        except ProtocolError as error:
            raise NotTheFormat(str(error)) from None
        _enter(heard, session.now_ns, found)


def _enter(heard: Heard, now_ns: int, found: Iterable[TokenMessage | EndMessage]) -> bool:
    """Enter tokens; whether the end message is among them. Raises NotTheFormat for more than an answer may have."""
    for message in found:
        if isinstance(message, EndMessage):
            heard.is_complete = True
        elif len(heard.tokens) == MAX_TOKENS:
            raise NotTheFormat(f"more than {MAX_TOKENS} tokens in one answer")
        else:
            heard.tokens.append(Token(now_ns, message.i, message.due, message.sent))
    return heard.is_complete


def _take_frames(heard: Heard, session: Session, connection: _WebSocket) -> bool:
    """Enter the messages that have come; whether the end message is among them. Raises NotTheFormat, RequestRefused."""
    for frame in connection.take():
        try:
            _enter(heard, session.now_ns, [decode_frame(bytes(frame))])
        except ProtocolError as error:
            told = decode_error(bytes(frame))
            raise (NotTheFormat(str(error)) if told is None else refused(told.code, told.message)) from None
    return heard.is_complete


def _complete_or_status(heard: Heard, decode: Decode | None) -> str:
    """The ending of a response that is complete."""
    if heard.status >= 400:
        return f"status {heard.status}"
    return "end" if decode is not None and not heard.is_complete else NO_CUT


def _until_ended(session: Session, connection: _Http | _WebSocket, limit_s: float) -> Script[None]:
    until_ns = session.now_ns + round(limit_s * 1e9)
    while not connection.ending and session.now_ns < until_ns:
        yield until_ns


def _send(session: Session, data: bytes) -> Script[None]:
    session.send(data)
    yield from ()


def _hang_up(session: Session) -> Script[None]:
    session.hang_up()
    yield from ()

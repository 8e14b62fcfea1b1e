"""A transport's own client in place of an independent one; and as an ear for bytes, fed by hand without a driver."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from support.feeding import schedule_of
from support.independent import TIMEOUT_S, Answer

from clients.core.errors import ClientFailure
from clients.core.exchange import Exchange, Question
from clients.core.message_script import attempt_of
from clients.core.record import StreamRecord
from clients.core.recovery import Policy
from clients.core.session import Action, Session
from clients.core.settings import ClientSettings
from clients.drivers.aio import AioClient

_MOST_TOKENS = 1000  # of an answer whose bytes are listened to
_POLL_S = 0.02


@dataclass
class Told(Exchange):
    """An exchange that asks exactly what a test says."""

    told: dict[str, Any] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """The chat request."""
        return self.told

    @classmethod
    def of(cls, body: dict[str, Any], now_ns: int) -> Told:
        """Ask `body`, whatever the answer."""
        asked = Question(str(body.get("stream_id", "")), 0, None, schedule_of(*[""] * _MOST_TOKENS), now_ns)
        exchange = cast(Told, cls.begin(asked, Policy("none"), now_ns))
        exchange.told, exchange.first = body, body.get("from", 0)
        return exchange


def ask(transport: str, url: str, body: dict[str, Any]) -> Answer:
    """What the client got, complete or not. Raises AssertionError where it failed."""
    exchange = Told.of(body, time.monotonic_ns())

    async def attempt() -> None:
        client = AioClient(transport, ClientSettings(url, interval_s=_POLL_S, silence_s=TIMEOUT_S))
        try:
            await client.run(attempt_of(transport)(client.session, exchange))
        finally:
            await client.close()

    try:
        asyncio.run(attempt())
    except ClientFailure as failure:
        raise AssertionError(f"{type(failure).__name__}: {failure}") from failure
    end = exchange.ledger.end
    tokens = [{"i": token.i, "t": token.t, "due": token.due, "sent": token.sent} for token in exchange.ledger.tokens]
    last = None if end is None else {"done": True, "n": end.n, "sha256": end.sha256}
    return Answer(tokens, last, body.get("stream_id"))


def _converse(transport: str, body: dict[str, Any], send: Callable[[bytes], None], reads: Iterator[bytes]) -> Exchange:
    """Let the client ask and feed it, until it is content, or there is no more. Its clock counts the bytes."""
    session, exchange, came = Session(ClientSettings("http://127.0.0.1:1", interval_s=0)), Told.of(body, 0), 0
    session.begin(attempt_of(transport)(session, exchange), 0)
    while session.is_busy:
        actions, session.actions = session.actions, []
        for action in actions:
            if action is Action.CONNECT:
                session.connected(came, 0, 0)
            elif isinstance(action, bytes):
                send(action)
        if session.actions or not session.is_busy:
            continue
        if not (data := next(reads, b"")):
            session.ended(None, came)
            break
        came += len(data)
        session.received(data, came)
    return exchange


def hear(transport: str, data: bytes) -> StreamRecord:
    """What the client makes of a server's bytes, as they come one by one; a stamp is the number of bytes until then."""
    exchange = _converse(transport, {}, lambda _: None, (data[k : k + 1] for k in range(len(data))))
    return exchange.settle(None)


def responses(transport: str, peer: socket.socket, body: dict[str, Any]) -> tuple[bytes, ...]:
    """What a real server sends to the client's requests, response by response."""
    came: list[bytes] = []

    def send(request: bytes) -> None:
        came.append(b"")
        peer.sendall(request)

    def reads() -> Iterator[bytes]:
        while data := peer.recv(65_536):
            came[-1] += data
            yield data

    _converse(transport, body, send, reads())
    return tuple(came)

"""The blocking client: one POST, and the whole answer at once."""

from __future__ import annotations

from clients.core.errors import NotTheFormat
from clients.core.exchange import Exchange
from clients.core.http1 import Request
from clients.core.http_scripts import respond, whole_body
from clients.core.session import Script, Session
from servers.blocking import wire
from servers.messages import ProtocolError


def attempt(session: Session, exchange: Exchange) -> Script[None]:
    """Cannot resume within an answer: it has all of it or nothing."""
    exchange.first = 0
    asked = yield from respond(session, exchange, Request("POST", "/chat", body=exchange.body()), (200,))
    body = yield from whole_body(session, asked)
    try:
        answer = wire.decode_answer(body)
    except ProtocolError as error:
        raise NotTheFormat(str(error)) from error
    exchange.ledger.add([*answer.tokens, answer.end], session.now_ns)

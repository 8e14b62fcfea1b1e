"""The blocking client: one POST, and the whole answer at once."""

from __future__ import annotations

from clients.core.exchange import Exchange
from clients.core.http1 import Request
from clients.core.http_scripts import ask_for
from clients.core.session import Script, Session
from servers.blocking import wire


def attempt(session: Session, exchange: Exchange) -> Script[None]:
    """Cannot resume within an answer: it has all of it or nothing."""
    exchange.first = 0
    request = Request("POST", "/chat", body=exchange.body())
    answer = yield from ask_for(session, exchange, request, 200, wire.decode_answer)
    exchange.ledger.add([*answer.tokens, answer.end], session.now_ns)

"""A message from its first request to its record, with recovery: the script that every transport shares (pure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import cast

from clients.core.errors import AnswerTruncated, ClientFailure, OwnFault
from clients.core.exchange import Exchange, Question
from clients.core.http1 import Request
from clients.core.http_scripts import send, whole_body
from clients.core.record import StreamRecord
from clients.core.session import Script, Session, SetupTimes

MAX_SMALL_BODY_BYTES = 1 << 20
Attempt = Callable[[Session, Exchange], Script[None]]
"""One try at a message: ask from `exchange.first` on and enter all that comes, until the end message has come.

Raises ClientFailure.
"""


@cache
def attempt_of(transport: str) -> Attempt:
    """What `transport` does; the module `clients.<transport>` names it `attempt`."""
    return cast(Attempt, import_module(f"clients.{transport}").attempt)


def ask(session: Session, transport: str, question: Question) -> Script[StreamRecord]:
    """Send one message and see what becomes of its answer. Never raises for what a server or the network does.

    It begins with `transport`; `session.settings.others` are what recovery `fallback` may go over to.
    """
    session.setup = setup = SetupTimes()
    urls = {transport: session.settings.url, **session.settings.others}
    exchange = Exchange.begin(question, session.settings.policy, session.now_ns, [*urls])
    session.token_ns = lambda: exchange.ledger.token_ns
    session.limit(question.intended_start_ns + round(question.timeout_s * 1e9), question.timeout_s)
    failure: ClientFailure | None = None
    try:
        yield from _complete(session, urls, exchange)
    except ClientFailure as error:
        failure = error
    except Exception as error:
        failure = OwnFault(error)
    session.no_limit()
    if failure is not None:
        session.hang_up()
    elif not session.settings.reuse:
        yield from session.farewell()
    record = exchange.settle(failure)
    record.connections = setup.connections
    record.dns_ms, record.tcp_ms, record.tls_ms = setup.dns_ns / 1e6, setup.tcp_ns / 1e6, setup.tls_ns / 1e6
    return record


def _complete(session: Session, urls: Mapping[str, str], exchange: Exchange) -> Script[None]:
    """Try until the end message has come, as the recovery policy allows. Raises the last ClientFailure."""
    while True:
        exchange.begin_attempt(session.now_ns)
        if len(urls) > 1:
            session.go_to(urls[exchange.turns.current])
        try:
            yield from attempt_of(exchange.turns.current)(session, exchange)
            if exchange.ledger.end is None:
                raise AnswerTruncated("the response is complete, but has no end message", "end")
            return
        except ClientFailure as failure:
            session.hang_up()
            if exchange.ledger.end is not None:
                return  # complete all the same; the fault came after the end message
            delay_s = exchange.end_attempt(failure, session.now_ns)
        yield from session.sleep(session.now_ns + round(delay_s * 1e9))
        exchange.try_again()


def fetch(session: Session, path: str, timeout_s: float) -> Script[tuple[int, bytes]]:
    """A small answer to a GET: its status and its body. Raises ClientFailure."""
    session.limit(session.now_ns + round(timeout_s * 1e9), timeout_s)
    try:
        asked = yield from send(session, Request("GET", path))
        body = yield from whole_body(session, asked, MAX_SMALL_BODY_BYTES)
    except ClientFailure:
        session.hang_up()
        raise
    finally:
        session.no_limit()
    return asked.response.status, body

"""A reader that stops reading: a page whose tab sleeps, a client that is busy, a consumer that has hung (pure).

The kernel takes what comes until its buffers are full, then the server's, then the server has to wait or to give up.
"""

from __future__ import annotations

from collections.abc import Callable

from clients.core.exchange import Exchange
from clients.core.session import Script, Session


def stop_reading(session: Session, exchange: Exchange, inflow: Callable[[bytes, int], bool]) -> Script[None]:
    """Where the cell says so, read up to the answer's first token and then nothing for `unread_s`; once a message.

    `inflow` enters each read, and says whether the script has to look at what became of it.
    """
    if not session.settings.unread_s or exchange.has_paused:
        return
    while not exchange.ledger.tokens:
        yield from session.wait_for_news()
        if inflow(b"", session.now_ns):
            return
    exchange.has_paused = True
    yield from session.read_nothing(session.settings.unread_s)

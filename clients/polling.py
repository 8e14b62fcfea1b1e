"""The polling client: asks, then fetches what has come, again and again."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from clients.core.errors import NotTheFormat
from clients.core.exchange import Exchange
from clients.core.http1 import Request
from clients.core.http_scripts import ask_for
from clients.core.session import Script, Session
from servers.messages import EndMessage, TokenMessage
from servers.polling import wire

_PATH = re.compile(r"/(?!/)[!-~]*")
_MAX_PATH_CHARS = 8000  # what any server takes (RFC 9110 §4.1)


def attempt(session: Session, exchange: Exchange) -> Script[None]:
    """Polls at once when the question was accepted, then `interval_s` after the start of the poll before.

    With `wait_s` (long polling) the server holds a poll until there is something new, and the next follows at once.
    """
    if not exchange.poll_path:
        exchange.poll_path = yield from _post(session, exchange)
    interval_ns = round(session.settings.interval_s * 1e9)
    while exchange.ledger.end is None:
        began_ns = session.now_ns
        page = yield from _poll(session, exchange)
        exchange.first = page.next
        if page.end is None and not _polls_at_once(session, page, began_ns):
            yield from session.sleep(began_ns + interval_ns)


def _post(session: Session, exchange: Exchange) -> Script[str]:
    request = Request("POST", "/chat", body=exchange.body())
    path = (yield from ask_for(session, exchange, request, 202, wire.decode_accepted)).poll
    # It goes into a request line, with every poll: no other host, no space, nothing that ends the line.
    if not _PATH.fullmatch(path) or len(path) > _MAX_PATH_CHARS:
        raise NotTheFormat(f"no path to poll: {path[:80]!r}")
    return path


def _poll(session: Session, exchange: Exchange) -> Script[wire.Page]:
    query = {"from": str(exchange.first)}
    if session.settings.wait_s > 0:
        query["wait"] = f"{session.settings.wait_s:g}"
    request = Request("GET", f"{exchange.poll_path}?{urlencode(query)}")
    page = yield from ask_for(session, exchange, request, 200, wire.decode_page)
    found: list[TokenMessage | EndMessage] = [*page.tokens]
    exchange.ledger.add(found if page.end is None else [*found, page.end], session.now_ns)
    return page


def _polls_at_once(session: Session, page: wire.Page, began_ns: int) -> bool:
    """Long polling goes on at once, unless the server did not hold the poll: that would be a busy loop."""
    wait_s = session.settings.wait_s
    return wait_s > 0 and (bool(page.tokens) or session.now_ns - began_ns >= 0.9e9 * wait_s)

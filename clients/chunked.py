"""The chunked client: JSON lines over one POST."""

from __future__ import annotations

from clients.core.exchange import Exchange
from clients.core.http1 import Request
from clients.core.http_scripts import stream
from clients.core.session import Script, Session
from servers.chunked.wire import CONTENT_TYPE, Decoder


def attempt(session: Session, exchange: Exchange) -> Script[None]:
    """Resumes by `from`."""
    request = Request("POST", "/chat", {"Accept": CONTENT_TYPE}, exchange.body())
    yield from stream(session, exchange, request, Decoder(), CONTENT_TYPE)

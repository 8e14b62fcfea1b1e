"""The SSE client: by POST as a fetch-based client does, or by GET as a browser's EventSource does."""

from __future__ import annotations

import json
from urllib.parse import urlencode

from clients.core.exchange import Exchange
from clients.core.http1 import Request
from clients.core.http_scripts import stream
from clients.core.session import Script, Session
from servers.messages import EndMessage
from servers.sse import dialects
from servers.sse.wire import CONTENT_TYPE, Decoder


def attempt(session: Session, exchange: Exchange) -> Script[None]:
    """Resumes by `Last-Event-ID`, or in a dialect by `from`."""
    dialect = session.settings.dialect
    decoder = dialects.DialectDecoder(dialect, exchange.ledger.text_before(exchange.first)) if dialect else Decoder()
    request = _request(session.settings.method, exchange, dialect)
    try:
        status = yield from stream(session, exchange, request, decoder, CONTENT_TYPE)
    finally:
        exchange.last_event_id = decoder.last_event_id or exchange.last_event_id
        exchange.retry_s = (decoder.retry_ms or 0) / 1000 or exchange.retry_s
    if status == 204:  # everything was delivered before; only the end message had been missed
        question = exchange.question
        # Of a source's answer the 204 says alone that nothing is left; the text is then what came.
        schedule = exchange.ledger.came() if question.is_told else question.schedule
        exchange.ledger.add([EndMessage(True, schedule.n, schedule.sha256)], session.now_ns)


def _request(method: str, exchange: Exchange, dialect: str) -> Request:
    headers = {"Accept": CONTENT_TYPE, "Cache-Control": "no-store"}
    if exchange.last_event_id:
        headers["Last-Event-ID"] = exchange.last_event_id
        exchange.first = 0  # the id says it
    if method == "post":
        return Request("POST", f"/chat?dialect={dialect}" if dialect else "/chat", headers, exchange.body())
    asked = exchange.fields() | ({"dialect": dialect} if dialect else {})
    fields = {k: v if isinstance(v, str) else json.dumps(v) for k, v in asked.items()}
    return Request("GET", f"/chat?{urlencode(fields)}", headers)

"""The SSE client: by POST as a fetch-based client does, or by GET as a browser's EventSource does."""

from __future__ import annotations

import json

from clients.exchange import Exchange
from clients.http import HttpClient
from servers.messages import EndMessage
from servers.sse.wire import CONTENT_TYPE, Decoder


class SseClient(HttpClient):
    """Resumes by `Last-Event-ID`."""

    async def _attempt(self, exchange: Exchange) -> None:
        decoder = Decoder()
        headers = {"Accept": CONTENT_TYPE, "Cache-Control": "no-store"}
        if exchange.last_event_id:
            headers["Last-Event-ID"] = exchange.last_event_id
            exchange.first = 0  # the id says it
        try:
            if self.settings.method == "get":
                status = await self._stream(
                    exchange, decoder, CONTENT_TYPE, "GET", headers=headers, params=_query(exchange.fields())
                )
            else:
                headers["Content-Type"] = "application/json"
                status = await self._stream(exchange, decoder, CONTENT_TYPE, headers=headers, data=exchange.body())
        finally:
            exchange.last_event_id = decoder.last_event_id or exchange.last_event_id
            exchange.retry_s = (decoder.retry_ms or 0) / 1000 or exchange.retry_s
        if status == 204:  # everything was delivered before; only the end message had been missed
            schedule = exchange.question.schedule
            exchange.ledger.add([EndMessage(True, schedule.n, schedule.sha256)], self.last_read_ns())


def _query(fields: dict[str, object]) -> dict[str, str]:
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in fields.items()}


CLIENT = SseClient

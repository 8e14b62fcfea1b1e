"""The chunked client: JSON lines over one POST."""

from __future__ import annotations

from clients.exchange import Exchange
from clients.http import HttpClient
from servers.chunked.wire import CONTENT_TYPE, Decoder


class ChunkedClient(HttpClient):
    """Resumes by `from`."""

    async def _attempt(self, exchange: Exchange) -> None:
        headers = {"Accept": CONTENT_TYPE, "Content-Type": "application/json"}
        await self._stream(exchange, Decoder(), CONTENT_TYPE, headers=headers, data=exchange.body())


CLIENT = ChunkedClient

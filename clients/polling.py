"""The polling client: asks, then fetches what has come, again and again."""

from __future__ import annotations

import asyncio
import time

from clients.errors import NotTheFormat
from clients.exchange import Exchange
from clients.http import HttpClient
from servers.messages import EndMessage, ProtocolError, TokenMessage
from servers.polling import wire


class PollingClient(HttpClient):
    """Polls at once when the question was accepted, then `interval_s` after the start of the poll before.

    With `wait_s` (long polling) the server holds a poll until there is something new, and the next follows at once.
    """

    async def _attempt(self, exchange: Exchange) -> None:
        if not exchange.poll_path:
            exchange.poll_path = await self._post(exchange)
        while exchange.ledger.end is None:
            started = time.monotonic()
            page = await self._poll(exchange)
            exchange.first = page.next
            if page.end is None and not self._polls_at_once(page, started):
                await asyncio.sleep(started + self.settings.interval_s - time.monotonic())

    async def _post(self, exchange: Exchange) -> str:
        headers = {"Content-Type": "application/json"}
        body, _ = await self._body(exchange, 202, "POST", "/chat", headers=headers, data=exchange.body())
        try:
            path = wire.decode_accepted(body).poll
        except ProtocolError as error:
            raise NotTheFormat(str(error)) from error
        if not path.startswith("/") or path.startswith("//"):
            raise NotTheFormat(f"no path to poll: {path[:80]}")
        return path

    async def _poll(self, exchange: Exchange) -> wire.Page:
        query = {"from": str(exchange.first)}
        if self.settings.wait_s > 0:
            query["wait"] = f"{self.settings.wait_s:g}"
        body, read_ns = await self._body(exchange, 200, "GET", exchange.poll_path, params=query)
        try:
            page = wire.decode_page(body)
        except ProtocolError as error:
            raise NotTheFormat(str(error)) from error
        found: list[TokenMessage | EndMessage] = [*page.tokens]
        exchange.ledger.add(found if page.end is None else [*found, page.end], read_ns)
        return page

    def _polls_at_once(self, page: wire.Page, started: float) -> bool:
        """Long polling goes on at once, unless the server did not hold the poll: that would be a busy loop."""
        held = time.monotonic() - started >= 0.9 * self.settings.wait_s
        return self.settings.wait_s > 0 and (bool(page.tokens) or held)


CLIENT = PollingClient

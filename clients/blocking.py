"""The blocking client: one POST, and the whole answer at once."""

from __future__ import annotations

from clients.errors import NotTheFormat
from clients.exchange import Exchange
from clients.http import HttpClient
from servers.blocking import wire
from servers.messages import ProtocolError


class BlockingClient(HttpClient):
    """Cannot resume within an answer: it has all of it or nothing."""

    async def _attempt(self, exchange: Exchange) -> None:
        exchange.first = 0
        headers = {"Content-Type": "application/json"}
        body, read_ns = await self._body(exchange, 200, "POST", "/chat", headers=headers, data=exchange.body())
        try:
            answer = wire.decode_answer(body)
        except ProtocolError as error:
            raise NotTheFormat(str(error)) from error
        exchange.ledger.add([*answer.tokens, answer.end], read_ns)


CLIENT = BlockingClient

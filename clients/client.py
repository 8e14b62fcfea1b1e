"""A virtual user: it holds its connection and asks one question at a time; what it saw becomes a StreamRecord.

A transport's client is a subclass with `_attempt`, one try at a message, and `_hang_up`. Here is what all of them do
alike: limits, recovery, accounting.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, cast
from urllib.parse import urlsplit

from clients.errors import AnswerTruncated, ClientFailure, MessageTimeout, OwnFault
from clients.exchange import Exchange, Question
from clients.record import StreamRecord
from clients.recovery import Policy
from clients.sockets import Meter


@dataclass(frozen=True)
class Settings:
    """How a client behaves; the words of a cell's variant, each with its default.

    `interval_s`: from the start of one poll to the start of the next. `wait_s`: how long a poll may be held (0: not
    at all). `reuse`: keep the connection for the next message. `method`: how SSE asks, `post` as fetch does, or `get`
    as EventSource does. `silence_s`: give a connection up when nothing came for so long (None: never).
    """

    url: str
    auth_token: str | None = None
    recovery: Policy = field(default_factory=Policy)
    silence_s: float | None = None
    reuse: bool = True
    interval_s: float = 1.0
    wait_s: float = 0.0
    method: str = "post"

    @classmethod
    def of_variant(cls, variant: Mapping[str, object], **given: Any) -> Settings:
        """Settings from a cell's variant; words for the server or for nobody (`heartbeat`, `copy`) are passed over.

        Raises ValueError, which names the word and what it takes.
        """
        if "interval" in variant:
            given["interval_s"] = _seconds(variant, "interval")
        if "wait" in variant:
            given["wait_s"] = _seconds(variant, "wait")
        if "reuse" in variant:
            given["reuse"] = _choice(variant, "reuse", {"on": True, "off": False, "true": True, "false": False})
        if "method" in variant:
            given["method"] = _choice(variant, "method", {"post": "post", "get": "get"})
        return cls(**given)


def _seconds(variant: Mapping[str, object], word: str) -> float:
    value = variant[word]
    try:
        seconds = float(cast(str, value))
    except (TypeError, ValueError):
        seconds = -1.0
    if isinstance(value, bool) or not 0 <= seconds <= 3600:
        raise ValueError(f"{word}: takes seconds from 0 to 3600, not {value!r}")
    return seconds


def _choice(variant: Mapping[str, object], word: str, choices: dict[str, Any]) -> Any:
    value = str(variant[word]).lower()
    if value not in choices:
        raise ValueError(f"{word}: takes one of {', '.join(choices)}, not {variant[word]!r}")
    return choices[value]


class Client(ABC):
    """One user of one transport. `ask` never raises for what a server or the network does; that is in the record."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.meter = Meter()
        address = urlsplit(settings.url)
        self.host, self.port = address.hostname or "127.0.0.1", address.port or 80
        self.headers = {"Authorization": f"Bearer {settings.auth_token}"} if settings.auth_token else {}

    @abstractmethod
    async def _attempt(self, exchange: Exchange) -> None:
        """Ask from `exchange.first` on, and enter all that comes; returns when the end message has come.

        Raises ClientFailure.
        """

    @abstractmethod
    async def _hang_up(self, *, orderly: bool) -> None:
        """Close the connection, if one is open: with the transport's own farewell if `orderly`, else at once."""

    async def close(self) -> None:
        """Close what is open."""
        await self._hang_up(orderly=True)

    async def ask(self, question: Question) -> StreamRecord:
        """Send one message and see what becomes of its answer."""
        before, connections = self.meter.read(), self.meter.connections
        exchange = Exchange.begin(question, self.settings.recovery, time.monotonic_ns())
        failure = await self._failure_of(exchange)
        if failure is not None or not self.settings.reuse:
            await self._hang_up(orderly=failure is None)
        used, record = self.meter.read().since(before), exchange.settle(failure)
        record.bytes_in, record.bytes_out = used.received, used.sent
        record.connections = self.meter.connections - connections
        return record

    async def _failure_of(self, exchange: Exchange) -> ClientFailure | None:
        """Run the message to its end; whatever goes wrong is returned."""
        question = exchange.question
        left_s = question.timeout_s - (time.monotonic_ns() - question.intended_start_ns) / 1e9
        limit = asyncio.timeout(max(0.0, left_s))
        try:
            async with limit:
                await self._complete(exchange)
        except ClientFailure as failure:
            return failure
        except Exception as error:
            return MessageTimeout(question.timeout_s) if limit.expired() else OwnFault(error)
        return None

    async def _complete(self, exchange: Exchange) -> None:
        """Try until the end message has come, as the recovery policy allows. Raises the last ClientFailure."""
        ledger = exchange.ledger
        while True:
            exchange.begin_attempt(time.monotonic_ns())
            try:
                await self._attempt(exchange)
                if ledger.end is None:
                    raise AnswerTruncated("the response is complete, but has no end message", "end")
                return
            except ClientFailure as failure:
                noticed_ns = time.monotonic_ns()
                await self._hang_up(orderly=False)
                if ledger.end is not None:
                    return  # complete all the same; the fault came after the end message
                delay_s = exchange.end_attempt(failure, noticed_ns)
            await asyncio.sleep(delay_s)
            exchange.try_again()


def client_for(transport: str, settings: Settings) -> Client:
    """A new user of `transport`; the module `clients.<transport>` names its class as CLIENT."""
    return cast(Client, import_module(f"clients.{transport}").CLIENT(settings))

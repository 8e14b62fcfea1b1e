"""A virtual user under gevent: asks one question at a time, as clients.client does under asyncio.

The pure parts are the same: what is asked, the decoders, the ledger, the recovery policy, the record. Only the waiting
differs, and that is all there is in this module and in the two beside it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from time import monotonic_ns
from urllib.parse import urlsplit

import gevent

from clients.client import Settings
from clients.errors import AnswerTruncated, ClientFailure, MessageTimeout, OwnFault
from clients.exchange import Exchange, Question
from clients.record import StreamRecord
from clients.sockets import Meter


class GeventClient(ABC):
    """One user of one transport. `ask` never raises for what a server or the network does; that is in the record.

    `response_ms` has, for each request of the last message, the time until the first byte that answered it.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.meter = Meter()
        self.response_ms: list[float] = []
        address = urlsplit(settings.url)
        self.host, self.port = address.hostname or "127.0.0.1", address.port or 80
        self.headers = {"Host": address.netloc.rpartition("@")[2]}
        if settings.auth_token:
            self.headers["Authorization"] = f"Bearer {settings.auth_token}"

    @abstractmethod
    def _attempt(self, exchange: Exchange) -> None:
        """Ask from `exchange.first` on, and enter all that comes, until the end message. Raises ClientFailure."""

    @abstractmethod
    def hang_up(self) -> None:
        """Close the connection, if one is open."""

    def ask(self, question: Question) -> StreamRecord:
        """Send one message and see what becomes of its answer."""
        self.response_ms = []
        before, connections = self.meter.read(), self.meter.connections
        exchange = Exchange.begin(question, self.settings.recovery, monotonic_ns())
        failure = self._failure_of(exchange)
        if failure is not None or not self.settings.reuse:
            self.hang_up()
        used, record = self.meter.read().since(before), exchange.settle(failure)
        record.bytes_in, record.bytes_out = used.received, used.sent
        record.connections = self.meter.connections - connections
        return record

    def _failure_of(self, exchange: Exchange) -> ClientFailure | None:
        question = exchange.question
        left_s = question.timeout_s - (monotonic_ns() - question.intended_start_ns) / 1e9
        limit = gevent.Timeout(max(0.001, left_s))
        try:
            with limit:
                self._complete(exchange)
        except ClientFailure as failure:
            return failure
        except gevent.Timeout as expired:
            if expired is not limit:
                raise
            return MessageTimeout(question.timeout_s)
        except Exception as error:
            return OwnFault(error)
        return None

    def _complete(self, exchange: Exchange) -> None:
        """Try until the end message has come, as the recovery policy allows. Raises the last ClientFailure."""
        ledger = exchange.ledger
        while True:
            exchange.begin_attempt(monotonic_ns())
            try:
                self._attempt(exchange)
                if ledger.end is None:
                    raise AnswerTruncated("the response is complete, but has no end message", "end")
                return
            except ClientFailure as failure:
                noticed_ns = monotonic_ns()
                self.hang_up()
                if ledger.end is not None:
                    return  # complete all the same; the fault came after the end message
                delay_s = exchange.end_attempt(failure, noticed_ns)
            gevent.sleep(delay_s)
            exchange.try_again()

    def note_response(self, asked_ns: int, answered_ns: int) -> None:
        """A request has got its first byte."""
        self.response_ms.append((answered_ns - asked_ns) / 1e6)

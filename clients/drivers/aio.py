"""A virtual user on asyncio: it moves the bytes of a clients.core.session.Session, and stamps every read.

A read is stamped and worked on in `data_received`, without a task switch in between, whatever the transport.
"""

from __future__ import annotations

import asyncio
import socket
from time import monotonic_ns
from typing import Any, cast

from clients.core.carrier import Carrier, Pool
from clients.core.errors import takes_nothing
from clients.core.exchange import Question
from clients.core.message_script import ask
from clients.core.record import StreamRecord
from clients.core.session import ADDRESS_LIMIT_S, MAX_UNSENT_BYTES, Script, Session, T
from clients.core.settings import ClientSettings
from clients.sockets import Meter, PartMeter, SharedMeter


class AioDriver:
    """What moves the bytes of one session. What goes through its connections is counted by `sockets`."""

    def __init__(self, session: Session, sockets: Meter) -> None:
        self.session = session
        self.sockets = sockets
        self._loop: asyncio.AbstractEventLoop
        self._wire: _Wire | None = None
        self.connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._done: asyncio.Future[None] | None = None
        session.obey = self.obey

    async def run(self, script: Script[T]) -> T:
        """Run a script to its result. Raises what it raises."""
        self._loop = asyncio.get_running_loop()
        session = self.session
        session.begin(script, monotonic_ns())
        self.obey()
        if session.is_busy:
            self._done = self._loop.create_future()
            try:
                await self._done
            finally:
                self._done = None
        if session.error is not None:
            raise session.error
        return cast(T, session.result)

    def obey(self) -> None:
        """Do what the session wants done."""
        session = self.session
        try:
            session.carry_out(self)
        finally:  # whatever goes wrong, the message's time runs out
            if session.wake_ns < session.armed_ns:
                self._arm(session.wake_ns)
        if self._done is not None and not session.is_busy and not self._done.done():
            self._done.set_result(None)

    def _arm(self, wake_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.session.armed_ns = wake_ns
        self._timer = self._loop.call_later(max(0, wake_ns - monotonic_ns()) / 1e9, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.session.woken(monotonic_ns())
        self.obey()

    def connect(self) -> None:
        """See clients.core.session.Driver."""
        self.connecting = self._loop.create_task(self._connect())

    def write(self, data: bytes) -> None:
        """See clients.core.session.Driver."""
        if self._wire is not None:
            self._wire.write(data)

    def disconnect(self) -> None:
        """See clients.core.session.Driver."""
        if self.connecting is not None:
            self.connecting.cancel()
            self.connecting = None
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def stop_reading(self) -> None:
        """See clients.core.session.Driver."""
        if self._wire is not None:
            self._wire.stop_reading()

    def read_on(self) -> None:
        """See clients.core.session.Driver."""
        if self._wire is not None:
            self._wire.read_on()

    def opened(self, wire: _Wire, dns_ns: int, tcp_ns: int) -> None:
        """The connection that was wanted is open: told before anything that comes over it."""
        self.connecting, self._wire = None, wire
        self.session.connected(monotonic_ns(), dns_ns, tcp_ns)
        self.obey()

    def forget(self, wire: _Wire) -> None:
        """That connection is over."""
        if self._wire is wire:
            self._wire = None

    async def _connect(self) -> None:
        """Open the connection that the session wants; the first address that answers."""
        endpoint = self.session.endpoint
        asked_ns = monotonic_ns()
        try:
            addresses = await self._loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
            await self._first_of(addresses, asked_ns, monotonic_ns())
        except OSError as error:
            self.connecting = None
            self.session.connect_failed(error, monotonic_ns())
            self.obey()

    async def _first_of(self, addresses: list[Any], asked_ns: int, resolved_ns: int) -> None:
        for number, (family, _, protocol, _, address) in enumerate(addresses, 1):
            is_last = number == len(addresses)
            try:
                async with asyncio.timeout(None if is_last else ADDRESS_LIMIT_S):
                    await self._loop.create_connection(
                        lambda: _Wire(self, asked_ns, resolved_ns), *address[:2], family=family, proto=protocol
                    )
                return
            except OSError:
                if self.connecting is not asyncio.current_task():
                    return  # it was opened at the last moment, and tells itself that it is over
                if is_last:
                    raise
        raise OSError("the name has no address")


class AioClient(AioDriver):
    """One user of one transport. `ask` never raises for what a server or the network does; that is in the record.

    `pool`: the HTTP/2 connections that it shares with other users.
    """

    def __init__(self, transport: str, settings: ClientSettings, pool: AioPool | None = None) -> None:
        super().__init__(Session(settings), Meter())
        self.meter: Meter | PartMeter = self.sockets
        self._transport = transport
        if settings.http == 2:
            self.session.pool = pool = pool or AioPool(settings)
            self.meter = PartMeter(pool.meter)

    async def ask(self, question: Question) -> StreamRecord:
        """Send one message and see what becomes of its answer."""
        self.meter.begin()
        record = await self.run(ask(self.session, self._transport, question))
        self.meter.end(record)
        return record

    async def close(self) -> None:
        """Close what is open."""
        await self.run(self.session.farewell())
        self.meter.close()


class AioPool(Pool):
    """HTTP/2 connections, each moved by a driver of its own."""

    def __init__(self, settings: ClientSettings) -> None:
        super().__init__(settings)
        self.meter = SharedMeter()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, carrier: Carrier) -> None:
        """See clients.core.carrier.Pool."""
        task = asyncio.get_running_loop().create_task(AioDriver(carrier.session, self.meter).run(carrier.carry()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Wire(asyncio.Protocol):
    """One TCP connection; after `close` it tells nothing any more."""

    def __init__(self, client: AioDriver, asked_ns: int, resolved_ns: int) -> None:
        self._client = client
        self._wanted_by = client.connecting
        self._asked_ns, self._resolved_ns = asked_ns, resolved_ns
        self._session = client.session
        self._transport: asyncio.Transport
        self._is_over = False
        self._given_up: OSError | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._client.connecting is not self._wanted_by:  # nobody wants it any more
            self.close()
            return
        self._client.sockets.opened(transport)
        self._client.opened(self, self._resolved_ns - self._asked_ns, monotonic_ns() - self._resolved_ns)

    def write(self, data: bytes) -> None:
        """Send now what the kernel takes, and the rest as soon as it takes it."""
        if self._transport.is_closing():
            return  # lost in this very event, which `connection_lost` tells; asyncio would log each further piece
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self._transport.abort()  # which tells `connection_lost`, when the session is done with this event
            self._given_up = takes_nothing()
        else:
            self._transport.write(data)

    def stop_reading(self) -> None:
        """Leave what comes unread."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def read_on(self) -> None:
        """Read again."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        read_ns = monotonic_ns()
        if not self._is_over and self._session.received(data, read_ns):
            self._client.obey()

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.sockets.lost(self._transport)
        self._end(self._given_up or exc)

    def _end(self, error: Exception | None) -> None:
        if not self._is_over:
            self._is_over = True
            self._client.forget(self)
            self._session.ended(error, monotonic_ns())
            self._client.obey()

    def close(self) -> None:
        """Close at once; what was written before still goes out."""
        self._is_over = True
        self._client.sockets.lost(self._transport)
        self._transport.close()

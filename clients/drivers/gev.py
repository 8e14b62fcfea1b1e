"""A virtual user under gevent: it moves the bytes of a clients.core.session.Session, and stamps every read.

A greenlet reads for as long as a connection is open, and works on each read itself; so pings are answered between
messages too, and a stamp is taken straight after its read. Whoever asked sleeps until the answer is over.
"""

from __future__ import annotations

import socket
from time import monotonic_ns
from typing import Any, cast

import gevent
from gevent import socket as gevent_socket
from gevent.event import Event

from clients.core.carrier import Carrier, Pool
from clients.core.errors import takes_nothing
from clients.core.exchange import Question
from clients.core.message_script import ask
from clients.core.record import StreamRecord
from clients.core.session import ADDRESS_LIMIT_S, MAX_UNSENT_BYTES, NEVER_NS, Script, Session, T
from clients.core.settings import ClientSettings
from clients.sockets import Meter, PartMeter, SharedMeter

_READ_BYTES = 65_536
_BULK_BYTES = 4096  # behind a read of so many there may be more at once, and then the reader never waits
_TURN_NS = 20_000_000  # of reading so; then all others have theirs
_BREATH_S = 0.001  # not 0: that lets greenlets run that are ready, but no timer strike


class GeventDriver:
    """What moves the bytes of one session. What goes through its connections is counted by `sockets`."""

    def __init__(self, session: Session, sockets: Meter) -> None:
        self.session = session
        self.sockets = sockets
        self._wire: _Wire | None = None
        self._connecting: gevent.Greenlet | None = None
        self._news = Event()
        session.obey = self.obey

    def run(self, script: Script[T]) -> T:
        """Run a script to its result. Raises what it raises."""
        session = self.session
        session.begin(script, monotonic_ns())
        self.obey()
        while session.is_busy:
            self._news.clear()
            session.armed_ns = session.wake_ns
            left_s = None if session.wake_ns >= NEVER_NS else max(0, session.wake_ns - monotonic_ns()) / 1e9
            self._news.wait(left_s)
            now_ns = monotonic_ns()
            if now_ns >= session.wake_ns:  # though there are news: a server may send some all the time
                session.woken(now_ns)
                self.obey()
        if session.error is not None:
            raise session.error
        return cast(T, session.result)

    def obey(self) -> None:
        """Do what the session wants done; whoever asked looks whether it is over, and when to wake next."""
        self.session.carry_out(self)
        self._news.set()

    def connect(self) -> None:
        """See clients.core.session.Driver."""
        self._connecting = gevent.spawn(self._connect)

    def write(self, data: bytes) -> None:
        """See clients.core.session.Driver."""
        if self._wire is not None:
            self._wire.write(data)

    def disconnect(self) -> None:
        """See clients.core.session.Driver."""
        connecting, self._connecting = self._connecting, None
        if connecting is not None and connecting is not gevent.getcurrent():
            connecting.kill(block=False)
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def stop_reading(self) -> None:
        """See clients.core.session.Driver."""
        if self._wire is not None:
            self._wire.may_read.clear()

    def read_on(self) -> None:
        """See clients.core.session.Driver."""
        if self._wire is not None:
            self._wire.may_read.set()

    def forget(self, wire: _Wire) -> None:
        """That connection is over."""
        if self._wire is wire:
            self._wire = None

    def _connect(self) -> None:
        """Open the connection that the session wants; the first address that answers."""
        endpoint = self.session.endpoint
        asked_ns = resolved_ns = monotonic_ns()
        try:
            addresses = gevent_socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
            resolved_ns = monotonic_ns()
            connection = _first_of(addresses)
        except OSError as error:
            self._connecting = None
            self.session.connect_failed(error, monotonic_ns())
        else:
            self._connecting, self._wire = None, _Wire(self, connection)
            now_ns = monotonic_ns()
            self.session.connected(now_ns, resolved_ns - asked_ns, now_ns - resolved_ns)
        self.obey()


class GeventClient(GeventDriver):
    """One user of one transport. `ask` never raises for what a server or the network does; that is in the record.

    `pool`: the HTTP/2 connections that it shares with other users.
    """

    def __init__(self, transport: str, settings: ClientSettings, pool: GeventPool | None = None) -> None:
        super().__init__(Session(settings), Meter())
        self.meter: Meter | PartMeter = self.sockets
        self._transport = transport
        if settings.http == 2:
            self.session.pool = pool = pool or GeventPool(settings)
            self.meter = PartMeter(pool.meter)

    def ask(self, question: Question) -> StreamRecord:
        """Send one message and see what becomes of its answer."""
        self.meter.begin()
        record = self.run(ask(self.session, self._transport, question))
        self.meter.end(record)
        return record

    def close(self) -> None:
        """Close what is open."""
        self.run(self.session.farewell())
        self.meter.close()


class GeventPool(Pool):
    """HTTP/2 connections, each moved by a driver of its own."""

    def __init__(self, settings: ClientSettings) -> None:
        super().__init__(settings)
        self.meter = SharedMeter()

    def start(self, carrier: Carrier) -> None:
        """See clients.core.carrier.Pool."""
        gevent.spawn(GeventDriver(carrier.session, self.meter).run, carrier.carry())


def _first_of(addresses: list[Any]) -> Any:
    for number, (family, kind, protocol, _, address) in enumerate(addresses, 1):
        is_last = number == len(addresses)
        connection = gevent_socket.socket(family, kind, protocol)
        connection.settimeout(None if is_last else ADDRESS_LIMIT_S)
        try:
            connection.connect(address)
            connection.settimeout(None)
            return connection
        except BaseException as error:
            connection.close()
            if is_last or not isinstance(error, OSError):
                raise
    raise OSError("the name has no address")


class _Wire:
    """One TCP connection and the greenlet that reads it; after `close` it tells nothing any more."""

    def __init__(self, client: GeventDriver, connection: Any) -> None:
        self._client = client
        self._session = client.session
        self._socket = connection
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unsent: list[bytes] = []
        self._is_over = False
        self.may_read = Event()
        self.may_read.set()
        self._broken: OSError | None = None  # told of a write; the kernel says it once, and to the reader then EOF
        client.sockets.opened(self)  # type: ignore[arg-type]  # it only asks for the socket
        gevent.spawn(self._read)

    def get_extra_info(self, name: str) -> Any:
        """What clients.sockets.Meter asks of a transport: its socket."""
        return self._socket if name == "socket" else None

    def _read(self) -> None:
        received, recv = self._session.received, self._socket.recv
        turn_ns = monotonic_ns()
        try:
            while data := recv(_READ_BYTES):
                read_ns = monotonic_ns()
                if self._is_over:
                    return
                if received(data, read_ns):
                    self._client.obey()
                    self.may_read.wait()
                if len(data) < _BULK_BYTES:
                    turn_ns = read_ns
                elif monotonic_ns() - turn_ns > _TURN_NS:
                    gevent.sleep(_BREATH_S)
                    turn_ns = monotonic_ns()
        except OSError as error:
            self._end(error)
        else:
            self._end(self._broken)

    def write(self, data: bytes) -> None:
        """Send now what the kernel takes, and the rest as soon as it takes it."""
        sent = 0
        if self._broken is not None:
            return  # lost in this very event, and `_end` will tell
        if not self._unsent:
            self._socket.settimeout(0.0)  # for this call alone: the reader waits in one of its own
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                pass
            except OSError as error:
                self._break(error)
                return
            finally:
                self._socket.settimeout(None)
        if sent < len(data):
            if sum(map(len, self._unsent)) > MAX_UNSENT_BYTES:
                self._break(takes_nothing())
                return
            self._unsent.append(data[sent:])
            if len(self._unsent) == 1:
                gevent.spawn(self._write_rest)

    def _break(self, error: OSError) -> None:
        """End it, but not within what the session is having done."""
        self._broken = error
        gevent.spawn(self._end, error)

    def _write_rest(self) -> None:
        try:
            while self._unsent:
                self._socket.sendall(self._unsent[0])
                self._unsent.pop(0)
        except OSError as error:
            self._end(error)

    def _end(self, error: OSError | None) -> None:
        if not self._is_over:
            self._shut()
            self._client.forget(self)
            self._session.ended(error, monotonic_ns())
            self._client.obey()

    def close(self) -> None:
        """Close at once; what the kernel has taken still goes out."""
        if not self._is_over:
            self._shut()

    def _shut(self) -> None:
        self._is_over = True
        self._client.sockets.lost(self)  # type: ignore[arg-type]
        self._socket.close()
        self.may_read.set()

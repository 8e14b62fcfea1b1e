"""One virtual user, but for I/O (pure): a script says what to do next, a driver moves the bytes and tells the time.

    begin, connected, received, ended, woken  ->  Session  ->  actions, wake_ns, and in the end the script's result

A script is a generator. It runs until it must wait, and yields the moment (CLOCK_MONOTONIC ns) at which it goes on
even though nothing has come; a read or the end of the connection wakes it sooner. Whatever a script waits for is a
condition that it looks at itself each time, so that it does not matter how the bytes were split.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from clients.core.endpoint import Endpoint
from clients.core.errors import (
    ClientFailure,
    ConnectionBroken,
    MessageTimeout,
    NoSecureConnection,
    SilenceTimeout,
    TokenSilence,
    broken,
    not_opened,
)
from clients.core.settings import ClientSettings
from clients.core.tls import HTTP_1, TlsLayer

if TYPE_CHECKING:
    from clients.core.carrier import Pool

NEVER_NS = 1 << 62
MAX_UNSENT_BYTES = 1 << 20  # a server that takes nothing, and makes a client answer its pings, is given up
ADDRESS_LIMIT_S = 2.0  # for each address of a name but the last: the longest that RFC 8305 §5 has a client wait
FAREWELL_NS = 1_000_000_000  # for the answer to a WebSocket's Close

T = TypeVar("T")
Script = Generator[int, None, T]


class Action(Enum):
    """What a driver has to do beside sending bytes."""

    CONNECT = "connect"
    CLOSE = "close"  # what was sent before still goes out
    STOP_READING = "stop reading"
    READ_ON = "read on"


class Driver(Protocol):
    """What moves a session's bytes; none of these waits."""

    def connect(self) -> None:
        """Begin to open the connection; `connected` or `connect_failed` says what became of it."""

    def write(self, data: bytes) -> None:
        """Send over the connection; where there is none any more, nothing."""

    def disconnect(self) -> None:
        """Close the connection, also one that is being opened: nothing of it is told any more."""

    def stop_reading(self) -> None:
        """Leave in the kernel's buffer what comes from now on, the connection's end too; one read may still be told."""

    def read_on(self) -> None:
        """Read again."""


class Connection(Protocol):
    """A protocol over one open connection. `failure`: it is of no more use to the message that waits for it."""

    failure: ClientFailure | None

    def receive(self, data: bytes) -> None:
        """Bytes have come; whatever they are, this returns."""

    def end(self, failure: ClientFailure | None) -> None:
        """The connection has ended: in an orderly way (None), or not."""

    def data_to_send(self) -> list[bytes]:
        """What the protocol has to say since the last time."""

    def say_goodbye(self) -> bool:
        """Begin the protocol's farewell; whether an answer can be waited for."""

    def leave(self) -> None:
        """Its user goes. Of one that is the user's own nothing is left to do; one that is shared lives on."""


C = TypeVar("C", bound=Connection)


@dataclass
class SetupTimes:
    """How many connections were opened, and how long name look-ups, TCP and TLS took in all (ns)."""

    connections: int = 0
    dns_ns: int = 0
    tcp_ns: int = 0
    tls_ns: int = 0

    def add(self, other: SetupTimes) -> None:
        """Another one's are this one's too: it was opened for its sake."""
        self.connections += other.connections
        self.dns_ns += other.dns_ns
        self.tcp_ns += other.tcp_ns
        self.tls_ns += other.tls_ns


class Session:
    """A user with at most one connection at a time.

    A driver calls the methods of the first group, then `carry_out`, and `woken` at `wake_ns`. Where it has a timer
    already, `armed_ns` says for when.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        self.endpoint = Endpoint.parse(settings.url)
        self.headers = {"Authorization": f"Bearer {settings.auth_token}"} if settings.auth_token else {}
        self.now_ns = 0  # of the event that is being worked on
        self.heard_ns = 0  # since when there is silence
        self.token_ns: Callable[[], int] = _never  # when a token came last
        self.connection: Connection | None = None  # kept when it has ended, until the next is opened
        # While an answer streams, each read and its stamp go here and not through the script, which costs more than all
        # the rest; true means that the script has to look. Over a shared connection the bytes are there already (b"").
        self.on_read: Callable[[bytes, int], bool] | None = None
        self.setup = SetupTimes()
        self.actions: list[Action | bytes] = []  # bytes are to be sent
        self.wake_ns = self.armed_ns = NEVER_NS
        self.is_busy = False  # whether a script is under way
        self.result: Any = None
        self.error: Exception | None = None  # that the script raised
        self._script: Script[Any] | None = None
        self._timeout: MessageTimeout | None = None
        self._deadline_ns = NEVER_NS
        self._silence_ns = _limit_ns(settings.silence_s)
        self._token_silence_ns = _limit_ns(settings.token_silence_s)
        self._asked_ns = 0  # since when a token may be waited for
        self._has_socket = False  # wanted or open
        self._is_connected = False
        self._setup_failure: ClientFailure | None = None
        self._tls: TlsLayer | None = None
        self.pool: Pool | None = None  # of the connections that it shares with others, in place of one of its own
        self.obey: Callable[[], None] = lambda: None  # its driver's, for what comes to pass over a shared connection

    # What a driver tells.

    def begin(self, script: Script[Any], now_ns: int) -> None:
        """Run `script` as far as it goes. Its `result`, or `error`, is there when `is_busy` is false again."""
        self.stop(now_ns)
        self.now_ns, self._script, self.is_busy = now_ns, script, True
        self.result = self.error = None
        self._resume()

    def stop(self, now_ns: int) -> None:
        """Whoever waited for the script, if there is one, was cancelled, perhaps in the middle of an answer."""
        if self._script is not None:
            self.now_ns = now_ns
            self._script.close()
            self.hang_up()
            self._finish(None, None)

    def connected(self, now_ns: int, dns_ns: int, tcp_ns: int) -> None:
        """The connection that was wanted is open."""
        self.now_ns = self.heard_ns = now_ns
        self._is_connected = True
        self.setup.connections += 1
        self.setup.dns_ns += dns_ns
        self.setup.tcp_ns += tcp_ns
        self._resume()

    def connect_failed(self, error: BaseException, now_ns: int) -> None:
        """The connection that was wanted could not be opened."""
        self.now_ns, self._has_socket = now_ns, False
        self._setup_failure = failure = not_opened(error)
        self.setup.connections += isinstance(failure, ConnectionBroken)
        self._resume()

    def received(self, data: bytes, read_ns: int) -> bool:
        """A read, and its stamp, taken straight after it. Whether the driver has anything to do now."""
        self.now_ns = self.heard_ns = read_ns
        if self._tls is not None:
            data = self._shaken_hands(data) if not self._tls.is_open else self._decrypted(data)
        on_read = self.on_read  # by a name: called as an attribute, CPython 3.11 looks for a method first, every time
        if on_read is not None:
            if not on_read(data, read_ns):
                return False
        elif self.connection is not None and data:
            self.connection.receive(data)
        self._resume()
        return not self.is_busy or bool(self.actions) or self.wake_ns < self.armed_ns

    def told(self, now_ns: int) -> None:
        """There is news for it that came over a connection which others share; `now_ns` is the stamp of the read."""
        self.now_ns = self.heard_ns = now_ns
        if self.on_read is None or self.on_read(b"", now_ns):
            self._resume()
            self.obey()

    def ended(self, error: BaseException | None, now_ns: int) -> None:
        """The connection is over: closed in an orderly way (None), or not."""
        self.now_ns, self._has_socket, self._is_connected = now_ns, False, False
        if self.connection is not None:
            self.connection.end(None if error is None else broken(error))
        else:  # only TLS's handshake is without a protocol
            self._setup_failure = NoSecureConnection(f"the server has ended TLS's handshake ({error or 'FIN'})")
        self._resume()

    def woken(self, now_ns: int) -> None:
        """`wake_ns` may have come."""
        self.now_ns, self.armed_ns = now_ns, NEVER_NS
        if now_ns >= self._deadline_ns:
            failure, self._deadline_ns = self._timeout, NEVER_NS
            self._resume(failure)
        elif now_ns >= self.wake_ns:
            self._resume()

    def carry_out(self, driver: Driver) -> None:
        """Have `driver` do what is to be done, in order."""
        while self.actions:
            actions, self.actions = self.actions, []
            for action in actions:
                if action is Action.CONNECT:
                    driver.connect()
                elif action is Action.CLOSE:
                    driver.disconnect()
                elif action is Action.STOP_READING:
                    driver.stop_reading()
                elif action is Action.READ_ON:
                    driver.read_on()
                else:
                    driver.write(action)

    def _resume(self, failure: ClientFailure | None = None) -> None:
        if self._script is not None:
            try:
                wake_ns = next(self._script) if failure is None else self._script.throw(failure)
                self.wake_ns = min(wake_ns, self._deadline_ns)
            except StopIteration as stop:
                self._finish(stop.value, None)
            except Exception as error:
                self._finish(None, error)
        self.flush()

    def _finish(self, result: Any, error: Exception | None) -> None:
        self._script, self.is_busy, self.result, self.error = None, False, result, error
        self.wake_ns = self._deadline_ns = NEVER_NS

    def _decrypted(self, records: bytes) -> bytes:
        """The plain bytes in `records`; what TLS has to say itself is sent."""
        assert self._tls is not None
        data = self._tls.receive(records)
        self._send_records()
        if (self._tls.is_over or self._tls.failure is not None) and self.connection is not None:
            self.connection.receive(data)
            self.connection.end(self._tls.failure)
            return b""
        return data

    def _shaken_hands(self, records: bytes) -> bytes:
        """The plain bytes that came with the handshake's end, after its protocol has begun: HTTP/2's SETTINGS, say."""
        self._decrypted(records)
        if self._tls is None or not self._tls.is_open:
            return b""
        self._resume()
        return self._decrypted(b"") if self._tls is not None else b""

    def _send_records(self) -> None:
        """In one write with those before: a server may refuse the handshake's end, and a later write would then break.

        What it says of its reason would never be read.
        """
        assert self._tls is not None
        records = self._tls.data_to_send()
        if self.actions and isinstance(self.actions[-1], bytes):
            self.actions[-1] += records
        elif records:
            self.actions.append(records)

    # What a script sees and does.

    @property
    def is_read(self) -> bool:
        """Whether the event that is being worked on is a read."""
        return self.now_ns == self.heard_ns

    def limit(self, deadline_ns: int, timeout_s: float) -> None:
        """At `deadline_ns`, `timeout_s` after the intended start, MessageTimeout is raised in the script."""
        self._deadline_ns, self._timeout = deadline_ns, MessageTimeout(timeout_s)

    def no_limit(self) -> None:
        """Take back `limit`, and what `token_ns` has told."""
        self._deadline_ns, self.token_ns = NEVER_NS, _never

    def send(self, data: bytes) -> None:
        """Send these bytes over the open connection."""
        if self._tls is None:
            self.actions.append(data)
        else:
            self._tls.encrypt(data)
            self._send_records()
            if self._tls.failure is not None and self.connection is not None:
                self.connection.end(self._tls.failure)

    def flush(self) -> None:
        """Send what the protocol has to say."""
        if self.connection is not None:
            for data in self.connection.data_to_send():
                self.send(data)

    def hang_up(self) -> None:
        """Close the connection at once, if there is one or is about to be."""
        if self._has_socket:
            self.flush()
            if self._tls is not None:
                self._tls.say_goodbye()
                self._send_records()
            self.actions.append(Action.CLOSE)
        elif self.connection is not None:
            self.connection.leave()
        self.connection = self._tls = None
        self._has_socket = self._is_connected = False

    def farewell(self) -> Script[None]:
        """Close the connection with its protocol's own farewell."""
        connection, until_ns = self.connection, self.now_ns + FAREWELL_NS
        if connection is not None and connection.say_goodbye():
            while connection.failure is None and self.now_ns < until_ns:
                yield until_ns
        self.hang_up()

    def open(self, connection: C, alpn: str = HTTP_1) -> Script[C]:
        """Open a connection for this protocol, `alpn` over TLS.

        Raises NoConnection, NoSecureConnection, ConnectionBroken, SilenceTimeout, MessageTimeout: each says that
        nothing was asked.
        """
        self.hang_up()
        self._setup_failure, self._has_socket = None, True
        self.asks()
        self.actions.append(Action.CONNECT)
        try:
            yield from self._set_up(lambda: self._is_connected)
            if self.endpoint.secure:
                yield from self._secure(alpn)
        except ClientFailure as failure:
            failure.is_unprocessed = True
            raise
        self.connection = connection
        return connection

    def _secure(self, alpn: str) -> Script[None]:
        began_ns = self.now_ns
        self._tls = tls = TlsLayer(self.settings.trust.context_for(alpn), self.endpoint.host)
        self._send_records()
        yield from self._set_up(lambda: tls.is_open)
        if alpn not in (HTTP_1, tls.alpn):  # to a server that knows nothing of ALPN we speak HTTP/1.1
            raise NoSecureConnection(f"the server does not speak {alpn} over TLS (ALPN: {tls.alpn or 'none'})")
        self.setup.tls_ns += self.now_ns - began_ns

    def _set_up(self, is_done: Callable[[], bool]) -> Script[None]:
        while not is_done():
            failure = self._setup_failure or (self._tls and self._tls.failure)
            if failure:
                raise failure
            yield from self.wait_for_news()

    def go_to(self, url: str) -> None:
        """Ask there from now on; a connection to elsewhere is closed. Raises InputError."""
        endpoint = Endpoint.parse(url)
        if endpoint != self.endpoint:
            self.hang_up()
            self.endpoint = endpoint

    def asks(self) -> None:
        """From now on something is waited for: silence begins."""
        self.heard_ns = self._asked_ns = self.now_ns

    def wait_for_news(self) -> Script[None]:
        """Until anything has happened. Raises SilenceTimeout."""
        yield min(self.heard_ns + self._silence_ns, self._tokens_until_ns)
        if self.now_ns >= self.heard_ns + self._silence_ns:
            raise SilenceTimeout(self._silence_ns / 1e9)
        if self.now_ns >= self._tokens_until_ns:
            raise TokenSilence(self._token_silence_ns / 1e9)

    @property
    def _tokens_until_ns(self) -> int:
        return max(self._asked_ns, self.token_ns()) + self._token_silence_ns

    def read_nothing(self, for_s: float) -> Script[None]:
        """Leave what comes unread for so long; silence begins behind that."""
        self.actions.append(Action.STOP_READING)
        yield from self.sleep(self.now_ns + round(for_s * 1e9))
        self.actions.append(Action.READ_ON)
        self.asks()

    def sleep(self, until_ns: int) -> Script[None]:
        """Do nothing until then."""
        while self.now_ns < until_ns:
            yield until_ns


def _never() -> int:
    return 0


def _limit_ns(limit_s: float | None) -> int:
    return NEVER_NS if limit_s is None else round(limit_s * 1e9)

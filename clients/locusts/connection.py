"""A TCP connection for a gevent user: what has come is handed over at once, with a stamp straight after the read.

Locust's own clients wait until a block of 1,024 bytes is full, or copy through layers of buffers; a token is 80 bytes.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from time import monotonic_ns
from typing import Any

from gevent import socket as gevent_socket

from clients.errors import NoConnection, SilenceTimeout, broken
from clients.sockets import Meter

_READ_BYTES = 65_536


class Connection:
    """An open connection. `read_ns` is the CLOCK_MONOTONIC stamp of the last read."""

    def __init__(self, host: str, port: int, meter: Meter, silence_s: float | None) -> None:
        """Connect. Raises NoConnection, SilenceTimeout."""
        self._silence_s = silence_s
        self._meter = meter
        try:
            self._socket = gevent_socket.create_connection((host, port), timeout=silence_s)
        except TimeoutError:
            raise SilenceTimeout(silence_s or 0.0) from None
        except OSError as error:
            raise NoConnection(str(error)) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.read_ns = monotonic_ns()
        self.is_open = True
        meter.opened(self)  # type: ignore[arg-type]  # it only asks for the socket

    def get_extra_info(self, name: str) -> Any:
        """What clients.sockets.Meter asks of a transport: its socket."""
        return self._socket if name == "socket" else None

    def send(self, parts: Iterable[bytes]) -> None:
        """Send everything. Raises ConnectionBroken, SilenceTimeout."""
        try:
            self._socket.sendall(b"".join(parts))
        except TimeoutError:
            raise SilenceTimeout(self._silence_s or 0.0) from None
        except OSError as error:
            raise broken(error) from error

    def read(self) -> bytes:
        """What has come, as soon as there is anything; b"" at the end. Raises ConnectionBroken, SilenceTimeout."""
        try:
            data: bytes = self._socket.recv(_READ_BYTES)
        except TimeoutError:
            raise SilenceTimeout(self._silence_s or 0.0) from None
        except OSError as error:
            raise broken(error) from error
        self.read_ns = monotonic_ns()
        return data

    def is_idle(self) -> bool:
        """Whether the connection is still open and nothing waits to be read: fit for another request."""
        if not self.is_open:
            return False
        self._socket.settimeout(0.0)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, TimeoutError):
            return True
        except OSError:
            return False
        finally:
            self._socket.settimeout(self._silence_s)
        return False

    def wait_at_most(self, limit_s: float) -> None:
        """From now on a read that takes so long raises SilenceTimeout."""
        self._socket.settimeout(limit_s if self._silence_s is None else min(limit_s, self._silence_s))

    def wait_for_ever(self) -> None:
        """Silence is no fault from now on."""
        self._silence_s = None
        self._socket.settimeout(None)

    def wait_as_before(self) -> None:
        """Take back `wait_at_most`."""
        self._socket.settimeout(self._silence_s)

    def close(self) -> None:
        """Close at once."""
        if self.is_open:
            self.is_open = False
            self._meter.lost(self)  # type: ignore[arg-type]
            self._socket.close()

"""Payload bytes at a client's sockets, as the kernel counts them.

Linux keeps counters for every TCP connection (`struct tcp_info`, <linux/tcp.h>). They count payload once it was handed
to the network, without headers; what was sent again is subtracted, and so is the FIN, which takes a sequence number
like a byte. Other systems have no such counters: then everything here is None rather than a guess.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from dataclasses import dataclass
from typing import cast

_INFO_BYTES = 256
_STATE = struct.Struct("B")  # tcpi_state, at offset 0
_RECEIVED = struct.Struct("=Q")  # tcpi_bytes_received, at offset 128
_SENT = struct.Struct("=QQ")  # tcpi_bytes_sent and tcpi_bytes_retrans, at offset 200
# <net/tcp_states.h>: TIME_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING: the other side's FIN has come.
_FIN_RECEIVED = frozenset({6, 8, 9, 11})


@dataclass(frozen=True)
class Bytes:
    """Payload bytes in each direction, None where the platform does not tell."""

    received: int | None
    sent: int | None

    def __add__(self, other: Bytes) -> Bytes:
        return Bytes(_add(self.received, other.received), _add(self.sent, other.sent))

    def since(self, before: Bytes) -> Bytes:
        """What was added since `before` was read."""
        return Bytes(_subtract(self.received, before.received), _subtract(self.sent, before.sent))


class Meter:
    """What went through all connections of one client."""

    def __init__(self) -> None:
        self._closed = NO_BYTES
        self._open: dict[asyncio.BaseTransport, socket.socket] = {}

    def opened(self, transport: asyncio.BaseTransport) -> None:
        """A connection was made; to be called from `connection_made`."""
        self._open[transport] = cast(socket.socket, transport.get_extra_info("socket"))

    def lost(self, transport: asyncio.BaseTransport) -> None:
        """A connection is over; to be called from `connection_lost`, where its socket can still be read."""
        if (connection := self._open.pop(transport, None)) is not None:
            self._closed += payload_bytes(connection)

    def read(self) -> Bytes:
        """The payload of all connections until now."""
        return sum(map(payload_bytes, self._open.values()), self._closed)


def payload_bytes(connection: socket.socket) -> Bytes:
    """Payload that a TCP socket has received and sent, each byte once."""
    if not sys.platform.startswith("linux"):
        return _UNKNOWN
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        (state,) = _STATE.unpack_from(info)
        (received,) = _RECEIVED.unpack_from(info, 128)
        sent, sent_again = _SENT.unpack_from(info, 200)
    except (OSError, struct.error):  # not TCP, or a kernel before 4.19
        return _UNKNOWN
    return Bytes(received - (state in _FIN_RECEIVED), sent - sent_again)


def _add(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b


def _subtract(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a - b


NO_BYTES = Bytes(0, 0)
_UNKNOWN = Bytes(None, None)

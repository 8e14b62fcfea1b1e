"""What passes at a client's sockets, as the kernel counts it: payload, packets, and so the bytes on the wire.

Linux keeps counters for every TCP connection (`struct tcp_info`, <linux/tcp.h>). Payload counts once it was handed to
the network, without headers; what was sent again is subtracted, and so is the FIN, which takes a sequence number like
a byte. On the wire each packet has its headers as well, and one without payload (an ACK) is nothing else. Other
systems have no such counters: then everything here is None rather than a guess.

What a connection says after it was closed nobody can read. Nearly always it is the same, so it is added: see _CLOSING.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from operator import add, mul, sub
from typing import cast

from clients.core.record import StreamRecord

_INFO_BYTES = 256
_STATE = struct.Struct("B4xB")  # tcpi_state at offset 0, tcpi_options at 5
_RECEIVED = struct.Struct("=QII")  # tcpi_bytes_received, tcpi_segs_out and tcpi_segs_in, at offset 128
_SENT = struct.Struct("=QQ")  # tcpi_bytes_sent and tcpi_bytes_retrans, at offset 200
_TIMESTAMPS = 1  # TCPI_OPT_TIMESTAMPS
# <net/tcp_states.h>: TIME_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING: the other side's FIN has come.
_FIN_RECEIVED = frozenset({6, 8, 9, 11})

_IP_BYTES = {socket.AF_INET: 20, socket.AF_INET6: 40}
_TCP_BYTES = 20
_TIMESTAMP_BYTES = 12  # the option of every packet but the SYNs, which have more
_SYN_BYTES = 8  # so much: segment size, window scale, and that SACK is understood (RFC 9293, 7323, 2018)
# Packets in and out from `close` on: FIN, FIN with ACK, ACK; or, where the other side's FIN has come, FIN and ACK.
_ESTABLISHED, _CLOSE_WAIT = 1, 8
_CLOSING = {_ESTABLISHED: (1, 2), _CLOSE_WAIT: (1, 1)}

_FINE = 1 << 20  # into so many parts a byte or a packet is cut where messages share it


@dataclass(frozen=True)
class Traffic:
    """Payload bytes and packets in each direction, and all bytes on the wire from the IP header on.

    All None where the platform does not tell.
    """

    received: int | None
    sent: int | None
    packets_in: int | None = None
    packets_out: int | None = None
    wire: int | None = None

    def __add__(self, other: Traffic) -> Traffic:
        return self._each(add, other)

    def since(self, before: Traffic) -> Traffic:
        """What was added since `before` was read."""
        return self._each(sub, before)

    def times(self, factor: int) -> Traffic:
        """Each number so many times."""
        return self._each(mul, Traffic(*[factor] * 5))

    def parts(self, number: int) -> Traffic:
        """Each number divided by `number`, to the nearest whole one."""
        return self._each(lambda a, b: (a + b // 2) // b, Traffic(*[number] * 5))

    def _each(self, apply: Callable[[int, int], int], other: Traffic) -> Traffic:
        mine, others = vars(self).values(), vars(other).values()
        return _UNKNOWN if None in mine or None in others else Traffic(*map(apply, mine, others))


class Meter:
    """What went through all connections of one client.

    A message's payload is what passes from its beginning to its end. Its packets are those until the next message
    begins: the last ACK comes late, and pings between two messages are what an open connection costs.
    """

    def __init__(self) -> None:
        self._closed = NOTHING
        self._open: dict[asyncio.BaseTransport, socket.socket] = {}
        self._began = NOTHING  # all until the last message began
        self._last: StreamRecord | None = None  # of that message, if it is over

    def opened(self, transport: asyncio.BaseTransport) -> None:
        """A connection was made; to be called from `connection_made`."""
        self._open[transport] = cast(socket.socket, transport.get_extra_info("socket"))

    def lost(self, transport: asyncio.BaseTransport) -> None:
        """A connection is over; to be called from `connection_lost`, where its socket can still be read."""
        if (connection := self._open.pop(transport, None)) is not None:
            self._closed += traffic(connection, closing=True)

    def read(self) -> Traffic:
        """What passed through all connections until now."""
        return sum(map(traffic, self._open.values()), self._closed)

    def begin(self) -> None:
        """A message begins; what has passed since the last one is that one's."""
        now = self.read()
        if self._last is not None:
            _enter_packets(self._last, now.since(self._began))
        self._began, self._last = now, None

    def close(self) -> None:
        """There will be no message any more."""
        self.begin()

    def end(self, record: StreamRecord) -> None:
        """The message that has begun is over; its packets are entered again when the next one begins."""
        used = self.read().since(self._began)
        _enter(record, used)
        self._last = record


class SharedMeter(Meter):
    """What went through connections that several users share: in equal parts to the messages that are under way.

    As a sum over all messages it is exact. What passes while none is under way is the next one's.
    """

    def __init__(self) -> None:
        super().__init__()
        self._shared_out = NOTHING
        self._of_each = NOTHING  # the part of a message that was under way all the time, in 1/_FINE of what is counted
        self._under_way = 0

    def enter(self) -> Traffic:
        """A message begins; `leave` takes what this returns."""
        self._share_out()
        self._under_way += 1
        return self._of_each

    def leave(self, entered: Traffic) -> Traffic:
        """The message is over: its part."""
        self._share_out()
        self._under_way -= 1
        return self._of_each.since(entered).parts(_FINE)

    def _share_out(self) -> None:
        if self._under_way:
            now = self.read()
            self._of_each += now.since(self._shared_out).times(_FINE).parts(self._under_way)
            self._shared_out = now


class PartMeter:
    """A user's part of a SharedMeter, from a message's beginning to its end."""

    def __init__(self, shared: SharedMeter) -> None:
        self._shared = shared
        self._entered: Traffic | None = None

    def begin(self) -> None:
        """A message begins; one that was never ended is over."""
        self.close()
        self._entered = self._shared.enter()

    def end(self, record: StreamRecord) -> None:
        """The message that has begun is over."""
        if self._entered is not None:
            _enter(record, self._shared.leave(self._entered))
            self._entered = None

    def close(self) -> None:
        """There will be no message any more."""
        if self._entered is not None:
            self._shared.leave(self._entered)
            self._entered = None


def _enter(record: StreamRecord, used: Traffic) -> None:
    record.bytes_in, record.bytes_out = used.received, used.sent
    _enter_packets(record, used)


def _enter_packets(record: StreamRecord, used: Traffic) -> None:
    record.packets_in, record.packets_out, record.wire_bytes = used.packets_in, used.packets_out, used.wire


def traffic(connection: socket.socket, *, closing: bool = False) -> Traffic:
    """What a TCP socket has received and sent, payload once, packets each time; with its end if it is `closing`."""
    if not sys.platform.startswith("linux"):
        return _UNKNOWN
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        state, options = _STATE.unpack_from(info)
        received, packets_out, packets_in = _RECEIVED.unpack_from(info, 128)
        sent, sent_again = _SENT.unpack_from(info, 200)
        header_bytes = _IP_BYTES[socket.AddressFamily(connection.family)] + _TCP_BYTES
    except (OSError, struct.error, KeyError):  # not TCP, or a kernel before 4.19
        return _UNKNOWN
    header_bytes += _TIMESTAMP_BYTES if options & _TIMESTAMPS else 0
    received -= state in _FIN_RECEIVED
    if closing and state in _CLOSING:
        packets_in, packets_out = packets_in + _CLOSING[state][0], packets_out + _CLOSING[state][1]
    wire = received + sent + header_bytes * (packets_in + packets_out) + 2 * _SYN_BYTES
    return Traffic(received, sent - sent_again, packets_in, packets_out, wire)


NOTHING = Traffic(0, 0, 0, 0, 0)
_UNKNOWN = Traffic(None, None)

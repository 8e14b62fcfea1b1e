"""Real packets on the loopback interface, counted by nobody's estimate: a raw socket, which takes root and Linux."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

_ETH_P_IP = 0x0800
_SO_ATTACH_FILTER = 26
_HEAD_BYTES = 40
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 64 << 20  # a packet takes about a KiB in it
# <linux/filter.h>: load the half-word at k; jump if it equals k; return k bytes of the packet.
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x28, 0x15, 0x06
_SOURCE_PORT, _TARGET_PORT = 20, 22  # of TCP behind an IP header without options


class Packets(NamedTuple):
    """How many there were, and their bytes from the IP header on."""

    number: int
    size: int


def can_see_packets() -> bool:
    """Whether this process may open a raw socket."""
    return sys.platform.startswith("linux") and os.geteuid() == 0


class PacketCounter:
    """Counts what goes to and from one TCP port of this machine. Linux shows each packet of `lo` once."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
        self._only(port)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self._socket.bind(("lo", _ETH_P_IP))
        self._socket.setblocking(False)

    def _only(self, port: int) -> None:
        """Others' packets must not fill the buffer."""
        steps = [
            (_LOAD, 0, 0, _SOURCE_PORT),
            (_JUMP_IF_EQUAL, 2, 0, port),
            (_LOAD, 0, 0, _TARGET_PORT),
            (_JUMP_IF_EQUAL, 0, 1, port),
            (_RETURN, 0, 0, 0xFFFF),
            (_RETURN, 0, 0, 0),
        ]
        program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
        filter_ = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)

    def read(self) -> Packets:
        """All since the counter was made, or read."""
        count = size = 0
        while True:
            try:
                head = self._socket.recv(_HEAD_BYTES)
            except BlockingIOError:
                return Packets(count, size)
            count, size = count + 1, size + int.from_bytes(head[2:4], "big")

    def close(self) -> None:
        """Count no more."""
        self._socket.close()


@contextmanager
def counting(port: int) -> Iterator[PacketCounter]:
    """A counter of this port's packets."""
    counter = PacketCounter(port)
    try:
        yield counter
    finally:
        counter.close()

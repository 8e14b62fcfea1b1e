"""The port of the stacks: opened for a server that takes one that is open, closed for one that has opened its own."""

from __future__ import annotations

import asyncio
import socket
from asyncio.trsock import TransportSocket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Protocol

from servers.connection import CLOSE_S, QUEUED_CONNECTIONS
from servers.push import limit_stall
from servers.service import Settings


@contextmanager
def listening_socket(settings: Settings) -> Iterator[socket.socket]:
    """The server's port, with our limit for readers that take nothing. Raises OSError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.create_server((settings.host, settings.port), family=family, backlog=QUEUED_CONNECTIONS) as listener:
        limit_stall(listener)
        yield listener


def own_port(settings: Settings) -> int:
    """The port for a server that opens it by itself: the one given, if nobody has it, or a free one. Raises OSError.

    Such a server says nothing when it is ready; whoever had its port before would answer, and be taken for it.
    """
    with listening_socket(settings) as listener:
        port: int = listener.getsockname()[1]
        return port


class Listening(Protocol):
    """What listens: asyncio's own server, or the one of websockets."""

    @property
    def sockets(self) -> Iterable[socket.socket | TransportSocket]:
        """Where."""

    def close(self) -> None:
        """Take no more connections."""

    async def wait_closed(self) -> None:
        """Return when all of them are closed."""


@asynccontextmanager
async def open_until_stopped(server: Listening) -> AsyncIterator[int]:
    """The port of a server that listens by itself, with our limit for readers that take nothing.

    Who says nothing, not even its handshake, does not hold the server's stop back: what is left of the connections then
    ends with the event loop.
    """
    listeners = tuple(server.sockets)
    for listener in listeners:
        limit_stall(listener)
    try:
        yield listeners[0].getsockname()[1]
    finally:
        server.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * CLOSE_S):  # for a farewell that is to be answered, and the end behind it
                await server.wait_closed()

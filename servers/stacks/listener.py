"""The port of the stacks whose server takes one that is open."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from servers.connection import QUEUED_CONNECTIONS
from servers.push import limit_stall
from servers.service import Settings


@contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """The server's port, with our limit for readers that take nothing. Raises OSError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.create_server((settings.host, settings.port), family=family, backlog=QUEUED_CONNECTIONS) as listener:
        limit_stall(listener)
        yield listener

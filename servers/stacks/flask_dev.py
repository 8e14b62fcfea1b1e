"""Flask's development server, which is not meant for anybody but its developer: `flask run`, a thread per request.

It speaks HTTP/1.1, and closes the connection behind each answer.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from servers.service import Service
from servers.stacks.flask_gunicorn import APP
from servers.stacks.listener import own_port
from servers.stacks.worker_processes import commanded


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[int]:
    """Serve for as long as the context lasts; yields the port. Raises OSError."""
    settings = service.settings
    port = own_port(settings)
    argv = [sys.executable, "-m", "flask", "--app", APP, "run", "--host", settings.host, "--port", str(port)]
    async with commanded(service, argv, port, {}):
        yield port

"""Flask under gunicorn, with each of the workers that people choose: sync, gthread, gevent.

The numbers of workers and threads stand in the table below; GUNICORN_CMD_ARGS (gunicorn's own) overrides them, as in
`GUNICORN_CMD_ARGS="--timeout 3 --workers 2" tokenderby serve sse --stack flask-sync`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from servers.service import DRAIN_S, Service
from servers.stacks.listener import listening_socket
from servers.stacks.worker_processes import commanded

APP = "servers.stacks.flask_app:create()"
# As many as gunicorn's documentation proposes for two cores; a thread or a whole process holds one stream at a time.
WORKERS = {
    "flask-sync": "--worker-class sync --workers 5",
    "flask-gthread": "--worker-class gthread --workers 1 --threads 100",
    "flask-gevent": "--worker-class gevent --workers 1",
}
_ARGUMENTS = "GUNICORN_CMD_ARGS"


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[int]:
    """Serve for as long as the context lasts; yields the port. Raises OSError."""
    with listening_socket(service.settings) as listener:
        argv = [sys.executable, "-m", "gunicorn", "--bind", f"fd://{listener.fileno()}", APP]
        environment = {_ARGUMENTS: f"{_arguments(service)} {os.environ.get(_ARGUMENTS, '')}"}
        port: int = listener.getsockname()[1]
        async with commanded(service, argv, port, environment, fds=[listener.fileno()]):
            yield port


def _arguments(service: Service) -> str:
    keep_alive_s = max(1, round(service.settings.keep_alive_s))
    shared = f"--graceful-timeout {round(DRAIN_S)} --keep-alive {keep_alive_s} --no-control-socket --log-level warning"
    return f"{WORKERS[service.settings.stack or '']} {shared}"

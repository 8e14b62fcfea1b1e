"""Real server processes for tests."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from support.programs import program


def has_ipv6() -> bool:
    """Whether this machine has the loopback address ::1."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@dataclass
class RunningServer:
    """A server process that has said it is ready."""

    transport: str
    url: str
    process: subprocess.Popen[str]

    def get(self, path: str) -> Any:
        """The JSON body of a GET."""
        with urllib.request.urlopen(self.url + path, timeout=10) as response:
            return json.load(response)

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 10) -> int:
        """End it; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)


@contextlib.contextmanager
def running_server(transport: str, *options: str) -> Iterator[RunningServer]:
    """`python -m servers TRANSPORT`, ready to be asked."""
    if transport == "polling" and "--redis-url" not in options:
        program("redis")
    process = subprocess.Popen(
        [sys.executable, "-m", "servers", transport, *options],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        ready = json.loads(process.stdout.readline())
        assert ready["transport"] == transport
        yield RunningServer(transport, ready["url"], process)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(10)
        process.stdout.close()


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    """Return when `condition` holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)

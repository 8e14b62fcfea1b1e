"""A process of its own for everything that is measured: on chosen cores, with its JSON lines, its CPU time, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import Any

import msgspec
import psutil

from bench.running.machine import cpu_seconds
from servers.user_errors import UserError

READY_S = 30.0  # an interpreter and its imports, on a busy machine
MAX_LINE_BYTES = 1 << 20
GRACE_S = 10.0  # a server lets its answers go on for some seconds after SIGTERM


class ChildError(UserError):
    """A child ended, or said nothing, when it was needed."""


class MeasuredChild:
    """A running process. `name` is for messages."""

    def __init__(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self._process = process
        self._told_to_end = False

    def line(self, limit_s: float = READY_S) -> dict[str, Any]:
        """The next line of its output, a JSON object. Raises ChildError; it is killed if none comes in `limit_s`."""
        assert self._process.stdout is not None
        deadline_s = time.monotonic() + limit_s
        timer = Timer(max(0.0, limit_s), self.kill)
        timer.start()
        try:
            text = self._process.stdout.readline(MAX_LINE_BYTES)
        finally:
            timer.cancel()
        try:
            return dict(msgspec.json.decode(text))
        except (msgspec.DecodeError, TypeError, ValueError):
            silent = "ended" if time.monotonic() < deadline_s else f"said nothing for {limit_s:.0f} s"
            said = f"said {text[:200]!r}" if text else silent
            raise ChildError(f"{self.name} {said}") from None

    def line_with(self, key: str, limit_s: float = READY_S) -> dict[str, Any]:
        """The next line that has `key`; those before it are passed over. Raises ChildError."""
        deadline_s = time.monotonic() + limit_s
        while True:
            line = self.line(deadline_s - time.monotonic())
            if key in line:
                return line

    def cpu_s(self) -> float:
        """CPU seconds so far, with what it started (a Redis); where /proc alone tells them, in steps of 10 ms.

        Raises ChildError if it has gone.
        """
        with suppress(psutil.Error):
            spent = [cpu_seconds(part) for part in self._parts()]
            if spent[0] is not None:
                return sum(part or 0.0 for part in spent)
        raise ChildError(f"{self.name} has gone")

    def rss_bytes(self) -> int:
        """The memory in use, with what it started; pages that they share count in each. Raises ChildError."""
        try:
            return sum(part.memory_info().rss for part in self._parts())
        except psutil.Error as error:
            raise ChildError(f"{self.name} has gone") from error

    def _parts(self) -> list[psutil.Process]:
        process = psutil.Process(self._process.pid)
        return [process, *process.children(recursive=True)]

    def terminate(self) -> None:
        """Ask it to end, once: a second SIGTERM would cut its farewell short. What it still says can be read."""
        if not self._told_to_end:
            self._told_to_end = True
            self._process.terminate()

    def stop(self) -> None:
        """End it and whatever it started: politely, then not."""
        self.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)
        self.kill()
        self._process.wait()

    def kill(self) -> None:
        """End its whole group at once."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


@contextmanager
def running(
    module: str,
    *arguments: str,
    cores: Sequence[int] = (),
    standard_input: bytes = b"",
    profile: Path | None = None,
) -> Iterator[MeasuredChild]:
    """`python -m MODULE ARGUMENTS` on `cores` (any, if empty), until the context ends.

    `profile`: run it under cProfile, which writes this file when the process ends.
    """
    program = ["-m", "bench.selfcost.profiled_module", str(profile), module] if profile else ["-m", module]
    pinned = ",".join(map(str, cores)) or "-"
    tied = ["-m", "bench.running.child", str(os.getpid()), pinned, "--", sys.executable, *program, *arguments]
    with subprocess.Popen(
        [sys.executable, *tied],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # so that it can be ended with whatever it started
    ) as process:
        child = MeasuredChild(f"{module} {' '.join(arguments)}".strip(), process)
        try:
            assert process.stdin is not None
            with suppress(BrokenPipeError), process.stdin:
                process.stdin.write(standard_input)
            yield child
        finally:
            child.stop()

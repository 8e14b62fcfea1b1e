"""The run's processes: started in a group of their own, watched, and stopped whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from servers.process import how_ended

NO_SECRETS: Mapping[str, str] = {}
GRACE_S = 6.0  # a server ends its streams within 5 s of SIGTERM


class PartDied(Exception):
    """A process of the run ended, or never began, when it was needed. The message: what, how, its last words."""


class Child:
    """A process of ours. Its standard error goes to the file `log`, its standard output is `process.stdout`.

    What stands in `log` before `log_begin` is another's.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path, log_begin: int) -> None:
        self.name = name
        self.process = process
        self.log = log
        self._log_begin = log_begin

    @classmethod
    async def start(
        cls,
        name: str,
        argv: Sequence[str],
        log: Path,
        cpus: Sequence[int] = (),
        secrets: Mapping[str, str] = NO_SECRETS,
    ) -> Child:
        """Run `argv` on the cores `cpus` (any, if empty). `secrets` go into its environment, which others cannot read.

        Raises OSError.
        """
        pinned = ",".join(map(str, cpus)) or "-"
        tied = [sys.executable, "-m", "bench.running.child", str(os.getpid()), pinned, "--", *argv]
        with log.open("ab") as errors:
            log_begin = errors.tell()
            process = await asyncio.create_subprocess_exec(
                *tied,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=os.environ | secrets,
                start_new_session=True,  # Ctrl-C is the runner's to handle, and stragglers can be killed as a group
            )
        return cls(name, process, log, log_begin)

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.returncode is None

    async def died(self) -> PartDied:
        """Wait until it ends, and say how."""
        await self.process.wait()
        return self.obituary()

    def obituary(self) -> PartDied:
        """How it ended, and the last lines of its standard error."""
        return PartDied(f"the {self.name} {how_ended(self.process.returncode)}{self._last_words()}")

    def _last_words(self, lines: int = 3) -> str:
        with contextlib.suppress(OSError):
            text = self.log.read_bytes()[self._log_begin :][-4096:].decode("utf-8", "replace")
            last = [line.strip() for line in text.splitlines() if line.strip()][-lines:]
            return ": " + " | ".join(last) if last else ""
        return ""

    async def stop(self) -> None:
        """End it and whatever it started: politely, then not."""
        try:
            if self.alive:
                with contextlib.suppress(ProcessLookupError):
                    self.process.terminate()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GRACE_S):
                        await self.process.wait()
        finally:
            await self.end()

    async def end(self) -> None:
        """End all of it at once, and see it gone: else its pipes outlive the event loop, which complains."""
        self.kill()
        await self.process.wait()

    def kill(self) -> None:
        """Tell its whole group to end at once, and what else it has started: a browser and Redis have own groups.

        These end with their parent, unless they are stopped or hang.
        """
        below = self._below()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for process in below:
            with contextlib.suppress(psutil.Error):
                process.kill()

    def _below(self) -> list[psutil.Process]:
        below: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            if self.alive:
                below = psutil.Process(self.process.pid).children(recursive=True)
        return below

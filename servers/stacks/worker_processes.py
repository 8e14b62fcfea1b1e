"""What the stacks share that run as a command of their own, with worker processes: begun, awaited, and ended whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import psutil

from servers.connection import CLOSE_S
from servers.own_folder import own_folder
from servers.process import how_ended
from servers.redis_server import end_with_parent
from servers.service import DRAIN_S, Service
from servers.stacks.ready import until_ready
from servers.stacks.worker import SETTINGS, WorkerSettings, forget_expired
from servers.user_errors import UserError

FOLDER_PREFIX = "tokenderby-stack-"
GRACE_S = DRAIN_S + CLOSE_S
_SWEEP_S = 5.0


@asynccontextmanager
async def commanded(
    service: Service, argv: Sequence[str], port: int, environment: Mapping[str, str], fds: Sequence[int] = ()
) -> AsyncIterator[int]:
    """Run the server `argv`, which listens at `port`, for as long as the context lasts; yields the port.

    It gets the open files `fds`. Raises OSError if it does not begin to serve, UserError when it ends by itself.
    """
    with own_folder(FOLDER_PREFIX) as folder:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sys.stderr,  # ours says where we listen
            env=os.environ | environment | _told(service, folder),
            pass_fds=tuple(fds),
            preexec_fn=end_with_parent if sys.platform == "linux" else None,
        )
        sweeping = asyncio.create_task(_sweep(folder, service.settings.keep_s))
        try:
            await until_ready(service.settings.host, port, lambda: process.returncode is None)
            async with _as_long_as(process):
                yield port
        finally:
            sweeping.cancel()
            await _end(process)


@asynccontextmanager
async def _as_long_as(process: Process) -> AsyncIterator[None]:
    """Cancel what is done in this context when `process` ends by itself: nobody serves any more. Raises UserError."""
    owner = asyncio.current_task()
    assert owner is not None
    watching = asyncio.create_task(process.wait())
    watching.add_done_callback(lambda ended: ended.cancelled() or owner.cancel())
    try:
        yield
    except asyncio.CancelledError:
        if not watching.done():
            raise
        owner.uncancel()
        raise UserError(f"the stack's own server {how_ended(watching.result())}; its log says more") from None
    finally:
        watching.cancel()


def _told(service: Service, folder: Path) -> dict[str, str]:
    settings = service.settings
    told = WorkerSettings(
        transport=settings.transport,
        stack=settings.stack or "",
        folder=str(folder),
        main_pid=os.getpid(),
        started_ns=time.monotonic_ns(),
        keep_s=settings.keep_s,
        raw_text=settings.raw_text,
        recordings=settings.recordings,
    )
    return {SETTINGS: msgspec.json.encode(told).decode(), "TOKENDERBY_AUTH_TOKEN": settings.auth_token or ""}


async def _sweep(folder: Path, keep_s: float) -> None:
    while True:
        await asyncio.sleep(min(keep_s + 0.1, _SWEEP_S))
        forget_expired(folder, keep_s)


async def _end(process: Process) -> None:
    """Ask it to end, and its workers with it; kill what has not after its grace."""
    with contextlib.suppress(psutil.Error):
        below = psutil.Process(process.pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await process.wait()
        _kill(below)
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await process.wait()


def _kill(processes: Sequence[psutil.Process]) -> None:
    for left in processes:
        with contextlib.suppress(psutil.Error):
            left.kill()

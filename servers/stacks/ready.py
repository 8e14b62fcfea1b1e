"""Waits until a server that does not say when it is ready answers its open probe."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import aiohttp

READY_S = 20.0
_ASK_S = 1.0  # a port that is open takes a question also where nobody will ever answer it
_LOOK_S = 0.05


async def until_ready(host: str, port: int, lives: Callable[[], bool]) -> None:
    """Return when /healthz is answered. Raises OSError if it is not in time, or if `lives` says no before."""
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/healthz"
    deadline = time.monotonic() + READY_S
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ASK_S)) as http:
        while lives() and time.monotonic() < deadline:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with http.get(url):
                    return
            await asyncio.sleep(_LOOK_S)
    became = f"did not answer within {READY_S:g} s" if lives() else "ended before it began to serve"
    raise OSError(f"the stack's own server {became}; its log says more")

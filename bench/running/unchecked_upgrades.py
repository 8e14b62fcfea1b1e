"""The story's question about access: does a WebSocket upgrade without a token pass where a request is refused?"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterable
from pathlib import Path

import aiohttp

from bench.running.endpoints import ready_child
from bench.running.processes import PartDied
from servers.stacks import STACKS

ASKED = ("fastapi-http-middleware", "fastapi")  # the check as HTTP middleware, and as a dependency


async def ask_without_token(
    http: aiohttp.ClientSession, logs: Path, names: Iterable[str] = ASKED
) -> dict[str, dict[str, int]]:
    """The status that a request and an upgrade without a token get from each stack; those not installed are left out.

    Raises PartDied, OSError.
    """
    return {name: await _ask(http, logs, name) for name in names if not STACKS[name].missing}


async def _ask(http: aiohttp.ClientSession, logs: Path, stack: str) -> dict[str, int]:
    argv = [sys.executable, "-m", "servers", "websocket", "--stack", stack]
    secret = {"TOKENDERBY_AUTH_TOKEN": secrets.token_urlsafe()}
    child, ready = await ready_child(f"websocket server ({stack})", argv, logs / f"upgrade-{stack}.log", [], secret)
    try:
        async with http.get(f"{ready.url}/stats") as response:
            return {"request": response.status, "upgrade": await _upgrade(http, ready.url)}
    except (aiohttp.ClientError, TimeoutError) as error:
        raise PartDied(f"the {child.name} does not answer: {error}") from None
    finally:
        await child.stop()


async def _upgrade(http: aiohttp.ClientSession, url: str) -> int:
    try:
        async with http.ws_connect(f"{url}/chat"):
            return 101
    except aiohttp.WSServerHandshakeError as error:
        return error.status

"""Servers and a Redis that run already: whether they are what they are said to be, and still the same processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from redis.asyncio import Redis
from redis.exceptions import RedisError

_ASK_AGAIN_S = 0.5


async def check_target(http: aiohttp.ClientSession, transport: str, url: str, patience_s: float = 0.0) -> str | None:
    """What is wrong with a server that is said to run at `url`, in words; None if it is as it should be.

    A server that does not answer yet is given `patience_s`.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            async with http.get(f"{url.rstrip('/')}/healthz") as response:
                found = (await response.json(content_type=None)).get("transport") if response.status == 200 else None
            return None if found == transport else f"the server at {url} says that it is {found or 'none of ours'}"
        except (aiohttp.ClientError, TimeoutError, ValueError, AttributeError) as error:
            if time.monotonic() > deadline:
                return f"no server of ours answers at {url} ({error or type(error).__name__})"
        await asyncio.sleep(_ASK_AGAIN_S)


@dataclass(frozen=True)
class RedisReading:
    """What a Redis that is not ours says of itself; None where it does not answer."""

    cpu_s: float | None = None
    run_id: str | None = None

    @classmethod
    async def take(cls, redis: Redis) -> RedisReading:
        """Ask now."""
        try:
            info: Mapping[str, float | str] = await redis.info("everything")
        except (RedisError, OSError):
            return cls()
        return cls(float(info["used_cpu_sys"]) + float(info["used_cpu_user"]), str(info["run_id"]))

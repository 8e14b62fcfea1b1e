"""When a silence in an answer is cut, seen through what stands in front of a server."""

from __future__ import annotations

import asyncio

from bench.probe.channel import Channel, Talk
from bench.probe.deployment import Deployment
from bench.probe.streams import silent

TIMES = 3
SPARE_S = 10.0


async def cut_s(place: Deployment, transport: str, silence_s: float) -> float:
    """From the request to the cut of a silence of `silence_s`, the shortest of three: a busy machine is late only."""
    return min(await asyncio.gather(*(_cut_s(place, transport, silence_s) for _ in range(TIMES))))


async def _cut_s(place: Deployment, transport: str, silence_s: float) -> float:
    async with Channel(place, transport) as channel:
        heard = await channel.talk(Talk(silent(silence_s), silence_s + SPARE_S))
        assert heard.ending in ("fin", "end"), f"{transport}: {heard.ending} {heard.detail}"
        return (heard.ended_ns - heard.asked_ns) / 1e9

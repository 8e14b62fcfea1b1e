"""Connections on which nobody asks: half of them bare, half with one request (or an upgrade) behind them."""

from __future__ import annotations

import asyncio

from bench.soak.bounds import MemoryBound
from bench.soak.scenario import Scenario
from bench.soak.scripts import PROBE, UPGRADE, SoakScript
from bench.soak.subject import Subject
from bench.soak.users import not_served
from bench.soak.visitors import crowd

_HOLD_S = 2.0


class IdleConnections(Scenario):
    """All are held at once, and others are served meanwhile."""

    name = "idle"
    connections, quick = 10_000, 300
    expected_s = 14.0
    needs_descriptors = True
    bound = MemoryBound(held_kib_each=24, held_mib=32, kept_mib=128)

    async def load(self, under: Subject, connections: int, *, is_quick: bool) -> list[str]:
        """Open, hold, let another user ask, close."""
        transport = under.transport
        async with crowd(under.address, connections, lambda number: self.parting(transport, number)) as (_, failures):
            await asyncio.sleep(_HOLD_S)
            broken = [f"{count} connections could not be opened: {word}" for word, count in failures.items()]
            return broken + await not_served(under, "beside idle connections")

    def parting(self, transport: str, number: int) -> SoakScript:
        """One half has said nothing, the other has asked for something small."""
        first = UPGRADE if transport == "websocket" else PROBE
        return SoakScript((first,)) if number % 2 else SoakScript()

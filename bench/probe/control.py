"""The control connection: short streams that talk all the time tell a cut from a restart or a bad network."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic_ns

import msgspec

from bench.probe.channel import Channel, Talk
from bench.probe.deployment import Deployment
from bench.probe.finding import NO_CUT
from bench.probe.streams import talking
from clients.core.http1 import Request
from servers.messages import NOT_JSON

CYCLES = 60
"""So many short streams fit into the longest silence that is tried: shorter than any limit worth finding."""
GRACE_S = 3.0


class _Stats(msgspec.Struct, frozen=True):
    now_ns: int
    started_ns: int


@dataclass
class Control:
    """Watches one transport's server for as long as a probe lasts.

    whole: how many short streams came whole
    disturbances: when something was wrong, as (from, to) in CLOCK_MONOTONIC ns
    """

    deployment: Deployment
    transport: str
    up_to_s: float
    whole: int = 0
    disturbances: list[tuple[int, int]] = field(default_factory=list)
    _is_running: bool = False
    _next_end: asyncio.Event = field(default_factory=asyncio.Event)  # of a short stream
    _calm: asyncio.Event = field(default_factory=asyncio.Event)
    _began_ns: int = field(default_factory=monotonic_ns)
    _fine_ns: int = field(default_factory=monotonic_ns)  # until when nothing was wrong

    @property
    def is_usable(self) -> bool:
        """Whether it tells anything: where short streams fail as a rule, that is no disturbance."""
        return len(self.disturbances) < self.whole

    def disturbed(self, from_ns: int, to_ns: int) -> bool:
        """Whether something was wrong in that time that was none of the questions' doing."""
        return self.is_usable and any(began < to_ns and from_ns < ended for began, ended in self._wider())

    async def settle(self) -> bool:
        """Return when it is known of this moment whether something was wrong: a short stream has ended after it.

        False where none does in time, so that nothing is known.
        """
        if self._is_running:
            patience_s = 2 * (self._cycle_s + GRACE_S)
            try:
                await asyncio.wait_for(self._next_end.wait(), patience_s)
            except TimeoutError:
                return False
            if not self.is_usable:  # by now: of a disturbance that came early, only what follows says that it was one
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._calm.wait(), patience_s)
        return True

    @property
    def settling_s(self) -> float:
        """How long `settle` takes where all is well: a short stream, and the pause before it."""
        return 1.5 * self._cycle_s if self._is_running else 0.0

    async def calm(self, limit_s: float) -> None:
        """Return when all is well again, or at the limit."""
        if self.is_usable:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._calm.wait(), limit_s)

    def _wider(self) -> list[tuple[int, int]]:
        """A cut is seen here and there within a token's time."""
        slack_ns = round(self._every_s * 2e9)
        return [(began - slack_ns, ended + slack_ns) for began, ended in self.disturbances]

    @property
    def _cycle_s(self) -> float:
        return min(10.0, max(0.2, self.up_to_s / CYCLES))

    @property
    def _every_s(self) -> float:
        return self._cycle_s / 5

    async def run(self) -> None:
        """Watch until cancelled, where the first look came whole: it is the first of the short streams that did."""
        self._is_running = True
        self.whole += 1
        while True:
            began_ns = monotonic_ns()
            await self._cycle()
            ended, self._next_end = self._next_end, asyncio.Event()
            ended.set()
            await asyncio.sleep(max(0.0, self._cycle_s / 4 - (monotonic_ns() - began_ns) / 1e9))

    async def _cycle(self) -> None:
        talk = Talk(talking(self._every_s, self._cycle_s), self._cycle_s + self._every_s + GRACE_S)
        # No slot: one that waited for a question's connection would see nothing meanwhile.
        async with Channel(self.deployment, self.transport, needs_slot=False) as channel:
            heard = await channel.talk(talk)
            whole = heard.ending == NO_CUT
            restarted = whole and await self._has_restarted(channel)
        if restarted or not whole:
            self._enter()
        if whole:
            self.whole += 1
            self._fine_ns = monotonic_ns()
            self._calm.set()
        else:
            self._calm.clear()

    def _enter(self) -> None:
        """Something was wrong since all was well; what failed before it was well again is the same disturbance."""
        if self.disturbances and self.disturbances[-1][1] >= self._fine_ns:
            self.disturbances.pop()
        self.disturbances.append((self._fine_ns, monotonic_ns()))

    async def _has_restarted(self, channel: Channel) -> bool:
        """Whether the server's process is younger than the probe, and than the last look."""
        heard = await channel.ask(Request("GET", "/stats"), GRACE_S)
        try:
            stats = msgspec.json.decode(bytes(heard.body), type=_Stats)
        except NOT_JSON:
            return False
        started_ns = monotonic_ns() - (stats.now_ns - stats.started_ns)
        return started_ns > max(self._began_ns, self._fine_ns)

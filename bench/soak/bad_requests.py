"""Requests that are wrong, each on a connection of its own: refused in words, and no news for the log."""

from __future__ import annotations

import asyncio
from collections import Counter

from bench.soak.bounds import ANSWER_S, MemoryBound
from bench.soak.scenario import Scenario
from bench.soak.scripts import HALF_A_HEAD, SoakScript, bad_request, refusal_fault
from bench.soak.subject import Subject
from bench.soak.users import not_served
from bench.soak.visitors import in_turn, visit


class BadRequests(Scenario):
    """A dozen kinds in turn, and one in a hundred large, such as a packed body that unpacks to 64 MiB."""

    name = "bad"
    connections, quick = 10_000, 300
    expected_s = 9.0
    bound = MemoryBound(held_kib_each=0, held_mib=96, kept_mib=48)

    async def load(self, under: Subject, connections: int, *, is_quick: bool) -> list[str]:
        """Send them, 200 at once, and look at each answer."""
        wrong: Counter[str] = Counter()
        started = (await under.stats()).streams_started

        async def send(number: int) -> None:
            name, script = bad_request(under.transport, number)
            visitor = await visit(under.address, script)
            try:
                async with asyncio.timeout(2 * ANSWER_S):
                    await visitor.ended
            except TimeoutError:
                wrong[f"{name}: not closed after {2 * ANSWER_S:g} s"] += 1
            finally:
                visitor.reset()
                await visitor.ended
            if fault := refusal_fault(name, visitor.received):
                wrong[f"{name}: {fault}"] += 1

        loading = asyncio.create_task(in_turn(connections, send))
        try:
            broken = await not_served(under, "beside bad requests")
            failures = await loading
        finally:
            loading.cancel()
        broken += [f"{count} requests could not be sent: {word}" for word, count in failures.items()]
        if began := (await under.stats()).streams_started - started - 1:  # the other user's
            broken.append(f"{began} answers were begun by bad requests")
        return broken + [f"{what} ({count} times)" for what, count in wrong.most_common()]

    def parting(self, transport: str, number: int) -> SoakScript:
        """Half a head, and nothing more."""
        return SoakScript((HALF_A_HEAD,))

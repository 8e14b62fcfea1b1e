"""Many known intermediaries, probed side by side: of each first what it does to streams, then its limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import msgspec

from bench.probe.deployment import Deployment
from bench.probe.engine import Engine
from bench.probe.finding import Findings
from bench.probe.question import all_questions
from bench.proxy.rule import Rule
from bench.proxy.serve import Proxy
from servers.process import run

SIDE_BY_SIDE = 6
"""So many on one core: each costs about a twentieth of one, and what a busy core is late with looks like a limit."""
SHAPES_ONLY = frozenset({"chunked"})
"""Its content type is another one, which may be treated in another way; its limits are those of SSE."""

ServerAddress = tuple[str, int]


def sweep(
    cases: Mapping[str, Sequence[Rule]],
    servers: Mapping[str, ServerAddress],
    up_to_s: float,
    at_once: int = SIDE_BY_SIDE,
) -> dict[str, Findings]:
    """The findings for each set of rules, each behind an emulated intermediary of its own."""
    return run(_sweep(cases, servers, up_to_s, at_once))


async def _sweep(
    cases: Mapping[str, Sequence[Rule]], servers: Mapping[str, ServerAddress], up_to_s: float, at_once: int
) -> dict[str, Findings]:
    async with AsyncExitStack() as stack:
        places = {name: await stack.enter_async_context(behind(rules, servers)) for name, rules in cases.items()}
        return await probe_all(places, up_to_s, at_once)


@asynccontextmanager
async def behind(rules: Sequence[Rule], servers: Mapping[str, ServerAddress]) -> AsyncIterator[Deployment]:
    """The servers behind an emulated intermediary, one for each transport."""
    async with AsyncExitStack() as stack:
        urls = {}
        for transport, address in servers.items():
            host, port = (await stack.enter_async_context(Proxy(address, rules))).address
            urls[transport] = f"http://{host}:{port}"
        yield Deployment(urls)


async def probe_all(places: Mapping[str, Deployment], up_to_s: float, at_once: int) -> dict[str, Findings]:
    """Every deployment probed, so many at a time."""
    free = asyncio.Semaphore(at_once)

    async def probe(place: Deployment) -> Findings:
        async with free:
            return await _probe_one(place, up_to_s)

    return dict(zip(places, await asyncio.gather(*map(probe, places.values())), strict=True))


async def _probe_one(place: Deployment, up_to_s: float) -> Findings:
    """Shapes first: streams of many tokens would make the machine late for the times."""
    shapes = [question for question in all_questions().values() if question.group == "shape" and not question.needs]
    known = await Engine(place, up_to_s, chosen=shapes).run()
    fewer = replace(place, urls={name: url for name, url in place.urls.items() if name not in SHAPES_ONLY})
    found = await Engine(fewer, up_to_s, kept=known).run()
    others = tuple(each for each in known.findings if each.transport in SHAPES_ONLY)
    return msgspec.structs.replace(found, urls=dict(place.urls), findings=(*found.findings, *others))

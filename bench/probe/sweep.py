"""Many known intermediaries, probed side by side: of each first what it does to streams, then its limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec

from bench.probe.deployment import Deployment
from bench.probe.engine import Engine
from bench.probe.finding import Findings
from bench.probe.question import questions
from bench.proxy.rule import Rule
from bench.proxy.serve import Proxy
from servers.process import run

APART_S = 0.75
"""So much later begins each probe than the one before: the shapes of many streams at once would keep a core busy."""
SHAPES_ONLY = frozenset({"chunked"})
"""Its content type is another one, which may be treated in another way; its limits are those of SSE."""

Address = tuple[str, int]


def sweep(cases: Mapping[str, Sequence[Rule]], servers: Mapping[str, Address], up_to_s: float) -> dict[str, Findings]:
    """The findings for each set of rules, each behind an emulated intermediary of its own."""
    return run(_sweep(cases, servers, up_to_s))


async def _sweep(
    cases: Mapping[str, Sequence[Rule]], servers: Mapping[str, Address], up_to_s: float
) -> dict[str, Findings]:
    async with AsyncExitStack() as stack:
        places = {name: await stack.enter_async_context(behind(rules, servers)) for name, rules in cases.items()}
        return await probe_all(places, up_to_s)


@asynccontextmanager
async def behind(rules: Sequence[Rule], servers: Mapping[str, Address]) -> AsyncIterator[Deployment]:
    """The servers behind an emulated intermediary, one for each transport."""
    async with AsyncExitStack() as stack:
        urls = {}
        for transport, address in servers.items():
            host, port = (await stack.enter_async_context(Proxy(address, rules))).address
            urls[transport] = f"http://{host}:{port}"
        yield Deployment(urls)


async def probe_all(places: Mapping[str, Deployment], up_to_s: float) -> dict[str, Findings]:
    """Every deployment probed, all side by side."""
    probes = (_probe_one(place, up_to_s, APART_S * k) for k, place in enumerate(places.values()))
    return dict(zip(places, await asyncio.gather(*probes), strict=True))


async def _probe_one(place: Deployment, up_to_s: float, after_s: float) -> Findings:
    """Shapes first: streams of many tokens would make the machine late for the times."""
    await asyncio.sleep(after_s)
    shapes = [question for question in questions().values() if question.group == "shape" and not question.needs]
    known = await Engine(place, up_to_s, chosen=shapes).run()
    fewer = Deployment({name: url for name, url in place.urls.items() if name not in SHAPES_ONLY})
    found = await Engine(fewer, up_to_s, kept=known).run()
    others = tuple(each for each in known.findings if each.transport in SHAPES_ONLY)
    return msgspec.structs.replace(found, urls=dict(place.urls), findings=(*found.findings, *others))

"""Many known intermediaries, probed side by side: first what they do to streams, then their limits.

The two are not asked at once: streams of many tokens would make the machine late for the times.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from bench.probe.deployment import Deployment
from bench.probe.engine import Engine
from bench.probe.finding import Findings
from bench.probe.question import questions
from bench.proxy.rule import Rule
from bench.proxy.serve import Proxy
from servers.process import run

SIDE_BY_SIDE = 4
"""So many are asked about shapes at once; about their limits all are."""

Address = tuple[str, int]


def sweep(cases: Mapping[str, Sequence[Rule]], servers: Mapping[str, Address], up_to_s: float) -> dict[str, Findings]:
    """The findings for each set of rules, each behind an emulated intermediary of its own."""
    return run(_sweep(cases, servers, up_to_s))


async def _sweep(
    cases: Mapping[str, Sequence[Rule]], servers: Mapping[str, Address], up_to_s: float
) -> dict[str, Findings]:
    async with AsyncExitStack() as stack:
        deployments = {name: await stack.enter_async_context(behind(rules, servers)) for name, rules in cases.items()}
        return await probe_all(deployments, up_to_s)


@asynccontextmanager
async def behind(rules: Sequence[Rule], servers: Mapping[str, Address]) -> AsyncIterator[Deployment]:
    """The servers behind an emulated intermediary, one for each transport."""
    async with AsyncExitStack() as stack:
        urls = {}
        for transport, address in servers.items():
            host, port = (await stack.enter_async_context(Proxy(address, rules))).address
            urls[transport] = f"http://{host}:{port}"
        yield Deployment(urls)


async def probe_all(deployments: Mapping[str, Deployment], up_to_s: float) -> dict[str, Findings]:
    """Every deployment probed."""
    few = asyncio.Semaphore(SIDE_BY_SIDE)
    shapes = [question for question in questions().values() if question.group == "shape" and not question.needs]

    async def shape(deployment: Deployment) -> Findings:
        async with few:
            return await Engine(deployment, up_to_s, chosen=shapes).run()

    kept = await asyncio.gather(*map(shape, deployments.values()))
    pairs = zip(deployments.values(), kept, strict=True)
    found = await asyncio.gather(*(Engine(deployment, up_to_s, kept=known).run() for deployment, known in pairs))
    return dict(zip(deployments, found, strict=True))

"""What the way adds to a response's head, and what it changes there."""

from __future__ import annotations

import asyncio

from bench.probe.asking import Asking
from bench.probe.channel import Heard
from bench.probe.finding import Finding
from bench.probe.question import ProbeQuestion
from bench.probe.shape_streams import LIMIT_S, TIMES
from clients.core.http1 import Request
from servers.transport import TRANSPORTS

OURS = {"content-type", "content-length", "date", "cache-control", "connection", "keep-alive", "transfer-encoding"}
"""What our servers say at `/healthz`, or HTTP itself (RFC 9112), beside `server`."""
OUR_SERVER = "aiohttp"
MAX_SHOWN = 20


async def _ask(asking: Asking) -> Finding:
    heard = [each for each in await asyncio.gather(*(_healthz(asking) for _ in range(TIMES))) if each.status == 200]
    if not heard:
        return Finding(question="headers", transport=asking.transport, words="/healthz did not answer 200")
    common = set.intersection(*(set(each.headers) for each in heard))
    added = sorted(common - OURS - {"server", "set-cookie"})[:MAX_SHOWN]
    server = heard[0].headers.get("server", "")
    facts = {
        "added": {name: heard[0].headers[name][:200] for name in added},
        "server": "" if OUR_SERVER in server else server[:200],
        "cookies": sorted({cookie for each in heard for cookie in cookie_names(each)})[:MAX_SHOWN],
        "cache_control": heard[0].headers.get("cache-control", "")[:200],
    }
    words = [f"adds {', '.join(added)}"] if added else []
    words += [f"calls itself {facts['server']}"] if facts["server"] else []
    words += [f"sets the cookies {', '.join(facts['cookies'])}"] if facts["cookies"] else []
    return Finding(
        question="headers",
        transport=asking.transport,
        value=len(added) + bool(facts["server"]) + len(facts["cookies"]),
        seen=len(heard),
        words="; ".join(words) or "nothing is added or changed",
        facts=facts,
    )


async def _healthz(asking: Asking) -> Heard:
    async with asking.channel() as channel:
        return await channel.ask(Request("GET", "/healthz"), LIMIT_S)


def cookie_names(heard: Heard) -> list[str]:
    """The cookies that a response sets; several fields come joined, and a name stands before the first `=`."""
    parts = heard.headers.get("set-cookie", "").split(", ")
    return [part.partition("=")[0].strip()[:60] for part in parts if "=" in part.partition(";")[0]]


QUESTIONS = (
    ProbeQuestion(
        "headers", "Which headers are added?", "shape", tuple(TRANSPORTS), TIMES, lambda _: 1.0, _ask, once=True
    ),
)

"""Is there one server or are there several, and does a client stay with the same one?

Each of our processes tells at `/stats` when it was started, which is another number for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from bench.probe.asking import Asking
from bench.probe.channel import Heard
from bench.probe.finding import Finding
from bench.probe.question import ProbeQuestion
from bench.probe.shape_streams import LIMIT_S
from clients.core.http1 import Request
from servers.messages import NOT_JSON
from servers.transport import TRANSPORTS

CONNECTIONS = 12
"""With two servers that are chosen by chance, one alone is seen once in 2048 times."""


class _Stats(msgspec.Struct, frozen=True):
    started_ns: int


async def _ask(asking: Asking) -> Finding:
    first = await _look(asking, {})
    servers = {server for server, _ in first}
    cookies = next((cookie for _, cookie in first if cookie), "")
    facts = {"servers": len(servers), "cookie": cookies.partition("=")[0][:60], "sticky_by_cookie": None}
    if not servers:
        return Finding(question="stickiness", transport=asking.transport, words="/stats did not answer")
    if len(servers) > 1 and cookies:
        chosen = next(server for server, cookie in first if cookie == cookies)
        facts["sticky_by_cookie"] = {server for server, _ in await _look(asking, {"Cookie": cookies})} == {chosen}
    return Finding(
        question="stickiness",
        transport=asking.transport,
        value=len(servers),
        seen=len(first),
        words=_words(len(servers), len(first), facts["sticky_by_cookie"]),
        facts=facts,
    )


def _words(servers: int, answered: int, by_cookie: object) -> str:
    if servers == 1:
        none = "" if answered == CONNECTIONS else f" ({CONNECTIONS - answered} others had no answer)"
        return f"{answered} connection{'s' * (answered > 1)} reached the same server{none}"
    kept = {None: "and no cookie keeps a client with one", True: "a cookie keeps a client with one"}
    return f"{servers} servers, {kept.get(by_cookie, 'and the cookie does not keep a client with one')}"  # type: ignore[call-overload]


async def _look(asking: Asking, headers: Mapping[str, str]) -> list[tuple[int, str]]:
    """Which server each of a dozen new connections reaches, and the cookie that it was given."""
    heard = await asyncio.gather(*(_stats(asking, headers) for _ in range(CONNECTIONS)))
    found = []
    for each in heard:
        try:
            server = msgspec.json.decode(bytes(each.body), type=_Stats).started_ns
        except NOT_JSON:
            continue
        found.append((server, each.headers.get("set-cookie", "").partition(";")[0]))
    return found


async def _stats(asking: Asking, headers: Mapping[str, str]) -> Heard:
    async with asking.channel() as channel:
        return await channel.ask(Request("GET", "/stats", headers), LIMIT_S)


QUESTIONS = (
    ProbeQuestion(
        *("stickiness", "How many servers are there?", "shape", tuple(TRANSPORTS), CONNECTIONS),
        lambda _: 1.0,
        _ask,
        once=True,
    ),
)

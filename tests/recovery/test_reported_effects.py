"""What users report of intermediaries, with our real servers and clients: each effect as they tell it, scaled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from secrets import token_hex
from urllib.parse import urlsplit

import pytest
from support.asking import question
from support.processes import RunningServer, running_server

from bench.proxy import profile as profiles
from bench.proxy.behaviours import HeadHoldback
from bench.proxy.rule import Rule
from bench.proxy.serve import Proxy
from clients.core.record import Outcome, StreamRecord
from clients.core.settings import ClientSettings
from clients.drivers.aio import AioClient
from servers.stream import StreamSpec, build
from servers.transport import HEAD_FIRST

SCALE = 50.0
THINKING = {"ttft_ms": 40_000 / SCALE, "ttft_sigma": 0, "gap_ms": 5, "gap_sigma": 0, "tokens": 4}
"""A model that thinks for 40 s before its first token."""


@pytest.fixture(scope="module")
def late() -> Iterator[dict[str, RunningServer]]:
    """The servers that can withhold a head, doing so."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(running_server(name, "--late-head")) for name in HEAD_FIRST}


async def ask_through(url: str, transport: str, rules: tuple[Rule, ...], stream: dict[str, float]) -> StreamRecord:
    """One message through a proxy with those rules."""
    upstream = urlsplit(url)
    asked = question(build(StreamSpec.parse(stream), 7), stream=stream, stream_id=token_hex(8), timeout_s=30)
    async with Proxy((upstream.hostname or "", upstream.port or 0), rules) as proxy:
        client = AioClient(transport, ClientSettings(f"http://127.0.0.1:{proxy.address[1]}"))
        record = await client.ask(asked)
        await client.close()
    return record


async def test_a_model_that_thinks_longer_than_a_first_byte_limit(
    server: Callable[[str], RunningServer], late: dict[str, RunningServer]
) -> None:
    """Heroku's H12: 40 s of thinking behind 30 s pass where the head goes out at once, and fail where it does not."""
    heroku = profiles.load("heroku").scaled(SCALE).rules
    holding = (*heroku, HeadHoldback())  # the servers are in a hurry, and something on the way is not
    asking = {
        (transport, way): ask_through(url, transport, rules, THINKING)
        for transport in HEAD_FIRST
        for way, url, rules in (
            ("early", server(transport).url, heroku),
            ("late", late[transport].url, heroku),
            ("held", server(transport).url, holding),
        )
    }
    records = dict(zip(asking, await asyncio.gather(*asking.values()), strict=True))
    for transport in HEAD_FIRST:
        assert records[transport, "early"].outcome is Outcome.OK
        for way in ("late", "held"):
            assert records[transport, way].outcome is Outcome.HTTP_ERROR, (transport, way)
            assert "503" in records[transport, way].detail


@pytest.mark.parametrize("transport", HEAD_FIRST)
async def test_a_late_head_loses_nothing(late: dict[str, RunningServer], transport: str) -> None:
    record = await ask_through(late[transport].url, transport, (), {**THINKING, "ttft_ms": 50})
    assert (record.outcome, record.tokens_lost, record.text_ok) == (Outcome.OK, 0, True)

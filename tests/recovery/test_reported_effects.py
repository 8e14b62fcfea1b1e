"""What users report of intermediaries, with our real servers and clients: each effect as they tell it, scaled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from secrets import token_hex
from typing import Any, Literal
from urllib.parse import urlsplit

import aiohttp
import pytest
from support.asking import question
from support.processes import RunningServer, running_server

from bench.proxy import profile as profiles
from bench.proxy.behaviours import Cache, CutAll, HeadHoldback, Nagle, ResponseBuffering, Upstreams
from bench.proxy.rule import Rule
from bench.proxy.serve import Proxy
from clients.core.record import Outcome, StreamRecord
from clients.core.recovery import Mode, Policy
from clients.core.settings import ClientSettings
from clients.drivers.aio import AioClient
from servers.stream import StreamSpec, build
from servers.transport import HEAD_FIRST

Stream = dict[str, float]
SCALE = 50.0
KEEP_ALIVE_S = 0.2
MODES: tuple[Mode, ...] = ("none", "resume")
LONG: Stream = {"ttft_ms": 20, "ttft_sigma": 0, "gap_ms": 50, "gap_sigma": 0, "tokens": 12}
THINKING: Stream = {"ttft_ms": 40_000 / SCALE, "ttft_sigma": 0, "gap_ms": 5, "gap_sigma": 0, "tokens": 4}
"""A model that thinks for 40 s before its first token."""


@pytest.fixture(scope="module")
def late() -> Iterator[dict[str, RunningServer]]:
    """The servers that can withhold a head, doing so."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(running_server(name, "--late-head")) for name in HEAD_FIRST}


@pytest.fixture(scope="module")
def other() -> Iterator[RunningServer]:
    """A second server, whose patience with idle connections is short."""
    with running_server("sse", "--keep-alive", str(KEEP_ALIVE_S)) as running:
        yield running


def address_of(url: str) -> tuple[str, int]:
    """Host and port."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0


async def ask(url: str, transport: str, stream: Stream, **settings: Any) -> StreamRecord:
    """One message, over connections of its own."""
    asked = question(build(StreamSpec.parse(stream), 7), stream=stream, stream_id=token_hex(8), timeout_s=30)
    client = AioClient(transport, ClientSettings(url, **settings))
    record = await client.ask(asked)
    await client.close()
    return record


async def ask_through(
    url: str, transport: str, rules: tuple[Rule, ...], stream: Stream, number: int = 1, **settings: Any
) -> list[StreamRecord]:
    """As many messages side by side through a proxy with those rules."""
    async with Proxy(address_of(url), rules) as proxy:
        front = f"http://127.0.0.1:{proxy.address[1]}"
        return await asyncio.gather(*(ask(front, transport, stream, **settings) for _ in range(number)))


async def test_a_model_that_thinks_longer_than_a_first_byte_limit(
    server: Callable[[str], RunningServer], late: dict[str, RunningServer]
) -> None:
    """Heroku's H12: 40 s of thinking behind 30 s pass where the head goes out at once, and fail where it does not."""
    heroku = profiles.load_profile("heroku").scaled(SCALE).rules
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
        assert records[transport, "early"][0].outcome is Outcome.OK
        for way in ("late", "held"):
            (record,) = records[transport, way]
            assert record.outcome is Outcome.HTTP_ERROR
            assert "503" in record.detail


@pytest.mark.parametrize("transport", HEAD_FIRST)
async def test_a_late_head_loses_nothing(late: dict[str, RunningServer], transport: str) -> None:
    (record,) = await ask_through(late[transport].url, transport, (), {**THINKING, "ttft_ms": 50})
    assert (record.outcome, record.tokens_lost, record.text_ok) == (Outcome.OK, 0, True)


async def test_a_deployment_ends_all_streams_at_once(server: Callable[[str], RunningServer]) -> None:
    """Who is in mid-answer at the moment loses the connection, all in one instant; who resumes loses no token."""
    event = CutAll(at_s=0.3, action="fin")
    url, policies = server("chunked").url, [Policy(mode, base_s=0.01) for mode in MODES]
    lost, resumed = await asyncio.gather(
        *(ask_through(url, "chunked", (event,), LONG, 6, recovery=p) for p in policies)
    )
    assert [record.outcome for record in lost] == [Outcome.TRUNCATED] * 6
    for record in resumed:
        assert (record.outcome, record.drops, record.tokens_lost, record.text_ok) == (Outcome.OK, 1, 0, True)


async def test_a_phone_changes_its_network(server: Callable[[str], RunningServer]) -> None:
    """Nobody is told: only a limit for silence notices, and a new connection goes on."""
    event, policy = CutAll(at_s=0.3, action="black_hole"), Policy("resume", base_s=0.01)
    url = server("chunked").url
    records = await ask_through(url, "chunked", (event,), LONG, 2, recovery=policy, silence_s=0.5)
    for record in records:
        assert record.noticed_by == ["silence"]
        assert (record.outcome, record.tokens_lost, record.text_ok) == (Outcome.OK, 0, True)


async def test_polls_that_a_cache_answers_are_stale(server: Callable[[str], RunningServer]) -> None:
    """The empty page that the first poll got is what every poll gets, until it is too old."""
    quick: Stream = {"ttft_ms": 100, "ttft_sigma": 0, "gap_ms": 5, "gap_sigma": 0, "tokens": 4}
    url = server("polling").url
    (fresh,), (stale,) = await asyncio.gather(
        ask_through(url, "polling", (), quick, interval_s=0.03),
        ask_through(url, "polling", (Cache(max_age_s=1),), quick, interval_s=0.03),
    )
    for record in (fresh, stale):
        assert (record.outcome, record.text_ok) == (Outcome.OK, True)
    waits_s = [((record.first_token_ns or 0) - record.start_ns) / 1e9 for record in (fresh, stale)]
    assert waits_s[0] < waits_s[1]
    assert waits_s[1] >= 1


async def test_an_event_source_is_answered_from_a_cache(server: Callable[[str], RunningServer]) -> None:
    """The same question again: the old answer, all at once, under the old stream's id."""
    async with Proxy(address_of(server("sse").url), [Cache(max_age_s=60)]) as proxy, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{proxy.address[1]}/chat"
        asked = {"message": "hi", "stream": json.dumps(THINKING | {"ttft_ms": 50})}
        answers = []
        for _ in range(2):
            async with session.get(url, params=asked) as response:
                answers.append((response.headers["Stream-Id"], await response.read()))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("sticky", ["none", "source"])
async def test_an_answer_that_is_resumed_at_another_server(
    server: Callable[[str], RunningServer], other: RunningServer, sticky: Literal["none", "source"]
) -> None:
    """Two servers in turn: the second one knows nothing of an answer that the first one is giving (404), so all of it
    has to be asked for again; a client whose address leads back goes on where it was.
    """
    rules = [CutAll(at_s=0.3), Upstreams(sticky=sticky)]
    first, second = address_of(server("sse").url), address_of(other.url)
    async with Proxy(first, rules, others=[second]) as proxy:
        front = f"http://127.0.0.1:{proxy.address[1]}"
        record = await ask(front, "sse", LONG, recovery=Policy("resume", base_s=0.01, cap_s=0.02))
    assert (record.outcome, record.tokens_lost, record.text_ok, record.drops) == (Outcome.OK, 0, True, 1)
    assert record.requests == (2 if sticky == "source" else 3)
    assert bool(record.tokens_duplicated) == (sticky == "none")


@pytest.mark.parametrize("method", ["post", "get"])
async def test_a_servers_keep_alive_that_is_shorter_than_the_pools(other: RunningServer, method: str) -> None:
    """The server closes first, the proxy notices late: 502 for a POST from a server that is perfectly healthy."""
    rule = Upstreams(each="request", keep_s=60, close_lag_ms=5_000, retry="idempotent")
    brief = THINKING | {"ttft_ms": 10}
    async with Proxy(address_of(other.url), [rule]) as proxy:
        front = f"http://127.0.0.1:{proxy.address[1]}"
        records = []
        for _ in range(2):
            records.append(await ask(front, "sse", brief, method=method))
            await asyncio.sleep(2 * KEEP_ALIVE_S)
    assert records[0].outcome is Outcome.OK
    assert records[1].outcome is (Outcome.OK if method == "get" else Outcome.HTTP_ERROR)
    assert ("502" in records[1].detail) is (method == "post")


STEADY: Stream = {"ttft_ms": 20, "ttft_sigma": 0, "gap_ms": 10, "gap_sigma": 0, "tokens": 20}
HOLD = ResponseBuffering(until_complete=True, methods=("GET",), content_types=("text/event-stream",))


@pytest.mark.parametrize(
    ("transport", "rule", "method", "most_reads", "first_tokens"),
    [
        ("sse", ResponseBuffering(first_bytes=1024), "post", 16, 5),  # the first 1,024 bytes come together
        ("chunked", Nagle(late_acks="all"), "post", 10, 1),  # four tokens each 40 ms, but for the first
        ("sse", HOLD, "get", 1, 20),  # GETs are withheld ...
    ],
)
async def test_tokens_that_come_together(
    server: Callable[[str], RunningServer],
    transport: str,
    rule: Rule,
    method: str,
    most_reads: int,
    first_tokens: int,
) -> None:
    (record,) = await ask_through(server(transport).url, transport, (rule,), STEADY, method=method)
    assert (record.outcome, record.text_ok) == (Outcome.OK, True)
    reads = list(record.read)
    assert len(set(reads)) <= most_reads
    assert reads.count(reads[0]) >= first_tokens


@pytest.mark.parametrize(("transport", "method"), [("sse", "post"), ("chunked", "post")])
async def test_what_a_rule_is_not_for_passes(
    server: Callable[[str], RunningServer], transport: str, method: str
) -> None:
    """... and neither a POST nor another type of content is."""
    (record,) = await ask_through(server(transport).url, transport, (HOLD,), STEADY, method=method)
    assert len(set(record.read)) > 2


@pytest.mark.parametrize(("sticky", "status"), [("none", 404), ("cookie", 200)])
async def test_a_cookie_leads_back_to_the_server_that_knows(
    server: Callable[[str], RunningServer], other: RunningServer, sticky: Literal["none", "cookie"], status: int
) -> None:
    """As a browser's EventSource comes back: with the last event's id, and with the cookies that it was given."""
    servers = [address_of(url) for url in (server("sse").url, other.url)]
    jar = aiohttp.CookieJar(unsafe=True)  # which takes cookies of an address too
    async with (
        Proxy(servers[0], [Upstreams(each="request", sticky=sticky)], others=servers[1:]) as proxy,
        aiohttp.ClientSession(f"http://127.0.0.1:{proxy.address[1]}", cookie_jar=jar) as session,
    ):
        asked = {"message": "hi", "stream": json.dumps(THINKING | {"ttft_ms": 10})}
        async with session.get("/chat", params=asked) as first:
            await first.read()
        seen = {"Last-Event-ID": f"{first.headers['Stream-Id']}/1"}
        async with session.get("/chat", params=asked, headers=seen) as back:
            assert back.status == status


async def test_a_server_that_dies_is_left_out(server: Callable[[str], RunningServer]) -> None:
    """Before, half of the messages are its; after, none is lost."""
    brief = THINKING | {"ttft_ms": 10}
    with running_server("chunked") as dying:
        async with Proxy(address_of(dying.url), [], others=[address_of(server("chunked").url)]) as proxy:
            front = f"http://127.0.0.1:{proxy.address[1]}"
            before = [await ask(front, "chunked", brief) for _ in range(4)]
            assert dying.get("/stats")["streams_completed"] == 2
            dying.stop()
            after = [await ask(front, "chunked", brief) for _ in range(4)]
    assert [record.outcome for record in before + after] == [Outcome.OK] * 8

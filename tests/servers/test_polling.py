"""Polling's store under a crowd, and with a Redis that goes away, forgets, refuses or dies half-way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

import aiohttp
import psutil
import pytest
import redis
from support.independent import request
from support.processes import RunningServer, running_server
from support.transports import ASK

from servers import redis_server
from servers.emitter import Emitter
from servers.generation import Generations
from servers.polling.link import COMMAND_TIMEOUT_S, RedisAway, RedisConnection, RedisRefused
from servers.polling.token_store import KEY_PREFIX, TokenStore
from servers.redis_server import Address, RedisServer
from servers.stream import Schedule

STEADY = {"profile": "fast", "tokens": 60, "ttft_ms": 100, "ttft_sigma": 0, "gap_ms": 10, "gap_sigma": 0}


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with redis_server.running_redis(None) as server:
        yield server


async def get(session: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
    async with session.get(url) as response:
        return response.status, await response.json()


def crowd() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


# ---- a crowd


async def test_polls_of_one_stream_may_overlap(server: Callable[[str], RunningServer]) -> None:
    url = server("polling").url
    async with crowd() as session:
        question = {"message": "x", "stream_id": "shared", "stream": STEADY}
        async with session.post(f"{url}/chat", json=question) as accepted:
            assert accepted.status == 202
        # Each waits for an index that comes later, and so is woken by every write before it.
        answers = await asyncio.gather(
            *(get(session, f"{url}/chat/shared?from={55 + k % 5}&wait=20") for k in range(20))
        )
    assert [status for status, _ in answers] == [200] * 20
    assert all(page["tokens"][0]["i"] == 55 + k % 5 for k, (_, page) in enumerate(answers))


async def test_each_waiter_is_woken_by_the_next_write(own_redis: RedisServer) -> None:
    """Whoever else waits, and whoever has gone; a poll that is forgotten would look again a second later."""
    clock = Emitter()
    generations = Generations(clock, keep_s=60)
    store = TokenStore(Address.parse(own_redis.url), clock, generations, lambda _: None)
    await store.begin(generations.start(Schedule(("a",), array("q", [200_000_000])), "s"))
    with ExitStack() as waiting:
        waiters = [waiting.enter_context(store.next_write("s")) for _ in range(5)]
        waiters[2].cancel()  # its client has left
        await asyncio.wait(waiters, timeout=10)
    assert [waiter.cancelled() for waiter in waiters] == [False, False, True, False, False]
    assert not store._waiting
    await store.close(generations.ids())
    clock.close()


async def test_more_polls_at_once_than_connections_lose_nothing(server: Callable[[str], RunningServer]) -> None:
    url, polls = server("polling").url, 1500
    async with crowd() as session:
        question = {"message": "x", "stream_id": "crowded", "stream": STEADY | {"gap_ms": 30}}
        async with session.post(f"{url}/chat", json=question):
            pass
        answers = await asyncio.gather(*(get(session, f"{url}/chat/crowded?from=0&wait=20") for _ in range(polls)))
        assert [status for status, _ in answers] == [200] * polls
        page: dict[str, Any] = {"done": False}
        while not page["done"]:
            _, page = await get(session, f"{url}/chat/crowded?from=0")
        assert [token["i"] for token in page["tokens"]] == list(range(60))


async def test_a_page_of_any_size_comes_whole(server: Callable[[str], RunningServer]) -> None:
    stream = {"profile": "fast", "tokens": 5000, "ttft_ms": 0, "ttft_sigma": 0, "gap_ms": 0, "gap_sigma": 0}
    answer = ASK["polling"](server("polling").url, {"message": "x", "stream": stream}).check()
    again = request(server("polling").url, "GET", f"/chat/{answer.stream_id}?from=10")
    assert len(again[2]) > 4 * 65_536
    page = json.loads(again[2])
    assert [token["i"] for token in page["tokens"]] == list(range(10, 5000))
    assert (page["next"], page["done"], page["n"]) == (5000, True, 5000)
    whole = json.loads(request(server("polling").url, "GET", f"/chat/{answer.stream_id}?from=9000")[2])
    assert (whole["tokens"], whole["done"]) == ([], True)


# ---- Redis goes away, forgets, refuses


def test_what_is_refused_while_redis_is_away_is_not_half_started(own_redis: RedisServer) -> None:
    with running_server("polling", "--redis-url", own_redis.url) as running:
        assert own_redis.pid is not None
        os.kill(own_redis.pid, signal.SIGKILL)
        psutil.Process(own_redis.pid).wait(5)
        long = {"profile": "fast", "tokens": 3, "ttft_ms": 600_000}
        for _ in range(20):
            assert request(running.url, "POST", "/chat", {"message": "x", "stream": long})[0] == 503
        stats = running.get("/stats")
        assert (stats["streams_active"], stats["streams_started"]) == (0, 0)


def test_a_finished_answer_that_redis_has_lost_is_written_again(own_redis: RedisServer) -> None:
    with running_server("polling", "--redis-url", own_redis.url, "--keep", "60") as running:
        whole = ASK["polling"](running.url, {"message": "x", "stream_id": "s", "stream": STEADY}).check()
        with redis.Redis.from_url(own_redis.url) as client:
            client.flushall()
            status, _, body = request(running.url, "GET", "/chat/s?from=0")
            assert (status, json.loads(body)["tokens"]) == (200, whole.tokens)
            assert 0 < client.ttl(KEY_PREFIX + "s") <= 60
        assert request(running.url, "GET", "/chat/never?from=0")[0] == 404


def test_a_refusal_concerns_one_stream_only(own_redis: RedisServer) -> None:
    with (
        running_server("polling", "--redis-url", own_redis.url) as running,
        redis.Redis.from_url(own_redis.url) as client,
    ):
        names = [f"s{k}" for k in range(20)]
        for name in names:
            question = {"message": "x", "stream_id": name, "stream": STEADY | {"gap_ms": 2, "tokens": 400}}
            assert request(running.url, "POST", "/chat", question)[0] == 202
        while not client.llen(KEY_PREFIX + "s19") > 50:  # until each flush has tokens of several streams
            time.sleep(0.01)
        client.set(KEY_PREFIX + "s0", "not a list")
        for name in names:
            page = _poll_to_the_end(running.url, name)
            assert [token["i"] for token in page["tokens"]] == list(range(400))
        made = client.info("commandstats")["cmdstat_rpush"]["calls"]
        assert made == len(names) + 1  # once each, and the one that was refused once more


def test_a_poll_says_why_nothing_new_comes(own_redis: RedisServer) -> None:
    """Redis lets read what it has, and takes nothing: an empty page would leave the user waiting for it in silence."""
    with (
        running_server("polling", "--redis-url", own_redis.url) as running,
        redis.Redis.from_url(own_redis.url) as client,
    ):
        assert request(running.url, "POST", "/chat", {"message": "x", "stream_id": "s", "stream": STEADY})[0] == 202
        while client.llen(KEY_PREFIX + "s") < 5:
            time.sleep(0.01)
        client.config_set("maxmemory", 1)
        reached, began = 0, time.monotonic()
        while (page := request(running.url, "GET", f"/chat/s?from={reached}"))[0] == 200:
            reached = json.loads(page[2])["next"]  # what was written before is still told
            assert time.monotonic() - began < 10
            time.sleep(0.02)
        assert reached > 0
        assert page[0] == 503
        assert json.loads(page[2])["error"]["message"].startswith("Redis refuses: OOM")
        held = request(running.url, "GET", f"/chat/s?from={reached}&wait=20")  # and one that waits is not held
        assert held[0] == 503
        assert time.monotonic() - began < 15
        client.config_set("maxmemory", 0)
        assert [token["i"] for token in _poll_to_the_end(running.url, "s")["tokens"]] == list(range(60))


def test_answers_come_back_when_redis_has_memory_again(own_redis: RedisServer) -> None:
    with (
        running_server("polling", "--redis-url", own_redis.url) as running,
        redis.Redis.from_url(own_redis.url) as client,
    ):
        assert request(running.url, "POST", "/chat", {"message": "x", "stream_id": "s", "stream": STEADY})[0] == 202
        client.config_set("maxmemory", 1)
        status, _, body = request(running.url, "POST", "/chat", {"message": "x"})
        assert (status, "Redis refuses: OOM" in json.loads(body)["error"]["message"]) == (503, True)
        time.sleep(0.8)  # it ends unwritten
        client.config_set("maxmemory", 0)
        assert [token["i"] for token in _poll_to_the_end(running.url, "s")["tokens"]] == list(range(60))
        assert client.info("commandstats")["cmdstat_rpush"]["calls"] < 50  # tried again now and then, not in a circle


def _poll_to_the_end(url: str, stream_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        status, _, body = request(url, "GET", f"/chat/{stream_id}?from=0")
        if status == 200 and json.loads(body)["done"]:
            return dict(json.loads(body))
        time.sleep(0.05)
    raise AssertionError("the answer did not become whole")


# ---- half-way


@asynccontextmanager
async def relay_that_dies_before(command: bytes, nth: int, redis_url: str) -> AsyncIterator[str]:
    """A way to Redis on which everything ends in front of the nth `command`, as when the server is killed there."""
    port, seen = int(redis_url.rpartition(":")[2].partition("/")[0]), 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        below, above = await asyncio.open_connection("127.0.0.1", port)
        back = asyncio.create_task(_copy(below, writer))
        while seen < nth and (data := await reader.read(65_536)):
            seen += data.count(command)
            above.write(data if seen < nth else data[: data.rindex(command)])
        await above.drain()
        back.cancel()
        above.close()
        writer.transport.abort()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        yield f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/0"


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)


async def test_no_list_is_left_without_a_time_to_live(own_redis: RedisServer) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        async with relay_that_dies_before(b"EXPIRE", 2, own_redis.url) as url:
            clock = Emitter()
            generations = Generations(clock, keep_s=60)
            store = TokenStore(Address.parse(url), clock, generations, lambda _: None)
            schedule = Schedule(("a",) * 200, array("q", [k * 10_000_000 for k in range(200)]))
            await store.begin(generations.start(schedule, "s"))
            client.flushall()  # so that it is written anew: there the relay dies
            async with asyncio.timeout(5):
                while not client.info("commandstats").get("cmdstat_rpush", {}).get("calls"):
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.3)
            lives = [client.ttl(key) for key in client.scan_iter()]
            await store.close([])
            clock.close()
        assert -1 not in lives


async def _ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        await reader.read()
    writer.close()


async def test_a_redis_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servers.polling.link.COMMAND_TIMEOUT_S", 0.2)
    assert COMMAND_TIMEOUT_S > 1
    silent = await asyncio.start_server(_ignore, "127.0.0.1", 0)
    async with silent:
        link = RedisConnection(Address("127.0.0.1", silent.sockets[0].getsockname()[1]), lambda _: None)
        asked = await asyncio.gather(*(link.execute(("PING",)) for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in asked] == [RedisAway] * 3
        link.close()
        await asyncio.sleep(0.05)  # it closes, too


async def test_a_crowd_does_not_wait_for_such_a_redis_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("link.COMMAND_TIMEOUT_S", "token_store.COMMAND_TIMEOUT_S"):
        monkeypatch.setattr(f"servers.polling.{name}", 0.2)
    monkeypatch.setattr("servers.polling.token_store.READS_AT_ONCE", 1)
    clock = Emitter()
    async with await asyncio.start_server(_ignore, "127.0.0.1", 0) as silent:
        address = Address("127.0.0.1", silent.sockets[0].getsockname()[1])
        store = TokenStore(address, clock, Generations(clock, 60), lambda _: None)
        async with asyncio.timeout(5):  # in turn it would be 20 s
            read = await asyncio.gather(*(store.read("s", 0) for _ in range(100)), return_exceptions=True)
        assert [type(error) for error in read] == [RedisAway] * 100
        await store.close([])
        await asyncio.sleep(0.05)
    clock.close()


async def test_what_is_not_redis_is_told() -> None:
    async def chatter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await _ignore(reader, writer)

    async with await asyncio.start_server(chatter, "127.0.0.1", 0) as other:
        link = RedisConnection(Address("127.0.0.1", other.sockets[0].getsockname()[1]), lambda _: None)
        with pytest.raises(RedisAway):
            await link.execute(("PING",))
        await asyncio.sleep(0.05)


async def test_replies_keep_to_their_callers(own_redis: RedisServer) -> None:
    link = RedisConnection(Address.parse(own_redis.url), lambda _: None)
    given_up = asyncio.create_task(link.execute(("ECHO", "nobody")))
    await asyncio.sleep(0)
    given_up.cancel()
    replies = await asyncio.gather(*(link.execute(("ECHO", f"{k}"), ("NO-SUCH-COMMAND",)) for k in range(200)))
    assert [reply[0] for reply in replies] == [b"%d" % k for k in range(200)]
    assert all(isinstance(reply[1], RedisRefused) for reply in replies)
    with pytest.raises(RedisRefused):
        await link.transaction(("SET", "k", "v"), ("NO-SUCH-COMMAND",))
    assert await link.execute(("EXISTS", "k")) == [0]
    link.close()

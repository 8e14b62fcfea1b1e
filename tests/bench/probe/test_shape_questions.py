"""The questions about shape, asked of real servers behind the emulated proxy, several of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support.processes import RunningServer
from support.tls import certificate, nginx_with_tls

from bench.probe.deployment import Deployment
from bench.probe.engine import Engine
from bench.probe.finding import Finding
from bench.probe.question import questions
from bench.probe.sweep import behind
from bench.proxy.behaviours import GzipHoldback, Latency, Upgrade
from bench.proxy.rule import Rule
from clients.core.endpoint import Endpoint
from clients.core.tls import Trust

Server = Callable[[str], RunningServer]


async def asked(deployment: Deployment, *ids: str) -> dict[tuple[str, str], Finding]:
    """The findings of these questions."""
    found = await Engine(deployment, 3.0, chosen=[questions()[name] for name in ids]).run()
    return {(each.question, each.transport): each for each in found.findings}


def address(server: RunningServer) -> tuple[str, int]:
    endpoint = Endpoint.parse(server.url)
    return endpoint.host, endpoint.port


async def ask_behind(
    server: Server, rules: list[Rule], *ids: str, transports: tuple[str, ...]
) -> dict[tuple[str, str], Finding]:
    async with behind(rules, {name: address(server(name)) for name in transports}) as place:
        return await asked(place, *ids)


async def test_compression_is_seen_and_whether_it_holds_tokens_back(server: Server) -> None:
    types = ("text/event-stream",)
    cases: list[list[Rule]] = [
        [GzipHoldback(content_types=types)],
        [GzipHoldback(content_types=types, sync_flush=True)],
    ]
    held, flushed = await asyncio.gather(
        *(ask_behind(server, rules, "compression", transports=("sse", "chunked")) for rules in cases)
    )
    assert (held["compression", "sse"].value, held["compression", "sse"].facts["holds"]) == ("gzip", True)
    assert (flushed["compression", "sse"].value, flushed["compression", "sse"].facts["holds"]) == ("gzip", False)
    assert held["compression", "chunked"].value == flushed["compression", "chunked"].value == "none"


@pytest.mark.parametrize(
    ("rules", "value", "ending"),
    [
        ([], "passed", "none"),
        ([Upgrade(status=405)], "refused", "status 405"),
        ([Upgrade(action="strip")], "stripped", "status 426"),
    ],
)
async def test_upgrades(server: Server, rules: list[Rule], value: str, ending: str) -> None:
    found = await ask_behind(server, rules, "upgrade", transports=("websocket",))
    finding = found["upgrade", "websocket"]
    assert (finding.value, finding.ending, finding.seen) == (value, ending, 3)


async def test_the_way_there_and_back(server: Server) -> None:
    found = await ask_behind(server, [Latency(latency_ms=30)], "round_trip", transports=("sse",))
    value = found["round_trip", ""].value
    assert isinstance(value, float)
    assert value >= 60


async def test_one_server_and_several(server: Server) -> None:
    """Two servers that take turns are told apart by when they were started."""
    turns = [address(server("sse")), address(server("chunked"))]
    connections = 0

    async def take_turns(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        upstream_reader, upstream = await asyncio.open_connection(*turns[connections % 2])
        await asyncio.gather(pass_on(reader, upstream), pass_on(upstream_reader, writer))

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with AsyncExitStack() as stack:
        listening = await asyncio.start_server(take_turns, "127.0.0.1", 0)
        stack.callback(listening.close)
        host, port = listening.sockets[0].getsockname()[:2]
        several = await asked(Deployment({"sse": f"http://{host}:{port}"}), "stickiness")
    one = await asked(Deployment({"sse": server("sse").url}), "stickiness")
    assert (one["stickiness", ""].value, several["stickiness", ""].value) == (1, 2)
    assert several["stickiness", ""].facts["sticky_by_cookie"] is None


@pytest.mark.needs("nginx", "openssl")
async def test_versions_headers_and_cookies_behind_a_real_nginx(server: Server, tmp_path: Path) -> None:
    extra = "add_header Via '1.1 edge'; add_header Set-Cookie 'ROUTE=a1; Path=/';"
    with nginx_with_tls(server("sse").url, certificate(tmp_path), tmp_path, extra) as url:
        place = Deployment({"sse": url}, trust=Trust(cafile=str(tmp_path / "cert.pem")))
        found = await asked(place, "versions", "headers")
    assert found["versions", ""].value == "http/1.1"
    facts = found["headers", ""].facts
    assert facts["added"] == {"via": "1.1 edge"}
    assert facts["cookies"] == ["ROUTE"]
    assert facts["server"].startswith("nginx")

"""The questions about shape, asked of real servers behind the emulated proxy, several of each."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from support.processes import RunningServer
from support.tls import certificate, nginx_with_tls

from bench.probe.deployment import Deployment
from bench.probe.engine import Engine
from bench.probe.finding import Finding, Findings
from bench.probe.profile_writer import profile_of
from bench.probe.question import all_questions
from bench.probe.sweep import behind
from bench.proxy.behaviours import Coalescing, GzipHoldback, Latency, Upgrade
from bench.proxy.rule import Rule
from clients.core.endpoint import Endpoint
from clients.core.tls import Trust
from servers.messages import encode_error
from servers.process import free_port

Server = Callable[[str], RunningServer]
TIME = {"idle", "first_byte", "duration", "keep_alive", "age"}


async def asked(deployment: Deployment, *ids: str) -> dict[tuple[str, str], Finding]:
    """The findings of these questions."""
    found = await Engine(deployment, 3.0, chosen=[all_questions()[name] for name in ids]).run()
    return {(each.question, each.transport): each for each in found.findings}


def address(server: RunningServer) -> tuple[str, int]:
    endpoint = Endpoint.parse(server.url)
    return endpoint.host, endpoint.port


async def ask_behind(
    server: Server, rules: list[Rule], *ids: str, transports: tuple[str, ...]
) -> dict[tuple[str, str], Finding]:
    async with behind(rules, {name: address(server(name)) for name in transports}) as place:
        return await asked(place, *ids)


async def test_tokens_that_a_clock_holds_are_not_held_by_the_compressor(server: Server) -> None:
    rules: list[Rule] = [
        Coalescing(coalesce_ms=200, coalesce_bytes=1 << 16, scope="response"),
        GzipHoldback(content_types=("text/event-stream",), sync_flush=True),
    ]
    finding = (await ask_behind(server, rules, "compression", transports=("sse",)))["compression", "sse"]
    assert finding.facts["holds"] is False
    assert finding.words == "compressed (gzip), and held back for a while, as by a buffer or a clock"


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


@pytest.mark.parametrize(
    ("answers", "value", "words"),
    [
        ([(403, b"no")], "refused", "status 403 in place of the upgrade, and not by our server"),
        ([(503, b"busy")], "refused", "status 503 in place of the upgrade"),
        ([(503, b"busy"), (503, b"busy"), (403, b"no")], None, "not clear: status 503 in 2 of 3 tries"),
        ([(200, b"<html>")], "refused", "status 200 in place of the upgrade"),
        ([(401, encode_error("unauthorized", "no"))], None, "the server itself refused with status 401"),
    ],
)
async def test_who_refuses_an_upgrade(
    server: Server, answers: list[tuple[int, bytes]], value: str | None, words: str
) -> None:
    async with answering(server("websocket"), b"/chat", answers) as url:
        found = (await asked(Deployment({"websocket": url}), "upgrade"))["upgrade", "websocket"]
    assert found.value == value
    assert found.words.startswith(words)


async def test_where_no_connection_comes_about_nobody_has_refused_anything() -> None:
    """As where more connections come than a balancer serves."""
    nobody = Deployment({"websocket": f"http://127.0.0.1:{free_port()}"})
    found = await asked(nobody, "upgrade", "keep_alive")
    assert found["upgrade", "websocket"].value is None
    assert found["upgrade", "websocket"].words.startswith("not clear: refused in 3 of 3 tries")
    assert found["keep_alive", ""].words == "not known: refused in place of the first answer"
    assert not profile_of(Findings(urls={}, up_to_s=3.0, started="", findings=tuple(found.values()))).rules


async def test_connections_without_an_answer_are_not_counted_among_those_of_a_server(server: Server) -> None:
    stats = b'{"started_ns": 7}'
    async with answering(server("sse"), b"/stats", [(200, stats), *[(503, b"busy")] * 11]) as url:
        found = (await asked(Deployment({"sse": url}), "stickiness"))["stickiness", ""]
    assert (found.value, found.seen) == (1, 1)
    assert found.words == "1 connection reached the same server (11 others had no answer)"


async def test_a_way_that_refuses_every_chat_request_is_not_good(server: Server) -> None:
    """Its /healthz and /stats answer, and so several questions see something."""
    async with answering(server("sse"), b"/chat", [(403, b"no")]) as url:
        found = await Engine(Deployment({"sse": url}), 1.0).run()
    assert all(each.is_complete for each in found.findings)
    assert {each.question for each in found.findings if each.seen} >= {"headers", "stickiness", "age"}
    assert not found.is_good


async def test_a_limit_on_the_rate_of_requests_is_no_limit_on_time(server: Server) -> None:
    """A whole probe behind something that answers every second chat request with 429."""
    async with answering(server("sse"), b"/chat", [None, (429, b"slow down")]) as url:
        found = await Engine(Deployment({"sse": url}), 1.0).run()
    limits = {each.question: each for each in found.findings if each.question in TIME}
    assert limits.keys() == TIME
    assert {each.value for each in limits.values()} == {None}, limits
    idle = limits["idle"].observations
    assert {each.void for each in idle if each.ending == "status 429"} == {"status 429 is no answer to a wait"}
    assert found.is_good


@asynccontextmanager
async def answering(
    server: RunningServer, path: bytes, answers: Sequence[tuple[int, bytes] | None]
) -> AsyncIterator[str]:
    """A way to a server that gives these answers itself, over and over in turn, to whoever asks for `path` (None: the
    server's own).
    """
    turns = itertools.cycle(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = None
        try:
            data = await reader.readuntil(b"\r\n\r\n")
            if path in data.partition(b"\r\n")[0] and (answer := next(turns)):
                status, body = answer
                writer.write(
                    b"HTTP/1.1 %d Told\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(body), body)
                )
                await writer.drain()
                return
            upstream_reader, upstream = await asyncio.open_connection(*address(server))
            upstream.write(data)
            await asyncio.gather(pass_on(reader, upstream), pass_on(upstream_reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for each in filter(None, (writer, upstream)):
                each.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        host, port = listening.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
    except ConnectionError:
        pass
    finally:
        writer.close()


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

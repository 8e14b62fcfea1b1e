"""What a channel sees of a connection, over real sockets and a proxy that ends it in every way."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.processes import RunningServer
from support.scripted import Connection, close_frame, scripted, switching

from bench.probe import channel as channel_module
from bench.probe import control as control_module
from bench.probe.asking import Asking
from bench.probe.channel import Channel, Talk, Up
from bench.probe.control import Control
from bench.probe.deployment import Deployment
from bench.probe.probe_clock import look
from bench.probe.streams import late, silent, talking
from bench.proxy.behaviours import Cut, FirstByteTimeout, IdleTimeout, Noop, Upgrade, WebsocketClose
from bench.proxy.rule import Rule
from bench.proxy.serve import Proxy
from clients.core.http1 import Request

Serve = Callable[[str], RunningServer]


@asynccontextmanager
async def behind(server: RunningServer, rules: Sequence[Rule]) -> AsyncIterator[Channel]:
    """A channel to a server behind these rules."""
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    async with Proxy((host, int(port)), rules) as proxy:
        deployment = Deployment({server.transport: f"http://127.0.0.1:{proxy.address[1]}"})
        async with Channel(deployment, server.transport) as channel:
            yield channel


@pytest.mark.parametrize("transport", ["sse", "chunked", "websocket"])
async def test_every_token_is_there_with_its_read_and_its_time(server: Serve, transport: str) -> None:
    async with behind(server(transport), [Noop()]) as channel:
        heard = await channel.talk(Talk(talking(0.02, 0.1), 5))
        again = await channel.talk(Talk(talking(0.02, 0.02), 5))
    assert (heard.ending, heard.is_complete, heard.is_fit) == ("none", True, True)
    assert [token.i for token in heard.tokens] == list(range(7))
    assert heard.opened_ns <= heard.asked_ns <= heard.tokens[0].at_ns <= heard.tokens[-1].at_ns <= heard.ended_ns
    assert {token.at_ns for token in heard.tokens} <= {read.at_ns for read in heard.reads}
    assert again.opened_ns == heard.opened_ns
    assert again.is_complete


@pytest.mark.parametrize(
    ("transport", "rule", "stream", "ending"),
    [
        ("sse", IdleTimeout(idle_timeout_s=0.1), silent(5), "fin"),
        ("chunked", IdleTimeout(idle_timeout_s=0.1, action="rst"), silent(5), "rst"),
        ("websocket", Cut(action="fin", after_s=0.1), silent(5), "fin"),
        ("websocket", WebsocketClose(close_code=4321, idle_timeout_s=0.1), silent(5), "close 4321"),
        ("websocket", Upgrade(action="refuse", status=403), silent(5), "status 403"),
        ("blocking", FirstByteTimeout(first_byte_timeout_s=0.1, status=524), late(5), "status 524"),
        ("sse", IdleTimeout(idle_timeout_s=0.1, action="black_hole"), silent(0.4), "black_hole"),
        ("websocket", IdleTimeout(idle_timeout_s=0.1, action="black_hole"), silent(0.4), "black_hole"),
    ],
)
async def test_how_a_cut_looks(server: Serve, transport: str, rule: Rule, stream: dict[str, Any], ending: str) -> None:
    async with behind(server(transport), [rule]) as channel:
        heard = await channel.talk(Talk(stream, 0.6 if ending == "black_hole" else 5))
    assert heard.ending == ending
    assert not heard.is_complete
    assert heard.ended_ns - heard.asked_ns >= (0 if "403" in ending else 0.09e9)


@pytest.mark.parametrize(("late_data", "end"), [("drop", ""), ("rst", "rst")])
async def test_a_black_hole_tells_who_sends_later_or_does_not(server: Serve, late_data: Any, end: str) -> None:
    rule = IdleTimeout(idle_timeout_s=0.1, action="black_hole", late_data=late_data)
    async with behind(server("websocket"), [rule]) as channel:
        await channel.talk(Talk(silent(0.2), 0.4))
        assert await channel.poke(0.3) == end


@pytest.mark.parametrize(("transport", "kind"), [("websocket", "pong"), ("websocket", "message"), ("sse", "body")])
async def test_bytes_up_pass_while_an_answer_is_silent(server: Serve, transport: str, kind: Any) -> None:
    rule = IdleTimeout(idle_timeout_s=0.3, reset_by="up")
    talk = Talk(silent(0.6), 5, up=Up(kind, 0.05), method="GET" if kind == "body" else "POST")
    async with behind(server(transport), [rule]) as channel:
        heard = await channel.talk(talk)
    assert heard.is_complete
    assert len(heard.tokens) == 2


async def test_a_connection_that_nobody_uses_tells_when_it_ends(server: Serve) -> None:
    async with behind(server("sse"), [IdleTimeout(idle_timeout_s=0.2)]) as channel:
        heard = await channel.ask(Request("GET", "/healthz"), 5)
        assert heard.is_fit
        assert await channel.wait_for_end(0.01) == ""
        assert await channel.wait_for_end(5) == "fin"
        assert channel.connection is not None
        assert channel.connection.ended_ns - heard.last_read_ns >= 0.19e9
        again = await channel.ask(Request("GET", "/healthz"), 5)
    assert again.ending == "none"
    assert again.opened_ns > heard.opened_ns


@pytest.mark.parametrize("code", [1008, 1013])
async def test_a_websocket_that_is_closed_with_its_opening_ends_so(code: int) -> None:
    async def refuse(connection: Connection) -> None:
        await connection.send(switching(await connection.request()) + close_frame(code))
        await connection.hold()

    async with scripted(refuse) as served, Channel(Deployment({"websocket": served.url}), "websocket") as channel:
        heard = await channel.talk(Talk(silent(1), 2))
    assert heard.ending == f"close {code}"


async def test_a_server_that_tells_no_time_is_not_asked_again_and_again() -> None:
    asked = 0

    async def close(connection: Connection) -> None:
        nonlocal asked
        await connection.request()
        asked += 1

    async with scripted(close) as served:
        assert (await look(Deployment({"sse": served.url}), "sse", 10.0)).ahead_ns is None
    assert asked == 1


async def test_nobody_there_is_said(server: Serve) -> None:
    async with Channel(Deployment({"sse": "http://127.0.0.1:1"}), "sse") as channel:
        heard = await channel.talk(Talk(silent(1), 2))
    assert heard.ending == "refused"


async def test_tcp_keepalive_is_on_at_the_socket(server: Serve) -> None:
    async with Channel(Deployment({"sse": server("sse").url}), "sse", tcp_keepalive_s=7) as channel:
        await channel.talk(Talk(talking(0.01, 0.01), 5))
        wire = channel._client._wire
        assert wire is not None
        raw = wire._transport.get_extra_info("socket")
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 7


@pytest.mark.parametrize("transport", ["sse", "websocket"])
async def test_a_connection_whose_answer_never_ended_is_not_used_again(server: Serve, transport: str) -> None:
    async with behind(server(transport), [IdleTimeout(idle_timeout_s=0.1, action="black_hole")]) as channel:
        swallowed = await channel.talk(Talk(silent(0.4), 0.3))
        again = await channel.talk(Talk(talking(0.01, 0.01), 5))
    assert (swallowed.ending, swallowed.is_fit) == ("black_hole", False)
    assert again.opened_ns > swallowed.opened_ns
    assert again.is_complete


@pytest.mark.parametrize("transport", ["sse", "chunked", "websocket"])
async def test_an_answer_without_an_end_is_cut_off(
    server: Serve, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "MAX_TOKENS", 5)
    async with Channel(Deployment({transport: server(transport).url}), transport) as channel:
        heard = await channel.talk(Talk(talking(0.01, 0.1), 5))
    assert (heard.ending, heard.detail) == ("format", "format: more than 5 tokens in one answer")
    assert len(heard.tokens) == 5


async def test_the_control_watches_while_questions_have_all_slots(server: Serve) -> None:
    control = Control(Deployment({"sse": server("sse").url}, slots=asyncio.Semaphore(0)), "sse", 1.0)
    running = asyncio.create_task(control.run())
    try:
        await asyncio.wait_for(control._calm.wait(), 5)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert control.whole > 1  # the first look is one


@pytest.mark.parametrize(("whole", "is_disturbed"), [(1, True), (0, False)])
async def test_a_control_that_says_nothing_counts_as_disturbed_where_it_worked(
    whole: int, is_disturbed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_module, "GRACE_S", 0.0)
    nothing: Any = None
    deployment = Deployment({"sse": "http://127.0.0.1:1"})
    control = Control(deployment, "sse", 1.0, whole=whole, _is_running=True)
    rest = dict.fromkeys(("clock", "passes", "lateness", "lookup"), nothing)
    asking = Asking("idle", deployment, "sse", up_to_s=1.0, until_s=0.0, control=control, began_ns=0, **rest)
    assert await asking.was_disturbed(0, 1) is is_disturbed

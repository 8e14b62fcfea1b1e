"""What a channel sees of a connection, over real sockets and a proxy that ends it in every way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.processes import RunningServer

from bench.probe.channel import Channel, Talk, Up
from bench.probe.deployment import Deployment
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


async def test_nobody_there_is_said(server: Serve) -> None:
    async with Channel(Deployment({"sse": "http://127.0.0.1:1"}), "sse") as channel:
        heard = await channel.talk(Talk(silent(1), 2))
    assert heard.ending == "refused"

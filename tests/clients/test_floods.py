"""Servers that send without end, against both drivers: limits hold in time and in memory, and the record says why."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from support.asking import question
from support.drivers import AsyncUser
from support.scripted import Connection, blocking, frame, response, scripted, switching
from support.transports.polling import ACCEPTED

from clients.core.errors import NotTheFormat
from clients.core.http1 import MAX_INTERIM, Http1Response
from clients.core.record import Outcome
from clients.core.response import Unpacker

MakeClient = Callable[..., AsyncUser]
FLOOD_S = 10.0  # far longer than the message may take, and than the test allows
PATIENCE_S = 7.0
FLOODS = {"pings": frame(b"p", 9) * 500, "fragments": frame(b"", 0, False) * 1000}


@pytest.mark.parametrize("kind", FLOODS)
async def test_the_clock_strikes_in_a_flood(client: MakeClient, kind: str) -> None:
    """Whether or not the client has something to send for each read."""

    def flooding(connection: socket.socket) -> None:
        connection.sendall(switching(connection.recv(65_536)))
        connection.recv(65_536)
        connection.sendall(frame(b"", 1, False))
        connection.settimeout(FLOOD_S)  # a busy client may take nothing while it works on what it has
        end = time.monotonic() + FLOOD_S
        while time.monotonic() < end:
            connection.sendall(FLOODS[kind])
            if kind == "pings":  # a server that takes no pongs is given up, which is another matter
                with suppress(BlockingIOError):
                    connection.recv(1 << 20, socket.MSG_DONTWAIT)

    async with blocking(flooding) as url:
        began = time.monotonic()
        record = await client("websocket", url).ask(question(timeout_s=0.3))
        took_s = time.monotonic() - began
    assert (record.outcome, record.detail.split(":")[0]) == (Outcome.TIMEOUT, "timeout")
    assert took_s < PATIENCE_S


MANY = b",".join([b'{"i": 0, "t": "", "due": 0, "sent": 0}'] * 40_000)
PAGE = b'{"tokens": [' + MANY + b'], "next": 0, "done": false}'
WHOLE = b'{"tokens": [' + MANY + b'], "done": true, "n": 6, "sha256": "x"}'


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("transport", ["polling", "blocking"])
async def test_a_body_far_longer_than_the_answer_is_not_read(client: MakeClient, transport: str, packed: bool) -> None:
    """Its tokens would take ten times its memory, and nobody else would have a turn while they are made."""
    body = PAGE if transport == "polling" else WHOLE
    answer = response(gzip.compress(body, 1), more="Content-Encoding: gzip\r\n") if packed else response(body)

    async def script(connection: Connection) -> None:
        for said in (ACCEPTED, answer) if transport == "polling" else (answer,):
            await connection.request()
            await connection.send(said)
        await connection.hold()

    async with scripted(script) as server:
        record = await client(transport, server.url).ask(question())
    assert record.outcome is Outcome.PROTOCOL_ERROR
    assert record.detail.startswith("format: a body of more than ")
    assert record.tokens_received == 0


async def test_text_without_end_is_not_held(client: MakeClient) -> None:
    token = json.dumps({"i": 0, "t": "x" * 60_000, "due": 0, "sent": 0}).encode()

    async def script(connection: Connection) -> None:
        await connection.upgrade()
        await connection.frame()
        for _ in range(40):
            await connection.send(frame(token))
        await connection.hold()

    async with scripted(script) as server:
        record = await client("websocket", server.url).ask(question())
    assert (record.outcome, record.detail) == (Outcome.PROTOCOL_ERROR, "format: text without end")


@pytest.mark.parametrize("step", [1, 64, 1 << 20])
def test_interim_answers_have_an_end_however_they_are_split(step: int) -> None:
    said = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * (MAX_INTERIM + 1) + response(b"{}")
    taken = Http1Response()
    for at in range(0, len(said), step):
        taken.feed(said[at : at + step])
    assert str(taken.failure) == "format: interim answers without end"
    assert not taken.has_head


@pytest.mark.parametrize(
    "bomb",
    [gzip.compress(b": x\n\n" * (2 << 20), 1), gzip.compress(b"\0" * (1 << 20)) * 9],
    ids=["one member", "many members"],
)
def test_a_read_that_unpacks_to_far_too_much_is_refused(bomb: bytes) -> None:
    with pytest.raises(NotTheFormat, match="more than any answer has"):
        Unpacker("gzip")(bomb)


async def test_what_a_terminal_might_obey_is_in_no_record(client: MakeClient) -> None:
    told = b'{"error": {"code": "\\u001b[2J%b", "message": "\\u001b[31mred\\u0007"}}' % (b"c" * 100_000)

    async def script(connection: Connection) -> None:
        await connection.upgrade()
        await connection.frame()
        await connection.send(b"\x81\x7f" + len(told).to_bytes(8, "big") + told)
        await connection.hold()

    async with scripted(script) as server:
        record = await client("websocket", server.url).ask(question())
    assert record.outcome is Outcome.HTTP_ERROR
    assert record.detail.startswith("error ?[2Jccc")
    assert record.detail.endswith(": ?[31mred?")
    assert record.detail.isprintable()
    assert len(record.causes[0]) < 100, "it is in tables, and in each message's row"


async def test_a_path_to_poll_that_is_too_long_for_a_request_is_refused(client: MakeClient) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        poll = json.dumps({"stream_id": "s", "poll": "/" + "a" * 100_000})
        await connection.send(response(poll.encode(), status="202 Accepted"))
        await connection.hold()

    async with scripted(script) as server:
        record = await client("polling", server.url).ask(question(timeout_s=5.0))
    assert (record.outcome, record.detail[:24]) == (Outcome.PROTOCOL_ERROR, "format: no path to poll:")

"""Servers that send without end, against both drivers: limits hold in time and in memory, and the record says why."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from support.asking import ANSWER, question
from support.drivers import AsyncUser
from support.scripted import Connection, blocking, chunk, frame, response, scripted, switching
from support.transports.polling import ACCEPTED

from clients.core.errors import NotTheFormat
from clients.core.http1 import MAX_BARE_BYTES, MAX_INTERIM, Http1Response
from clients.core.ledger import Ledger
from clients.core.record import Outcome
from clients.core.response import Unpacker
from servers.messages import EndMessage, TokenMessage

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
    assert (record.outcome, record.detail) == (Outcome.PROTOCOL_ERROR, "format: tokens without end")


@pytest.mark.parametrize("step", [1, 64, 1 << 20])
def test_interim_answers_have_an_end_however_they_are_split(step: int) -> None:
    said = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * (MAX_INTERIM + 1) + response(b"{}")
    taken = Http1Response()
    for at in range(0, len(said), step):
        taken.feed(said[at : at + step])
    assert str(taken.failure) == "format: interim answers without end"
    assert not taken.has_head


@pytest.mark.parametrize("step", [1, 40_000, 65_536, 1 << 20])
@pytest.mark.parametrize(
    ("interim", "field_bytes", "is_refused"),
    [(0, 60_000, False), (0, 66_000, True), (0, 140_000, True), (90, 500, False), (90, 1_000, True)],
)
def test_heads_have_an_end_however_they_are_split(step: int, interim: int, field_bytes: int, is_refused: bool) -> None:
    """uvloop reads 256 KiB at once, gevent's user 64."""
    field, body = "X: " + "y" * field_bytes + "\r\n", b"z" * 100_000
    early = f"HTTP/1.1 103 Early Hints\r\n{field}\r\n".encode() * interim
    said = early + response(body, "text/plain", more="" if interim else field)
    taken = Http1Response()
    for at in range(0, len(said), step):
        taken.feed(said[at : at + step])
    refusal = f"format: a head, or framing, of more than {MAX_BARE_BYTES} bytes"
    assert (taken.failure and str(taken.failure)) == (refusal if is_refused else None)
    assert taken.take() == (b"" if is_refused else body)


@pytest.mark.parametrize("step", [1, 40_000, 65_536, 1 << 20])
@pytest.mark.parametrize(("trailer_bytes", "is_refused"), [(60_000, False), (140_000, True)])
def test_trailers_have_an_end_however_they_are_split(step: int, trailer_bytes: int, is_refused: bool) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    said = head + chunk(b"z" * 1_000) + b"0\r\nX: " + b"y" * trailer_bytes + b"\r\n\r\n"
    taken = Http1Response()
    for at in range(0, len(said), step):
        taken.feed(said[at : at + step])
    assert (taken.failure is not None) == is_refused


def test_what_follows_a_switch_of_protocols_is_no_head() -> None:
    taken = Http1Response()
    taken.feed(switching(b"Sec-WebSocket-Key: x\r\n") + b"z" * 100_000)
    assert (taken.failure, taken.surplus) == (None, b"z" * 100_000)


@pytest.mark.parametrize("unit", [b" ", b": heartbeat\n"])
@pytest.mark.parametrize("mib", [7, 9])
def test_what_a_body_unpacks_to_has_an_end_however_it_is_split(unit: bytes, mib: int) -> None:
    packed = gzip.compress(unit * ((mib << 20) // len(unit)), mtime=0)
    found = set()
    for step in (1_000, 65_536, 1 << 20):
        unpack = Unpacker("gzip")
        try:
            found.add(sum(len(unpack(packed[at : at + step])) for at in range(0, len(packed), step)))
        except NotTheFormat:
            found.add(-1)
    assert found == ({-1} if mib == 9 else {(mib << 20) // len(unit) * len(unit)})


def test_what_unpacks_to_much_but_slowly_is_no_bomb_in_a_large_read() -> None:
    body = b"".join(b": %d" % (k * 7_919 % 1_000_003) + b"." * 400 + b"\n\n" for k in range(21_000))
    packed = gzip.compress(body, 1)
    assert len(body) > 8 << 20
    assert 65_536 < len(packed) < 1 << 20
    assert Unpacker("gzip")(packed) == body


@pytest.mark.parametrize("step", [1, 100, 1 << 20])
def test_tokens_have_an_end_however_they_are_split(step: int) -> None:
    """Also where the end message comes with the token that is too much."""
    said: list[TokenMessage | EndMessage] = [TokenMessage(0, "Hello", 1, 2)] * 20_000
    said.append(EndMessage(True, ANSWER.n, ANSWER.sha256))
    ledger = Ledger()
    ledger.make_room(ANSWER.n, 20)

    def add_all() -> None:
        for at in range(0, len(said), step):
            ledger.add(said[at : at + step], at + 1)

    with pytest.raises(NotTheFormat, match="tokens without end"):
        add_all()
    assert (ledger.end, 9_000 < len(ledger.tokens) < 11_000) == (None, True)


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

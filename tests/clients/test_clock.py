"""What a server says of itself, if it is nobody's server of ours and says anything at all."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
import msgspec
import pytest
from support.drivers import AsyncUser
from support.scripted import Connection, Script, response, scripted

from bench.running.endpoints import Counters, Server
from bench.running.targets import is_on_this_machine
from clients.core.clock import account_of
from servers.messages import MAX_COUNT, TokenMessage

DEEP = b'{"a": ' + b"[" * 100_000
NO_TIMES = {
    "far too large": b'{"monotonic_ns": 1%b}' % (b"0" * 40),
    "before the beginning": b'{"monotonic_ns": -9223372036854775808}',
    "one column too large": b'{"monotonic_ns": 9223372036854775807}',
    "digits without end": b'{"monotonic_ns": %b}' % (b"9" * 5000),
    "brackets without end": DEEP,
    "no number": b'{"monotonic_ns": NaN}',
    "true": b'{"monotonic_ns": true}',
}


def answering(body: bytes) -> Script:
    """Every request is answered so."""

    async def script(connection: Connection) -> None:
        while await connection.request():
            await connection.send(response(body))

    return script


@pytest.mark.parametrize("body", NO_TIMES.values(), ids=NO_TIMES)
async def test_a_clock_that_cannot_be_one_is_taken_to_be_ours(client: Callable[..., AsyncUser], body: bytes) -> None:
    """Else its offset would fit no column, and the cell's messages were lost behind an error of Python's."""
    async with scripted(answering(body)) as server:
        user = client("sse", server.url)
        account = await user.run(account_of(user.session))
    assert (account.source, account.offset_ns) == ("", 0)
    assert "could not be read" in account.notes[0]


@pytest.mark.parametrize("body", [*NO_TIMES.values(), DEEP, b" " * (8 << 20) + b'{"cpu_seconds": 1}'])
async def test_the_runner_takes_nothing_from_a_server_that_says_nonsense(body: bytes) -> None:
    async with scripted(answering(body)) as server, aiohttp.ClientSession() as http:
        assert not await is_on_this_machine(http, server.url)
        assert await Server("sse", server.url).counters(http) == Counters()


def test_the_difference_of_two_stamps_fits_a_column() -> None:
    token = TokenMessage(0, "", MAX_COUNT, MAX_COUNT)
    assert msgspec.json.decode(msgspec.json.encode(token), type=TokenMessage) == token
    assert -MAX_COUNT - 1 >= -(2**63)
    assert MAX_COUNT - (0 - MAX_COUNT) < 2**63
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(TokenMessage(0, "", MAX_COUNT + 1, 0)), type=TokenMessage)

"""Raw connections: steps in turn, what comes kept or left unread, failures counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from bench.soak.scripts import SoakScript
from bench.soak.visitors import crowd, in_turn, visit

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[tuple[str, int]]:
    """A server on a free port; its connections end with it."""

    async def until_lost(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(until_lost, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[:2]


async def test_a_step_is_sent_when_the_answer_to_the_one_before_has_begun() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for word in (b"one", b"two"):
            assert await reader.readexactly(3) == word
            writer.write(word.upper())

    async with serving(serve) as address:
        visitor = await visit(address, SoakScript((b"one", b"two")))
        async with asyncio.timeout(10):
            await visitor.ended
    assert visitor.received == b"ONETWO"
    assert visitor.asked.done()
    assert visitor.answered.done()


async def test_who_does_not_read_takes_no_more_than_its_buffers() -> None:
    stuck = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(3)
        try:
            async with asyncio.timeout(0.5):
                while True:
                    writer.write(bytes(2**16))
                    await writer.drain()
        except TimeoutError:
            stuck.set()

    async with serving(serve) as address:
        visitor = await visit(address, SoakScript((b"one",), reads=False))
        async with asyncio.timeout(10):
            await stuck.wait()
        assert not visitor.ended.done()
        visitor.reset()
        await visitor.ended


async def test_a_crowd_is_there_at_once_and_gone_behind_its_context() -> None:
    here: set[int] = set()
    most = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most
        here.add(id(writer))
        most = max(most, len(here))
        try:
            await reader.read()
        finally:
            here.discard(id(writer))

    async with serving(serve) as address:
        async with crowd(address, 50, lambda _: SoakScript()) as (visitors, failures), asyncio.timeout(10):
            while len(here) < 50:
                await asyncio.sleep(0.01)
            assert len(visitors) == 50
            assert not failures
        async with asyncio.timeout(10):
            while here:
                await asyncio.sleep(0.01)
    assert most == 50
    async with crowd(address, 5, lambda _: SoakScript()) as (visitors, failures):  # nobody listens there any more
        assert not visitors
        assert failures == {"ConnectionRefusedError": 5}


async def test_deeds_are_done_in_turn_and_only_the_network_s_errors_are_counted() -> None:
    running = most = 0

    async def deed(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        if number % 10 == 0:
            raise TimeoutError

    assert await in_turn(50, deed, at_once=7) == {"TimeoutError": 5}
    assert most == 7

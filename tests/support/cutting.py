"""A relay in front of a real server that cuts its connections at exact bytes, or answers in the server's place."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Literal
from urllib.parse import urlsplit

from support.faults import How
from support.transports import has_end


@dataclass(frozen=True)
class Behind:
    """A place in a connection's bytes: behind the nth match of a pattern."""

    pattern: re.Pattern[bytes]
    nth: int = 1


Place = int | Behind | bytes


@dataclass
class Cutter:
    """A relay in front of a real server. Its connection k is cut behind its first `places[k]` bytes, later ones never.

    A connection ends instead of the next byte, so only when there was one; by "silence" it stays open, and nothing goes
    through any more. A place that is bytes is the answer to the connection's first request, and its end.
    """

    transport: str
    upstream: str
    places: Sequence[Place]
    how: How | Literal["silence"] = "fin"
    url: str = ""
    accepted: int = 0
    fatal: int = 0  # cuts before the end message was through

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        number, self.accepted = self.accepted, self.accepted + 1
        place = self.places[number] if number < len(self.places) else None
        if isinstance(place, bytes):
            await _answer_itself(reader, writer, place)
            return
        parts = urlsplit(self.upstream)
        try:
            below, above = await asyncio.open_connection(parts.hostname, parts.port)
            up = asyncio.create_task(_copy(reader, above))
            try:
                await self._answer(below, writer, place)
            finally:
                up.cancel()
                above.transport.abort()
        finally:
            writer.close()

    async def _answer(
        self, below: asyncio.StreamReader, writer: asyncio.StreamWriter, place: int | Behind | None
    ) -> None:
        came = b""
        while data := await below.read(65_536):
            passed, came = len(came), came + data
            if (left := _bytes_until(place, came)) < len(came):
                writer.write(came[passed:left])
                self.fatal += not has_end(self.transport, came[:left])
                if self.how == "silence":
                    await writer.drain()
                    await asyncio.Event().wait()
                if self.how == "rst":
                    peer: socket.socket = writer.get_extra_info("socket")
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
                return
            writer.write(data)
            await writer.drain()


async def _answer_itself(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes) -> None:
    """Wait for a request's head, if there ever is one, and answer it."""
    try:
        if await reader.readuntil(b"\r\n\r\n"):
            writer.write(answer)
            writer.write_eof()
            await reader.read()
    except asyncio.IncompleteReadError:
        pass
    finally:
        writer.close()


def _bytes_until(place: int | Behind | None, came: bytes) -> int:
    """The number of bytes before the cut; as many as came or more: not yet."""
    if isinstance(place, Behind):
        match = next(islice(place.pattern.finditer(came), place.nth - 1, None), None)
        return match.end() if match else len(came)
    return len(came) if place is None else place


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
        writer.write_eof()


@asynccontextmanager
async def cutting(
    transport: str, upstream: str, places: Iterable[Place], how: How | Literal["silence"] = "fin"
) -> AsyncIterator[Cutter]:
    """A relay on a free port."""
    cutter = Cutter(transport, upstream, tuple(places), how)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(ConnectionError, asyncio.CancelledError):
            await cutter.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    cutter.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield cutter
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""Faults at exact bytes: recordings of the real servers, a server that replays them with a fault, a relay that cuts.

What a fault should lead to is derived from the recorded bytes by the few lines below, which share nothing with the
clients' decoders.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import accumulate, islice
from random import Random
from time import sleep
from typing import Literal
from urllib.parse import urlsplit

from support.scripted import Connection

from servers.stream import Schedule

How = Literal["fin", "rst"]
CHAT = "POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}"
UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
# The last byte of an end message, in the bytes of each transport. Within a token's text its quotes are escaped.
END = {
    "sse": re.compile(rb'"sha256": "[0-9a-f]{64}"\}\n\n'),
    "chunked": re.compile(rb'"sha256": "[0-9a-f]{64}"\}\n'),
    "websocket": re.compile(rb'"sha256": "[0-9a-f]{64}"\}'),
    "polling": re.compile(rb'"sha256": "[0-9a-f]{64}"\}'),
    "blocking": re.compile(rb'"sha256": "[0-9a-f]{64}"\}'),
}
# The last byte of a token message. In a page or a whole answer none counts before the body's last byte.
TOKEN = {
    "sse": re.compile(rb'"sent": \d+\}\n\n'),
    "chunked": re.compile(rb'"sent": \d+\}\n'),
    "websocket": re.compile(rb'"sent": \d+\}'),
    "polling": re.compile(rb'"sent": \d+\}'),
    "blocking": re.compile(rb'"sent": \d+\}'),
}


@dataclass(frozen=True)
class Recording:
    """What a real server sent for one question: a response per request (a WebSocket's first is the handshake).

    Offsets count bytes over all responses.
    """

    transport: str
    responses: tuple[bytes, ...]

    @property
    def starts(self) -> list[int]:
        """The offset of each response's first byte, and of the end."""
        return [0, *accumulate(map(len, self.responses))]

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.starts[-1]

    @property
    def complete(self) -> int:
        """The offset behind the end message's last byte."""
        return [match.end() for match in END[self.transport].finditer(b"".join(self.responses))][-1]

    def token_ends(self) -> list[int]:
        """For each token, the offset behind which a client can know it."""
        pattern, whole = TOKEN[self.transport], self.transport in ("polling", "blocking")
        return [
            start + (len(response) if whole else match.end())
            for start, response in zip(self.starts, self.responses, strict=False)
            for match in pattern.finditer(response)
        ]


def record(transport: str, url: str, stream: object) -> Recording:
    """Ask a real server over a raw socket."""
    request = json.dumps({"message": "hello", "seed": 7, "stream": stream, "stream_id": "s"})
    post = CHAT.format(len(request), request).encode()
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as peer:
        if transport == "polling":
            return Recording(transport, tuple(_record_pages(peer, post)))
        responses = []
        if transport == "websocket":
            peer.sendall(UPGRADE)
            responses.append(_read(peer, rb"\r\n\r\n\Z"))
            post = bytes([0x81, 0xFE]) + len(request).to_bytes(2, "big") + bytes(4) + request.encode()
        peer.sendall(post)
        last = rb"\r\n0\r\n\r\n\Z" if transport in ("sse", "chunked") else END[transport].pattern + rb"\Z"
        return Recording(transport, (*responses, _read(peer, last)))


def _record_pages(peer: socket.socket, post: bytes) -> Iterator[bytes]:
    """The answer to the question, a page with the first token, and one with the rest."""
    peer.sendall(post)
    yield _read(peer, rb'"/chat/s"\}\Z')
    first = 0
    while True:
        peer.sendall(b"GET /chat/s?from=%d&wait=5 HTTP/1.1\r\nHost: x\r\n\r\n" % first)
        page = _read(peer, rb'"done": false\}\Z|"[0-9a-f]{64}"\}\Z')
        yield page
        if END["polling"].search(page):
            return
        first += page.count(b'"sent"')
        sleep(0.5)  # the rest falls due and is written


def _read(peer: socket.socket, until: bytes) -> bytes:
    data = b""
    while not re.search(until, data):
        part = peer.recv(65_536)
        assert part, f"the server closed after {data!r}"
        data += part
    return data


@dataclass
class Hazards:
    """Real servers that all know one answer.

    stream: the parameters that ask for it; urls: where each transport's server is
    """

    answer: Schedule
    stream: dict[str, object]
    urls: dict[str, str]
    _recordings: dict[str, Recording] = field(default_factory=dict)

    def recording(self, transport: str) -> Recording:
        """The bytes of that server's answer, recorded when first asked for."""
        if transport not in self._recordings:
            self._recordings[transport] = record(transport, self.urls[transport], self.stream)
        return self._recordings[transport]


@dataclass(frozen=True)
class Fault:
    """What happens to one recorded answer.

    offset: the byte of this number is never sent, the connection ends instead by `how`; None: all is sent
    slice_bytes: sent in pieces of so many (0: all that may be sent at once), `pause_ms` apart
    """

    transport: str
    offset: int | None
    how: How = "fin"
    slice_bytes: int = 0
    pause_ms: float = 0.0

    def words(self) -> str:
        """To be read by `of_words`."""
        return " ".join(map(str, (self.transport, self.offset, self.how, self.slice_bytes, self.pause_ms)))

    @classmethod
    def of_words(cls, words: str) -> Fault:
        """The fault that a failed test has named."""
        transport, offset, how, slice_bytes, pause_ms = words.split()
        number = None if offset == "None" else int(offset)
        return cls(transport, number, "rst" if how == "rst" else "fin", int(slice_bytes), float(pause_ms))

    def is_fatal(self, recording: Recording) -> bool:
        """Whether the end message cannot have arrived."""
        return self.offset is not None and self.offset < recording.complete

    def tokens(self, recording: Recording) -> int:
        """How many tokens can have arrived."""
        reached = recording.total if self.offset is None else self.offset
        return sum(end <= reached for end in recording.token_ends())


def every_fault(recording: Recording, random: Random, untouched: int) -> list[Fault]:
    """A cut at each offset by FIN and by RST, and whole answers between them, in random order and random pieces."""
    cuts: list[tuple[int | None, How]] = [
        (offset, how) for offset in range(recording.total + 1) for how in ("fin", "rst")
    ]
    cuts += [(None, "fin")] * untouched
    random.shuffle(cuts)
    return [Fault(recording.transport, offset, how, *_pieces(random)) for offset, how in cuts]


def _pieces(random: Random) -> tuple[int, float]:
    """Most in one piece (as coalesced as can be), some in pieces of a few bytes, some of those slowly."""
    chance = random.random()
    if chance < 0.80:
        return 0, 0.0
    if chance < 0.81:
        return random.randint(1, 8), 0.0
    return random.randint(60, 400), random.choice((0.0, 0.0, 1.0, 5.0))


@dataclass
class Replay:
    """A scripted server's script: sends a recording with the fault that is set, over as many connections as come."""

    recording: Recording
    fault: Fault
    sent: int = field(default=0, init=False)

    async def script(self, connection: Connection) -> None:
        """One connection: whole answers one after the other, or an answer up to its cut."""
        first = 0
        while True:
            for number in range(first, len(self.recording.responses)):
                response = await self._asked(connection, number)
                if not response or not await self._send(connection, self.recording.starts[number], response):
                    return
            first = int(self.recording.transport == "websocket")  # the handshake is over

    async def _asked(self, connection: Connection, number: int) -> bytes:
        """Wait for the request; its response, or nothing if there is no request."""
        response = self.recording.responses[number]
        if self.recording.transport != "websocket":
            return response if await connection.request() else b""
        if number:
            return response if (await connection.frame()).startswith(b"{") else b""
        key = re.search(rb"(?i)sec-websocket-key: (\S+)", await connection.request())
        if key is None:
            return b""
        accept = base64.b64encode(hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        return re.sub(rb"(?i)(sec-websocket-accept: )\S+", lambda found: found[1] + accept, response)

    async def _send(self, connection: Connection, start: int, response: bytes) -> bool:
        """Send one response; False if the connection was cut."""
        fault, end = self.fault, start + len(response)
        reached = end if fault.offset is None else min(end, fault.offset)
        size = fault.slice_bytes or len(response)
        for at in range(0, reached - start, size):
            if at:
                await asyncio.sleep(fault.pause_ms / 1000)
            await connection.send(response[at : min(at + size, reached - start)])
        if fault.offset is None or not (fault.offset < end or end == fault.offset == self.recording.total):
            return True
        if fault.how == "rst":
            connection.rst()
        return False


@dataclass(frozen=True)
class Behind:
    """A place in a connection's bytes: behind the nth match of a pattern."""

    pattern: re.Pattern[bytes]
    nth: int = 1


@dataclass
class Cutter:
    """A relay in front of a real server. Its connection k is cut behind its first `places[k]` bytes, later ones never.

    A connection ends instead of the next byte, so only when there was one.
    """

    transport: str
    upstream: str
    places: Sequence[int | Behind]
    how: How = "fin"
    url: str = ""
    accepted: int = 0
    fatal: int = 0  # cuts before the end message was through

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        number, self.accepted = self.accepted, self.accepted + 1
        parts = urlsplit(self.upstream)
        try:
            below, above = await asyncio.open_connection(parts.hostname, parts.port)
            up = asyncio.create_task(_copy(reader, above))
            try:
                await self._answer(below, writer, self.places[number] if number < len(self.places) else None)
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
                self.fatal += END[self.transport].search(came, 0, left) is None
                if self.how == "rst":
                    peer: socket.socket = writer.get_extra_info("socket")
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
                return
            writer.write(data)
            await writer.drain()


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
    transport: str, upstream: str, places: Iterable[int | Behind], how: How = "fin"
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

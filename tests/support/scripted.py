"""A server that sends exactly the bytes that a test wants, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress


def accepting(request: bytes) -> bytes:
    """The value of Sec-WebSocket-Accept in the answer to a WebSocket's opening handshake."""
    key = re.search(rb"(?i)sec-websocket-key: (\S+)", request)
    assert key is not None
    return base64.b64encode(hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


def switching(request: bytes) -> bytes:
    """The answer to a WebSocket's opening handshake."""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accepting(request) + b"\r\n\r\n"
    )


class Connection:
    """One connection of a client, as the script sees it. It counts payload by itself, to check others' counts."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.received = self.sent = 0

    async def request(self) -> bytes:
        """The next HTTP request, head and body; empty when the client has closed."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""
        length = re.search(rb"(?i)content-length: (\d+)", head)
        body = await self._reader.readexactly(int(length[1])) if length else b""
        self.received += len(head) + len(body)
        return head + body

    async def upgrade(self) -> None:
        """A WebSocket's opening handshake."""
        await self.send(switching(await self.request()))

    async def frame(self) -> bytes:
        """The next frame of a WebSocket client, unmasked; empty when the client has closed."""
        try:
            head = await self._reader.readexactly(2)
            size = head[1] & 127
            size = int.from_bytes(await self._reader.readexactly(2), "big") if size == 126 else size
            mask, data = await self._reader.readexactly(4), await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        self.received += len(head) + (2 if size > 125 else 0) + 4 + size
        return bytes(byte ^ mask[k % 4] for k, byte in enumerate(data))

    async def receive(self) -> bytes:
        """What comes next, whatever it is; nothing when the client has closed."""
        data = await self._reader.read(65_536)
        self.received += len(data)
        return data

    async def send(self, data: bytes) -> None:
        """These bytes, now."""
        self.sent += len(data)
        self._writer.write(data)
        await self._writer.drain()

    async def send_slowly(self, data: bytes) -> None:
        """Byte by byte, each in a segment of its own as far as a sender can tell."""
        for byte in data:
            await self.send(bytes([byte]))
            await asyncio.sleep(0)

    async def fin(self) -> None:
        """Close in an orderly way."""
        with suppress(ConnectionError):
            self._writer.close()
            await self._writer.wait_closed()

    async def half_close(self) -> None:
        """FIN, and go on reading until the client closes: who closes with bytes unread sends an RST."""
        self._writer.write_eof()
        await self.hold()

    def rst(self) -> None:
        """Reset the connection."""
        peer: socket.socket = self._writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def hold(self) -> None:
        """Say nothing more, until the client closes."""
        with suppress(ConnectionError):
            while await self._reader.read(65_536):
                pass


Script = Callable[[Connection], Awaitable[None]]


class ScriptedServer:
    """Its address, and the connections that it had."""

    def __init__(self) -> None:
        self.url = ""
        self.connections: list[Connection] = []


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[ScriptedServer]:
    """A server on a free port whose every connection follows `script` and is then closed."""
    served = ScriptedServer()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        connection = Connection(reader, writer)
        served.connections.append(connection)
        with suppress(ConnectionError, asyncio.CancelledError):
            await script(connection)
        with suppress(asyncio.CancelledError):  # the test is over while it waits for the client's side
            await connection.fin()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield served
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def blocking(serve: Callable[[socket.socket], None]) -> AsyncIterator[str]:
    """A server whose first connection `serve` has, in a thread of its own: where it sends without looking up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve_one() -> None:
            with suppress(OSError), listening.accept()[0] as connection:
                serve(connection)

        serving = asyncio.create_task(asyncio.to_thread(serve_one))
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        await serving


@contextmanager
def closed_port() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}"


def response(body: bytes, content_type: str = "application/json", status: str = "200 OK", more: str = "") -> bytes:
    """A whole response of known length."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def chunk(data: bytes) -> bytes:
    """A chunk of a chunked response; no data: the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def frame(data: bytes, opcode: int = 1, fin: bool = True) -> bytes:
    """A server's WebSocket frame."""
    size = bytes([len(data)]) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2, "big")
    return bytes([fin << 7 | opcode]) + size + data


def close_frame(code: int, reason: str = "") -> bytes:
    """A server's farewell."""
    return frame(code.to_bytes(2, "big") + reason.encode(), 8)


def streamed(content_type: str, tokens: list[bytes], end: bytes) -> list[bytes]:
    """What a streaming server sends after a POST: a head, then a piece per token, then the end."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [head.encode(), *map(chunk, tokens), chunk(end) + chunk(b"")]

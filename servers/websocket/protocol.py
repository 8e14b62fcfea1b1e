"""One client's WebSocket: what comes is read by websockets' sans-I/O protocol, what goes out is written frame by frame.

The protocol answers pings, checks UTF-8 and sizes, and says good-bye as RFC 6455 asks. Messages do not pass through it:
a server's text frame is a few bytes in front of the message, and a stream has very many.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from servers import push
from servers.generation import Generation
from servers.service import MAX_REQUEST_BYTES
from servers.websocket import wire

# Larger requests than the limit are read up to here, to be refused in words; beyond, RFC 6455's 1009 must do.
MAX_INCOMING_BYTES = 2 * MAX_REQUEST_BYTES
QUEUED_REQUESTS = 16
PONG_TIMEOUT_S = 20.0
FAREWELL_S = 1.0  # a client that does not answer a farewell is cut after so long, as over HTTP when the server stops
INVALID_DATA, POLICY_VIOLATION, INTERNAL_ERROR, GOING_AWAY = 1007, 1008, 1011, 1001  # close codes of RFC 6455, 7.4.1


class Received(NamedTuple):
    """A message of the client."""

    data: bytes
    is_text: bool


class WebSocket:
    """A client's messages one by one, and those to it (servers.push.MessageWriter, servers.connection.Upgraded)."""

    def __init__(
        self,
        transport: asyncio.Transport,
        drain: Callable[[], Coroutine[Any, Any, None]],
        heartbeat_s: float | None,
    ) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # closing, or lost
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.backlog_bytes = transport.get_write_buffer_size
        self._is_open = True
        self._transport = transport
        self._drained = drain
        self._protocol = Protocol(Side.SERVER, max_size=MAX_INCOMING_BYTES)
        self._unfinished = bytearray()
        self._is_text = True
        self._received: deque[Received] = deque()
        self._received_bytes = 0
        self._arrived = asyncio.Event()
        self._reading = True
        self._writable = True
        self._stall: asyncio.TimerHandle | None = None
        self._farewell: asyncio.TimerHandle | None = None
        self._heartbeat_s = heartbeat_s
        self._heart: asyncio.TimerHandle | None = None
        self._pinged_s: float | None = None  # when the ping was sent that nothing has come after
        if heartbeat_s is not None:
            self._heart = self._later(heartbeat_s, self._beat)

    # ---- what the client sends

    async def receive(self) -> Received | None:
        """The client's next message; None once the connection is closing."""
        while self._is_open and not self._received:
            self._arrived.clear()
            await self._arrived.wait()
        if not self._is_open:
            return None
        message = self._received.popleft()
        self._received_bytes -= len(message.data)
        self._steer_reading()
        return message

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes of the client (servers.connection.Upgraded)."""
        self._pinged_s = None  # whoever sends anything is there
        self._protocol.receive_data(data)
        for frame in self._protocol.events_received():
            if isinstance(frame, Frame):
                self._take(frame)
        self._flush()
        self._steer_reading()
        return False, b""

    def eof_received(self) -> None:
        """The client has closed its side; WebSocket knows no half-closed connection."""
        self._leave()

    def feed_eof(self) -> None:
        """The connection is lost."""
        self._end()
        if not self.lost.done():
            self.lost.set_result(None)
        for timer in (self._stall, self._farewell, self._heart):
            if timer is not None:
                timer.cancel()

    def _take(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._is_text = frame.opcode is Opcode.TEXT
        elif frame.opcode is not Opcode.CONT:
            return
        self._unfinished += frame.data
        if frame.fin:
            self._complete(bytes(self._unfinished))
            self._unfinished.clear()

    def _complete(self, data: bytes) -> None:
        if self._is_text:
            try:
                data.decode("utf-8")
            except UnicodeDecodeError as error:
                self._protocol.fail(INVALID_DATA, f"not UTF-8 at byte {error.start}")
                return
        self._received.append(Received(data, self._is_text))
        self._received_bytes += len(data)
        self._arrived.set()

    def _steer_reading(self) -> None:
        """Read while there is room for more requests, and while the client takes what it has asked for."""
        room = len(self._received) < QUEUED_REQUESTS and self._received_bytes < MAX_INCOMING_BYTES
        was_reading, self._reading = self._reading, self._writable and room
        if self._transport.is_closing():
            return
        if not self._reading:
            self._transport.pause_reading()  # again and again: aiohttp resumes it after what came with the handshake
        elif not was_reading:
            self._transport.resume_reading()

    # ---- what goes to the client

    def write_token(self, generation: Generation, i: int, sent_ns: int) -> int:
        """Send a token; the backlog in bytes then."""
        if self._is_open:
            self._transport.write(wire.encode_frame(generation.token(i, sent_ns)))
        return self.backlog_bytes()

    def write(self, _: int, messages: list[bytes], end: bytes | None) -> None:
        """Send each message in a text frame."""
        if not self._is_open:
            return
        frames = [wire.encode_frame(message) for message in messages]
        if end is not None:
            frames.append(wire.encode_frame(end))
        self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))

    def heartbeat(self) -> None:
        """Nothing: pings go out by their own timer, also between answers."""

    async def drain(self) -> None:
        """Return when the transport's buffer is below its limit. Raises OSError when the connection is lost."""
        if not self._is_open:
            raise ConnectionResetError("the connection is closing")
        await self._drained()

    def close(self, code: int, reason: str) -> None:
        """Say good-bye, and cut the connection if the client does not answer within `FAREWELL_S`."""
        if self._is_open:
            self._protocol.send_close(code, reason)
            self._flush()

    def abort(self) -> None:
        """Cut the connection."""
        self._end()
        self._transport.abort()

    def pause_writing(self) -> None:
        """The client takes less than it is sent: nor do we read what it wants then, and not for ever."""
        self._writable = False
        self._stall = self._later(push.STALL_LIMIT_S, self.abort)
        self._steer_reading()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._writable = True
        if self._stall is not None:
            self._stall.cancel()
        self._steer_reading()

    def _flush(self) -> None:
        """Send what the protocol has to say."""
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            elif self._transport.can_write_eof():
                self._transport.write_eof()
        if self._protocol.close_expected():
            self._leave()

    def _leave(self) -> None:
        self._end()
        if self._farewell is None:
            self._farewell = self._later(FAREWELL_S, self.abort)

    def _end(self) -> None:
        if self._is_open:
            self._is_open = False
            self.ended.set_result(None)
            self._arrived.set()

    def _beat(self) -> None:
        """Ping, unless the client still owes a sign of life; if it does for too long, it is gone."""
        assert self._heartbeat_s is not None
        self._heart = self._later(self._heartbeat_s, self._beat)
        if not self._is_open:
            return
        now_s = asyncio.get_running_loop().time()
        if self._pinged_s is None:
            self._pinged_s = now_s
            self._protocol.send_ping(b"")
            self._flush()
        elif self._reading and now_s - self._pinged_s > PONG_TIMEOUT_S:
            self._protocol.fail(INTERNAL_ERROR, "no answer to a ping")
            self._flush()

    def _later(self, after_s: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(after_s, callback)

"""One proxied connection: two sockets, a chain of behaviours between them, and a timer.

Raw asyncio protocols rather than streams: a token costs one callback and one write. What the behaviours decide is in
the chain; here is only how it is done to sockets.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Literal, Protocol, cast

from bench.proxy.balancer import Balancer
from bench.proxy.chain import Chain
from bench.proxy.log import ConnectionLog, ConnectionRecord, NotFollowed
from bench.proxy.rule import Rule, labels
from bench.proxy.stage import NEVER, Common, Direction, Ending

LINGER_S = 1.0
"""After a FIN that a behaviour sends, the client's bytes are still read (and dropped) for this long: closing at once
would make the kernel answer them with a RST, and the client might never read what came before the FIN."""

LONGEST_S = 86_400.0  # of one timer: event loops take no time you like

NO_LINGER = struct.pack("ii", 1, 0)  # closing sends a RST

Reason = Literal["connecting", "writer", "stage"]
"""Why a side is not read: the server is not connected yet; the other side's buffer is full; a stage holds too much."""


class Owner(Protocol):
    """Who is told what happens to a socket."""

    last_byte_s: float

    def connected(self, side: Side) -> None:
        """It is there."""

    def lost(self, side: Side, error: Exception | None) -> None:
        """It is closed."""

    def note_end(self, by: str, now_s: float, closed: Literal["fin", "rst", "black_hole"]) -> None:
        """Its peer sends no more."""

    def other(self, side: Side) -> Side:
        """Where its bytes go, and come from."""


class Side(asyncio.Protocol):
    """One of a relay's two sockets."""

    transport: asyncio.Transport

    def __init__(self, relay: Owner, name: Literal["client", "upstream"]) -> None:
        self.relay = relay
        self.name = name
        self.is_open = False
        self.got_eof = False
        self.sent_fin = False
        self.on_data: Callable[[float, bytes], None] = lambda _now_s, _data: None
        self.on_eof: Callable[[float], None] = lambda _now_s: None
        self._held_by: set[Reason] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.is_open = True
        raw = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.relay.connected(self)

    def data_received(self, data: bytes) -> None:
        now_s = self.relay.last_byte_s = monotonic()
        self.on_data(now_s, data)

    def eof_received(self) -> bool:
        self.got_eof = True
        now_s = monotonic()
        self.relay.note_end(self.name, now_s, "fin")
        self.on_eof(now_s)
        self._close_if_over()
        return True  # asyncio would close the other direction as well

    def pause_writing(self) -> None:
        self.relay.other(self).hold("writer", on=True)

    def resume_writing(self) -> None:
        self.relay.other(self).hold("writer", on=False)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        self.relay.lost(self, error)

    def hold(self, reason: Reason, *, on: bool) -> None:
        """Stop reading for a reason, or take the reason back."""
        (self._held_by.add if on else self._held_by.discard)(reason)
        if not self.is_open or self.transport.is_closing():
            return
        if self._held_by:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def read_freely(self) -> None:
        """Forget every reason not to read."""
        self._held_by.clear()
        self.hold("stage", on=False)

    def send_fin(self) -> None:
        """FIN behind what was written; the other direction stays open."""
        if self.is_open and not self.sent_fin and not self.transport.is_closing():
            self.sent_fin = True
            with suppress(OSError):  # of asyncio's own loop, which does not notice a RST behind a FIN
                self.transport.write_eof()
            self._close_if_over()

    def close(self) -> None:
        """FIN behind what was written, and no more reading."""
        if self.is_open:
            self.transport.close()

    def reset(self) -> None:
        """RST. What was written goes out first: the kernel would throw it away."""
        if not self.is_open:
            return
        if self.transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(0.001, self._abort)
        else:
            self._abort()

    def _abort(self) -> None:
        if self.is_open:
            raw = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            self.transport.abort()

    def _close_if_over(self) -> None:
        if self.got_eof and self.sent_fin:
            self.transport.close()


class Relay:
    """One connection through the proxy: the chain's surroundings."""

    def __init__(
        self,
        number: int,
        balancer: Balancer,
        rules: Sequence[Rule],
        *,
        seed: int,
        log: ConnectionLog,
        common: Common,
        when_over: Callable[[Relay], None],
    ) -> None:
        self.number = number
        self.client = Side(self, "client")
        self.server = Side(self, "upstream")
        self.last_byte_s = self.start_s = monotonic()
        self.bytes_up = self.bytes_down = 0
        self._early = b""
        self._is_over = False
        self._balancer = balancer
        self.server_number = 0
        self._rules = rules
        self._log = log
        self._when_over = when_over
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_s = NEVER
        self._connecting: asyncio.Task[None] | None = None
        self._end: tuple[str, float, Literal["fin", "rst", "black_hole"], float] | None = None
        self.chain = Chain(rules, self, f"{seed}/{number}", common)

    def factory(self) -> Side:
        """The protocol for the accepted socket."""
        return self.client

    def other(self, side: Side) -> Side:
        """The opposite side."""
        return self.server if side is self.client else self.client

    # Opening.

    def connected(self, side: Side) -> None:
        """A socket is there. The behaviours see it before a byte of it comes: a server may speak first, and at once."""
        if side is self.client:
            self._accept()
        elif self.client.is_open:
            self.chain.opened(monotonic())

    def _accept(self) -> None:
        """The client is there: let the behaviours see it, then connect to the server."""
        self.client.on_data, self.client.on_eof = self._keep_early, lambda _now_s: None
        self.server.on_data, self.server.on_eof = self.chain.down, self.chain.down_eof
        self.chain.accepted(monotonic())
        if not self.chain.stopped:
            self._connecting = self._loop.create_task(self._connect())

    def _keep_early(self, _now_s: float, data: bytes) -> None:
        """Bytes from a client before the server is connected. One read of them: then reading stops.

        (Reading cannot be stopped earlier: uvloop starts it behind `connection_made`, whatever was asked for in there.)
        """
        self._early += data
        self.client.hold("connecting", on=True)

    def _listen(self, now_s: float) -> None:
        """Let the client's bytes into the chain, those that came early first."""
        self.client.on_data, self.client.on_eof = self.chain.up, self.chain.up_eof
        early, self._early = self._early, b""
        if early:
            self.chain.up(now_s, early)
        if self.client.got_eof and not self.chain.stopped:
            self.chain.up_eof(now_s)
        self.client.hold("connecting", on=False)

    async def _connect(self) -> None:
        if not await self._reach() and self.client.is_open and not self.chain.unreachable(monotonic()):
            self.note_end("upstream", monotonic(), "rst")
            self.client.reset()
        self._connecting = None
        if self._is_too_late():
            self.server.close()
            self._check_over()
        elif not self.chain.stopped:
            self._listen(monotonic())

    async def _reach(self, wanted: int | None = None) -> bool:
        """Connect to a server, the wanted one first; False if there is none to connect to."""
        tried: set[int] = set()
        while True:
            number = self._balancer.choose(monotonic(), wanted=wanted, source=self._source(), tried=tried)
            if number is None:
                return False
            host, port = self._balancer.addresses[number]
            try:
                await self._loop.create_connection(lambda: self.server, host, port)
            except (OSError, ValueError):  # ValueError: a name that no resolver takes
                self._balancer.failed(monotonic(), number)
                tried.add(number)
            else:
                self.server_number = number
                return True

    def _source(self) -> str:
        """The client's address, if that is what a server is chosen by."""
        needs_it = self._balancer.rule.sticky == "source" and self.client.is_open
        return str(self.client.transport.get_extra_info("peername")[0]) if needs_it else ""

    def _is_too_late(self) -> bool:
        """Whether a server that was connected to is not needed any more."""
        ended = self.chain.ended
        return not self.client.is_open or bool(ended and self.chain.stopped and ended.action != "black_hole")

    # The chain's surroundings.

    def lease(self, now_s: float, wanted: int | None, *, fresh: bool) -> None:
        """It leads to one server from its beginning to its end; bench.proxy.pool has another kind."""

    def release(self, now_s: float) -> None:
        """The same."""

    def write_up(self, _now_s: float, data: bytes) -> None:
        server = self.server
        if server.is_open and not server.sent_fin:
            self.bytes_up += len(data)
            server.transport.write(data)

    def write_down(self, _now_s: float, data: bytes) -> None:
        client = self.client
        if client.is_open and not client.sent_fin:
            self.bytes_down += len(data)
            client.transport.write(data)

    def close_up(self, _now_s: float) -> None:
        self.server.send_fin()

    def close_down(self, _now_s: float) -> None:
        self.client.send_fin()
        if self.chain.stopped:
            self._loop.call_later(LINGER_S, self.client.close)

    def wake_at(self, deadline_s: float) -> None:
        if deadline_s >= self._armed_s or self._is_over:
            return  # woken too early is harmless
        if self._timer:
            self._timer.cancel()
        self._armed_s = deadline_s
        # Rounded up to whole ms, the loop's resolution: a timer that comes early would have to be set again.
        delay_s = math.ceil(min(max(0.0, deadline_s - monotonic()), LONGEST_S) * 1000) / 1000
        self._timer = self._loop.call_later(delay_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._armed_s = NEVER
        self.chain.expire(monotonic())

    def hold(self, direction: Direction, *, on: bool) -> None:
        (self.client if direction == "up" else self.server).hold("stage", on=on)

    def not_followed(self, now_s: float, why: str) -> None:
        self._log.write(NotFollowed(connection=self.number, at_s=round(now_s - self.start_s, 6), why=why))

    def cut(self, ending: Ending) -> None:
        self.note_end(ending.by, ending.at_s, ending.action)
        if ending.action == "black_hole":
            self._fall_silent(ending)
            return
        for side in (self.client, self.server):
            side.on_data, side.on_eof = (lambda _now_s, _data: None), (lambda _now_s: None)
            side.read_freely()
        if ending.action == "rst":
            self.client.reset()
            self.server.reset()
        else:
            self.server.close()  # the client's FIN comes down the chain, behind what is on its way

    def _fall_silent(self, ending: Ending) -> None:
        sides = {"up": [self.client], "down": [self.server], "both": [self.client, self.server]}[ending.way]
        for side in sides:
            late = side.reset if ending.late_data == "rst" else None
            side.on_data = lambda _now_s, _data, late=late: late() if late else None  # type: ignore[misc]
            side.on_eof = lambda _now_s, late=late or side.close: late()  # type: ignore[misc]
            side.read_freely()
        self._loop.call_later(min(ending.forget_s, LONGEST_S), self.reset)

    # The end.

    def note_end(self, by: str, now_s: float, closed: Literal["fin", "rst", "black_hole"]) -> None:
        """Keep who ended the connection; only the first counts."""
        if self._end is None:
            self._end = (by, now_s, closed, now_s - self.last_byte_s)

    def reset(self) -> None:
        """Let go of both sides at once."""
        self.client.reset()
        self.server.reset()

    def lost(self, side: Side, error: Exception | None) -> None:
        """A socket is closed. If not by us, it was reset; without a behaviour's doing the reset is passed on.

        (A socket that is closed in order has had a FIN each way, and the chain brings the other side its own.)
        """
        if error:
            self.note_end(side.name, monotonic(), "rst")
            if not self.chain.stopped:
                self.other(side).reset()
        self._check_over()

    def _check_over(self) -> None:
        if self.client.is_open or self.server.is_open or self._connecting:
            return
        self._is_over = True
        if self._timer:
            self._timer.cancel()
        self._when_over(self)

    def record(self) -> ConnectionRecord:
        """What the log says about this connection."""
        now_s = monotonic()
        by, at_s, closed, idle_s = self._end or ("proxy", now_s, "rst", now_s - self.last_byte_s)
        started = datetime.now(UTC) - timedelta(seconds=now_s - self.start_s)
        return ConnectionRecord(
            connection=self.number,
            started=started.isoformat(timespec="milliseconds"),
            start_ns=round(self.start_s * 1e9),
            duration_s=round(now_s - self.start_s, 6),
            ended_by=by,
            ended_at_s=round(at_s - self.start_s, 6),
            idle_s=round(idle_s, 6),
            closed=closed,
            status=self.chain.ended.status if self.chain.ended else None,
            bytes_up=self.bytes_up,
            bytes_down=self.bytes_down,
            struck=[label for label, stage in zip(labels(self._rules), self.chain.stages, strict=True) if stage.struck],
        )

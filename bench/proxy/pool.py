"""Connections to servers that wait for another request, and the relay that takes one for each request."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import Any, Literal, NamedTuple

from bench.proxy.balancer import Balancer
from bench.proxy.relay import Relay, Side
from bench.proxy.stage import Direction


class Kept(NamedTuple):
    """A connection that waits: to which server, and its timer."""

    number: int
    side: Side
    timer: asyncio.TimerHandle


class KeptConnections:
    """The kept connections of one proxy, and their owner while nobody uses them (bench.proxy.relay.Owner)."""

    def __init__(self, balancer: Balancer) -> None:
        self.last_byte_s = 0.0
        self._rule = balancer.rule
        self._kept: list[Kept] = []  # the one that has waited longest first

    def take(self, number: int) -> Side | None:
        """The connection to that server that was used last, if there is one."""
        kept = next((each for each in reversed(self._kept) if each.number == number), None)
        return kept and self._forget(kept)

    def give(self, number: int, side: Side) -> None:
        """Keep a connection, or close it."""
        side.relay = self
        side.on_data = lambda _now_s, _data: self._close(side)  # nobody has asked
        side.on_eof = lambda _now_s: self._notice(side)
        side.read_freely()
        can_ask = side.is_open and not (side.got_eof or side.sent_fin or side.transport.is_closing())
        if self._rule.keep_s is None or not can_ask:
            side.close()
            return
        timer = asyncio.get_running_loop().call_later(self._rule.keep_s, self._close, side)
        self._kept.append(Kept(number, side, timer))
        if len(self._kept) > self._rule.keep_most:
            self._close(self._kept[0].side)

    def close(self) -> None:
        """Close all."""
        for kept in list(self._kept):
            self._forget(kept).close()

    def _forget(self, kept: Kept) -> Side:
        kept.timer.cancel()
        self._kept.remove(kept)
        return kept.side

    def _notice(self, side: Side) -> None:
        """The server has closed it; that may be noticed late."""
        asyncio.get_running_loop().call_later(self._rule.close_lag_ms / 1000, self._close, side)

    def _close(self, side: Side) -> None:
        """Close a connection, if it is still here."""
        for kept in self._kept:
            if kept.side is side:
                self._forget(kept).close()
                return

    # Of an owner.

    def connected(self, side: Side) -> None:
        """See Owner."""

    def lost(self, side: Side, error: Exception | None) -> None:
        """See Owner."""
        self._close(side)

    def note_end(self, by: str, now_s: float, closed: Literal["fin", "rst", "black_hole"]) -> None:
        """See Owner."""

    def other(self, side: Side) -> Side:
        """See Owner."""
        return side


class PooledRelay(Relay):
    """A connection whose requests are each sent on a connection from the pool, or a new one."""

    def __init__(self, *given: Any, pool: KeptConnections, **named: Any) -> None:
        super().__init__(*given, **named)
        self._pool = pool
        self._is_held = False  # what comes down
        self._ends_up = False  # the client has sent its FIN while a server was being connected to

    def _accept(self) -> None:
        self.client.on_data, self.client.on_eof = self.chain.up, self.chain.up_eof
        now_s = monotonic()
        self.chain.accepted(now_s)
        if not self.chain.stopped:
            self.chain.opened(now_s)

    def connected(self, side: Side) -> None:
        if side is self.client:
            self._accept()

    def lease(self, now_s: float, wanted: int | None, *, fresh: bool) -> None:
        number = self._balancer.choose(now_s, wanted=wanted, source=self._source())
        side = None if fresh or number is None else self._pool.take(number)
        if side is None or number is None:
            self._connecting = self._loop.create_task(self._lease_new(number))
            return
        self.server_number = number
        self._attach(side)
        if side.got_eof:  # which nobody has noticed: what is sent there is lost
            self._loop.call_soon(self._server_ended, side, now_s)

    def release(self, now_s: float) -> None:
        side, self.server = self.server, Side(self, "upstream")
        self._pool.give(self.server_number, side)
        if self.client.got_eof:
            self.client.send_fin()

    async def _lease_new(self, wanted: int | None) -> None:
        self.server = Side(self, "upstream")
        is_there = await self._reach(wanted)
        self._connecting = None
        if self._is_too_late():
            self.server.close()
            self._check_over()
        elif is_there:
            self._attach(self.server)
            early, self._early = self._early, b""
            self.write_up(monotonic(), early)
            self.client.hold("connecting", on=False)
            if self._ends_up:
                self.server.send_fin()
        elif not self.chain.unreachable(monotonic()):
            self.note_end("upstream", monotonic(), "rst")
            self.client.reset()

    def _attach(self, side: Side) -> None:
        side.relay, self.server = self, side
        ended = self.chain.ended  # then it is a black hole
        side.on_data = (lambda _now_s, _data: None) if ended and ended.way != "up" else self.chain.down
        side.on_eof = partial(self._server_ended, side)
        side.hold("stage", on=self._is_held)

    def _server_ended(self, side: Side, now_s: float) -> None:
        """FIN or RST. Before a response only the request is lost; else it is passed on to the client."""
        if side is not self.server or self.chain.stopped:
            return
        if self.chain.phase == "waiting":
            self.server = Side(self, "upstream")
            side.relay = self._pool
            side.close()
            self.chain.abandoned(now_s)
        else:
            self.chain.down_eof(now_s)

    def lost(self, side: Side, error: Exception | None) -> None:
        if side is self.server and error and self.chain.phase == "waiting" and self.client.is_open:
            self._server_ended(side, monotonic())
        super().lost(side, None if side not in (self.client, self.server) else error)

    def write_up(self, now_s: float, data: bytes) -> None:
        if self._connecting:
            self._early += data
            self.client.hold("connecting", on=True)
        else:
            super().write_up(now_s, data)

    def close_up(self, now_s: float) -> None:
        if self._connecting:
            self._ends_up = True
        elif self.server.is_open:
            self.server.send_fin()
        else:
            self.client.send_fin()

    def hold(self, direction: Direction, *, on: bool) -> None:
        if direction == "down":
            self._is_held = on
        super().hold(direction, on=on)

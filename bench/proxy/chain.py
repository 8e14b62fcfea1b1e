"""The behaviours of one connection, wired in a row, with their deadlines (pure).

The chain knows no sockets: what lies outside it are its `Surroundings`. The relay gives it real sockets and a real
clock, the tests a list and a number.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from bench.proxy.http_follower import HttpFollower
from bench.proxy.rule import Rule
from bench.proxy.stage import NEVER, Common, Direction, End, Ending, HttpPhase, Pass, Stage


class Surroundings(Protocol):
    """The world outside a chain: the two sockets and the timer."""

    def write_up(self, now_s: float, data: bytes) -> None:
        """Send to the server."""

    def write_down(self, now_s: float, data: bytes) -> None:
        """Send to the client."""

    def close_up(self, now_s: float) -> None:
        """Send the server a FIN, behind what was written."""

    def close_down(self, now_s: float) -> None:
        """Send the client a FIN, behind what was written."""

    def wake_at(self, deadline_s: float) -> None:
        """Call the chain's `expire` at that time; earlier is harmless."""

    def cut(self, ending: Ending) -> None:
        """A behaviour ended the connection: no more bytes of that way may enter the chain."""

    def hold(self, direction: Direction, *, on: bool) -> None:
        """Stop (or go on) reading what goes that way: a stage holds as much as it may."""

    @property
    def server_number(self) -> int:
        """Which of the servers it is connected to."""

    def lease(self, now_s: float, wanted: int | None, *, fresh: bool) -> None:
        """Connect to a server for a while; what is written meanwhile goes there."""

    def release(self, now_s: float) -> None:
        """Let that server go again."""

    def not_followed(self, now_s: float, why: str) -> None:
        """From here on the bytes are not followed as HTTP, though behaviours need it; at most once."""


class Chain:
    """One connection's stages, from the client's side to the server's.

    up, down, up_eof, down_eof: where bytes and their end enter, from the client and from the server.
    """

    up: Pass
    down: Pass
    up_eof: End
    down_eof: End

    def __init__(
        self, rules: Sequence[Rule], surroundings: Surroundings, seed: str, common: Common | None = None
    ) -> None:
        self._surroundings = surroundings
        self.common = common or Common()
        self._busy = False
        self._holders: dict[Direction, set[object]] = {"up": set(), "down": set()}
        self.ended: Ending | None = None  # what ended the connection, or one way of it
        self.stopped = False  # nothing may pass any more, either way
        # A generator a stage: what one draws does not shift what another sees.
        self.stages = [self._stage(rule, f"{seed}/{place}") for place, rule in enumerate(rules)]
        aware = [stage for stage in self.stages if stage.http]
        self.http = HttpFollower(aware, self, surroundings.not_followed) if aware else None
        self._wire(aware)

    def _stage(self, rule: Rule, seed: str) -> Stage:
        stage = rule.stage(self, partial(random.Random, seed))
        if rule.methods or rule.content_types:
            stage.methods = frozenset(name.encode() for name in rule.methods)
            stage.content_types = frozenset(name.encode() for name in rule.content_types)
        return stage

    def _wire(self, aware: list[Stage]) -> None:
        hops: list[Stage | HttpFollower] = list(self.stages)
        up_hops, down_hops = hops.copy(), hops.copy()
        if self.http:
            up_hops.insert(up_hops.index(aware[0]), self.http)
            down_hops.insert(down_hops.index(aware[-1]) + 1, self.http)
        self.up, self.up_eof = self._wire_up(up_hops)
        self.down, self.down_eof = self._wire_down(down_hops)

    def _wire_up(self, hops: list[Stage | HttpFollower]) -> tuple[Pass, End]:
        send: Pass = self._surroundings.write_up
        end: End = self._surroundings.close_up
        for hop in reversed(hops):
            hop.send_up, hop.end_up = send, end
            send = hop.up if type(hop).up is not Stage.up else send
            end = hop.up_eof if type(hop).up_eof is not Stage.up_eof else end
        return send, end

    def _wire_down(self, hops: list[Stage | HttpFollower]) -> tuple[Pass, End]:
        send: Pass = self._surroundings.write_down
        end: End = self._surroundings.close_down
        for hop in hops:
            hop.send_down, hop.end_down = send, end
            send = hop.down if type(hop).down is not Stage.down else send
            end = hop.down_eof if type(hop).down_eof is not Stage.down_eof else end
        return send, end

    @property
    def phase(self) -> HttpPhase:
        """Where the HTTP on this connection stands; "tunnel" if no stage cares."""
        return self.http.phase if self.http else "tunnel"

    def accepted(self, now_s: float) -> None:
        """A client has connected; the server is not asked yet."""
        for stage in self.stages:
            stage.accepted(now_s)

    def opened(self, now_s: float) -> None:
        """Both sides are connected."""
        for stage in self.stages:
            stage.opened(now_s)

    def unreachable(self, now_s: float) -> bool:
        """The server cannot be connected to. True if a stage will answer in its place."""
        return any(stage.unreachable(now_s) for stage in self.stages)

    def abandoned(self, now_s: float) -> bool:
        """The leased server has ended before its response. True if a stage deals with it."""
        return any(stage.abandoned(now_s) for stage in self.stages)

    def expire(self, now_s: float) -> None:
        """Wake every stage whose deadline is over, then ask to be woken for the next one."""
        self._busy = True
        for stage in self.stages:
            if stage.deadline_s <= now_s:
                stage.deadline_s = NEVER
                stage.expired(now_s)
        self._busy = False
        self._surroundings.wake_at(min((stage.deadline_s for stage in self.stages), default=NEVER))

    # What stages call.

    @property
    def server_number(self) -> int:
        """Which of the servers the connection leads to."""
        return self._surroundings.server_number

    def lease(self, now_s: float, wanted: int | None, *, fresh: bool = False) -> None:
        """Lead to a server for a while."""
        self._surroundings.lease(now_s, wanted, fresh=fresh)

    def release(self, now_s: float) -> None:
        """Let the server go again."""
        self._surroundings.release(now_s)

    def wake_at(self, deadline_s: float) -> None:
        """A stage has a new deadline. A later one needs nothing: the surroundings wakes the chain once in vain."""
        if not self._busy:
            self._surroundings.wake_at(deadline_s)

    def cut(self, ending: Ending) -> bool:
        """A stage ends the connection. False if another was first."""
        if self.ended:
            return False
        self.ended = ending
        self.stopped = ending.way == "both"
        self._surroundings.cut(ending)
        return True

    def hold(self, holder: object, direction: Direction, *, on: bool) -> None:
        """Something in the chain holds as much as it may (or has room again); reading stops while anything does."""
        holders = self._holders[direction]
        before = bool(holders)
        (holders.add if on else holders.discard)(holder)
        if bool(holders) != before:
            self._surroundings.hold(direction, on=on)

"""A behaviour at work on one connection (pure: time is an argument, bytes go in and out by calls).

    client ──up──▶ stage 0 ──▶ stage 1 ──▶ … ──▶ server
    client ◀────── stage 0 ◀── stage 1 ◀── … ◀──down── server

The chain wires each stage to its neighbours: `send_up` is the next stage's `up` (or the server's socket), `send_down`
the previous one's `down` (or the client's socket). A stage overrides only what it cares about; what it does not
override costs nothing, because the chain leaves it out of that path.

`now_s` is always CLOCK_MONOTONIC in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, TypeVar, cast

import msgspec

from bench.proxy.http_bytes import Headers, RequestHead, ResponseHead, content_type, plain_response

NEVER = float("inf")

Direction = Literal["up", "down", "both"]
"""Up is client to server, down is server to client."""

CutAction = Literal["fin", "rst", "black_hole"]
"""How a behaviour ends a connection: an orderly close, a reset, or silence with the sockets left open."""

LateData = Literal["drop", "rst"]
"""What a black hole does with bytes that still arrive: nothing, or a reset to whoever sent them."""

HttpPhase = Literal["idle", "waiting", "responding", "uploading", "tunnel"]
"""No request outstanding; a request and no response yet (an interim one is none); in a response; the response is over
and its request is not; no HTTP (a WebSocket, or plain TCP)."""

Pass = Callable[[float, bytes], None]
"""Takes bytes onwards: (now_s, data)."""
End = Callable[[float], None]
"""Takes the end of a direction (a FIN) onwards: (now_s)."""


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """What a behaviour did to a connection, and when (`at_s` on the chain's clock)."""

    by: str
    at_s: float
    action: CutAction
    way: Direction = "both"
    status: int | None = None
    late_data: LateData = "drop"
    forget_s: float = 300.0
    """How long after a black hole began the proxy lets go of what the peers left open."""


_Shared = TypeVar("_Shared")


class Common:
    """What the connections through one proxy have in common.

    start_s: from when on the moments of its events are counted, on the chains' clock
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self.start_s = start_s
        self._shared: dict[int, object] = {}

    def shared(self, rule: object, make: Callable[[], _Shared]) -> _Shared:
        """What the stages of this very rule share; made when it is first asked for."""
        if id(rule) not in self._shared:
            self._shared[id(rule)] = make()
        return cast(_Shared, self._shared[id(rule)])


class Context(Protocol):
    """The chain, as one of its stages sees it."""

    common: Common
    down: Pass
    """Where the server's bytes enter: what goes in here passes for an answer of its."""
    stopped: bool
    """Nothing may pass any more, either way."""

    @property
    def phase(self) -> HttpPhase:
        """Where the HTTP on this connection stands; "tunnel" if no stage cares."""

    def wake_at(self, deadline_s: float) -> None:
        """A stage has a new deadline."""

    def cut(self, ending: Ending) -> bool:
        """End the connection. False if another stage was first."""

    def hold(self, holder: object, direction: Direction, *, on: bool) -> None:
        """Something in the chain holds as much as it may (or has room again): reading stops while anything does."""

    @property
    def server_number(self) -> int:
        """Which of the servers the connection leads to."""

    def lease(self, now_s: float, wanted: int | None, *, fresh: bool = False) -> None:
        """Lead to a server for a while: to the wanted one, if there is such; by a new connection, if `fresh`."""

    def release(self, now_s: float) -> None:
        """Let the server go again."""


class Stage:
    """Base of every behaviour's stage: passes everything on and never wakes.

    Stages with `http` also hear about HTTP: `request` and `response` are called before the bytes of that head, and the
    head then comes whole in a call of its own (rewritten, if a stage likes to); `finished` after the last byte of the
    response; `idle` when its request is over as well; `tunnelled` once the connection is no (longer) HTTP: after a
    101, or because the bytes never were. One request is under way at a time: the next is heard of after `idle`.

    struck: whether the behaviour has done to this connection what it is there for
    """

    http: bool = False
    methods: frozenset[bytes] = frozenset()  # of the exchanges that it hears of; empty: of all
    content_types: frozenset[bytes] = frozenset()

    send_up: Pass
    send_down: Pass
    end_up: End
    end_down: End

    def __init__(self, by: str, chain: Context) -> None:
        self.by = by
        self.chain = chain
        self.deadline_s = NEVER
        self.struck = False

    def concerns(self, request: RequestHead, response: ResponseHead | None = None) -> bool:
        """Whether an exchange is one of those that its rule is limited to; of others it hears only the end."""
        if self.methods and request.method not in self.methods:
            return False
        return response is None or not self.content_types or content_type(response) in self.content_types

    # What happens to the connection.

    def accepted(self, now_s: float) -> None:
        """A client has connected; the server is not asked yet."""

    def opened(self, now_s: float) -> None:
        """Both sides are connected."""

    def up(self, now_s: float, data: bytes) -> None:
        """Bytes from the client."""
        self.send_up(now_s, data)

    def down(self, now_s: float, data: bytes) -> None:
        """Bytes from the server."""
        self.send_down(now_s, data)

    def up_eof(self, now_s: float) -> None:
        """The client sends no more."""
        self.end_up(now_s)

    def down_eof(self, now_s: float) -> None:
        """The server sends no more."""
        self.end_down(now_s)

    def expired(self, now_s: float) -> None:
        """The deadline set by `wake_at` is over."""

    def unreachable(self, now_s: float) -> bool:
        """The server cannot be connected to. True: this stage will answer in its place."""
        return False

    def abandoned(self, now_s: float) -> bool:
        """The leased server has ended before its response. True: this stage deals with it."""
        return False

    def request(self, now_s: float, request: RequestHead) -> None:
        """A request's head is complete."""

    def response(self, now_s: float, request: RequestHead, response: ResponseHead) -> None:
        """The response's head to `request` is complete."""

    def rewrite_request(self, head: bytes) -> bytes:
        """The request's head as it shall go on."""
        return head

    def rewrite_response(self, head: bytes) -> bytes:
        """The response's head as it shall go on."""
        return head

    def finished(self, now_s: float) -> None:
        """The response has been passed on to its last byte."""

    def idle(self, now_s: float) -> None:
        """Request and response are over; the connection waits for its next request."""

    def tunnelled(self, now_s: float) -> None:
        """From here on the bytes are not HTTP."""

    # What a stage can do, beside sending and ending.

    def wake_at(self, deadline_s: float) -> None:
        """Call `expired` at that time. One deadline a stage: a later call replaces it, NEVER clears it."""
        self.deadline_s = deadline_s
        self.chain.wake_at(deadline_s)

    def cut(
        self,
        now_s: float,
        action: CutAction,
        *,
        way: Direction = "both",
        late_data: LateData = "drop",
        forget_s: float = 300.0,
    ) -> None:
        """End the connection. The first behaviour to do so is the one that the log names."""
        ending = Ending(by=self.by, at_s=now_s, action=action, way=way, late_data=late_data, forget_s=forget_s)
        if self.chain.cut(ending):
            self.struck = True
            if action == "fin":
                self.end_down(now_s)

    def answer(self, now_s: float, status: int, body: str = "", headers: Headers = ()) -> None:
        """Answer the client in the server's place, then close."""
        if self.chain.cut(Ending(by=self.by, at_s=now_s, action="fin", status=status)):
            self.struck = True
            self.send_down(now_s, plain_response(status, body, headers))
            self.end_down(now_s)

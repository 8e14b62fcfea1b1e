"""What a profile shows to whoever asks from outside: the proxy's own behaviours, played by a simulated clock (pure).

A scene is one connection: what the client sends, and when a server behind the intermediary answers. The outcome is all
that the client can see of it. Two profiles with the same outcomes cannot be told apart from outside; a rule without
which no outcome changes cannot be seen. A day passes in milliseconds here.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, product
from typing import Literal

from bench.probe.shape_streams import LATE_MS
from bench.proxy.chain import Chain
from bench.proxy.rule import Rule
from bench.proxy.stage import NEVER, Direction, Ending

SceneKind = Literal["stream", "websocket", "short"]

_PONG = b"\x8a\x80\0\0\0\0"
_CLOSE = 0x88
_ASK = b"POST /chat HTTP/1.1\r\nHost: x\r\nAccept-Encoding: identity\r\nContent-Length: 0\r\n\r\n"
_ASK_AND_TALK = b"GET /chat HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
_BODY = b"1\r\n \r\n"
_UPGRADE = b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
_SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
_NO_UPGRADE = b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n"
_SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True)
class Scene:
    """One connection. Times in seconds from its opening.

    kind: an answer that streams in chunks; a WebSocket; or short answers, one at each of `asks_s`
    head_s: when the server begins its answer (None: never)
    tokens_s: when it sends each token; ends: whether the answer ends with the last one
    client_s: when the client sends a small frame, or a byte of its request's body
    hint: the answer says `X-Accel-Buffering: no`
    until_s: how long anybody waits
    """

    name: str
    kind: SceneKind
    until_s: float
    head_s: float | None = 0.0
    tokens_s: tuple[float, ...] = ()
    ends: bool = False
    client_s: tuple[float, ...] = ()
    asks_s: tuple[float, ...] = (0.0,)
    content_type: str = "text/event-stream"
    hint: bool = True


@dataclass(frozen=True)
class SceneOutcome:
    """What the client sees.

    status: of the first answer, 0 if none came
    ending: `none`, `fin`, `rst`, `black_hole`, `status N` or `close N`; at_s: when
    arrivals: (when, how many bytes are there)
    answers: how many short ones came
    """

    status: int
    ending: str
    at_s: float | None
    arrivals: tuple[tuple[float, int], ...]
    answers: int = 0


def rehearse(rules: Sequence[Rule], scene: Scene) -> SceneOutcome:
    """Play `scene` through `rules`."""
    stage = _Stage(rules, scene)
    stage.play()
    return stage.outcome()


class _Stage:
    """The chain's surroundings: a server and a client that know their parts, and a clock that jumps."""

    def __init__(self, rules: Sequence[Rule], scene: Scene) -> None:
        self._scene = scene
        self._agenda: list[tuple[float, int, Callable[[float], None]]] = []
        self._number = count()
        self._deadline_s = NEVER
        self._arrivals: list[tuple[float, int]] = []
        self._got = bytearray()
        self._last = b""
        self._ending: tuple[str, float] | None = None
        self._is_cut = False
        self._answers = 0
        self._chain = Chain(rules, self, "0/1")

    def play(self) -> None:
        """Until the scene's end, or the connection's."""
        self._chain.accepted(0.0)
        if not self._is_cut:
            self._chain.opened(0.0)
        plain = _ASK_AND_TALK if self._scene.client_s else _ASK
        request = _UPGRADE if self._scene.kind == "websocket" else plain
        for at_s in self._scene.asks_s:
            self._plan(at_s, lambda now_s: self._chain.up(now_s, request))
        while self._ending is None:
            event_s = self._agenda[0][0] if self._agenda else NEVER
            if min(event_s, self._deadline_s) > self._scene.until_s:
                return
            if self._deadline_s <= event_s:
                now_s, self._deadline_s = self._deadline_s, NEVER
                self._chain.expire(now_s)
            else:
                now_s, _, act = heapq.heappop(self._agenda)
                if not self._is_cut:
                    act(now_s)

    def outcome(self) -> SceneOutcome:
        """All that came of it."""
        status = int(self._got[9:12]) if self._got.startswith(b"HTTP/1.1 ") else 0
        ending, at_s = self._ending or ("none", None)
        return SceneOutcome(status, ending, at_s, tuple(self._arrivals), self._answers)

    def _plan(self, at_s: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._agenda, (at_s, next(self._number), act))

    def _send(self, at_s: float, data: bytes) -> None:
        self._plan(at_s, lambda now_s: self._chain.down(now_s, data))

    # The server, asked.

    def write_up(self, now_s: float, data: bytes) -> None:
        """A request reaches the server, or a frame, which it takes and says nothing."""
        scene = self._scene
        if not data.endswith(b"\r\n\r\n") or scene.head_s is None:
            return
        if scene.kind == "short":
            self._answers += 1
            self._send(now_s, _SHORT)
        elif scene.kind == "stream":
            self._stream(now_s)
        elif b"upgrade: websocket" in data.lower():
            self._converse(now_s)
        else:
            self._send(now_s, _NO_UPGRADE)

    def _stream(self, now_s: float) -> None:
        scene = self._scene
        hint = "X-Accel-Buffering: no\r\n" if scene.hint else ""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {scene.content_type}\r\n{hint}Transfer-Encoding: chunked\r\n\r\n"
        self._send(now_s + (scene.head_s or 0), head.encode())
        for k, at_s in enumerate(scene.tokens_s):
            self._send(now_s + at_s, _chunk(k))
        for at_s in scene.client_s:
            self._plan(now_s + at_s, lambda then_s: self._chain.up(then_s, _BODY))
        if scene.ends:
            self._send(now_s + scene.tokens_s[-1], b"0\r\n\r\n")

    def _converse(self, now_s: float) -> None:
        self._send(now_s, _SWITCHING)
        for k, at_s in enumerate(self._scene.tokens_s):
            self._send(now_s + at_s, b"\x81%c%b" % (len(_text(k)), _text(k)))
        for at_s in self._scene.client_s:
            self._plan(now_s + at_s, lambda then_s: self._chain.up(then_s, _PONG))

    # What the client sees.

    def write_down(self, now_s: float, data: bytes) -> None:
        """Bytes reach the client."""
        if len(self._got) < 12:
            self._got += data
        self._last = data
        self._arrivals.append((now_s, (self._arrivals[-1][1] if self._arrivals else 0) + len(data)))

    def close_down(self, now_s: float) -> None:
        """The client gets a FIN."""
        is_close = len(self._last) >= 4 and self._last[0] == _CLOSE
        word = f"close {int.from_bytes(self._last[2:4], 'big')}" if is_close else "fin"
        self._note(word, now_s)

    def cut(self, ending: Ending) -> None:
        """A behaviour has ended the connection; what it still has to say comes down the chain."""
        self._is_cut = True
        if ending.status is not None:
            self._note(f"status {ending.status}", ending.at_s)
        elif ending.action != "fin":
            self._note(ending.action, ending.at_s)

    def _note(self, word: str, now_s: float) -> None:
        if self._ending is None:
            self._ending = word, now_s

    # What is of no consequence here.

    def close_up(self, now_s: float) -> None:
        """The server gets a FIN."""

    def wake_at(self, deadline_s: float) -> None:
        """A stage has a deadline."""
        self._deadline_s = min(self._deadline_s, deadline_s)

    def hold(self, direction: Direction, *, on: bool) -> None:
        """Nobody here sends faster than may be read."""

    server_number = 0

    def lease(self, now_s: float, wanted: int | None, *, fresh: bool) -> None:
        """There is one server, and it is always there."""

    def release(self, now_s: float) -> None:
        """It stays."""

    def not_followed(self, now_s: float, why: str) -> None:
        """The server and the client speak HTTP."""


def scenes(up_to_s: float) -> list[Scene]:
    """Everything that a probe asks, as scenes: silences of `up_to_s`, and activity for as long."""
    whole = _times(up_to_s, up_to_s / 300)
    stream, websocket = Scene("", "stream", up_to_s), Scene("", "websocket", up_to_s)
    return [
        _like(stream, "no answer", head_s=None),
        _like(stream, "a silence in an answer", tokens_s=(0.0,)),
        _like(stream, "a silence in an answer, unhinted", tokens_s=(0.0,), hint=False),
        _like(stream, "a silence in an answer, while the client talks", tokens_s=(0.0,), client_s=whole[1:]),
        _like(stream, "an answer that goes on and on", tokens_s=whole),
        _like(stream, "an answer that goes on and on, while the client talks", tokens_s=whole, client_s=whole[1:]),
        _like(stream, "an answer that goes on and on, unhinted", tokens_s=whole, hint=False),
        Scene("no other request", "short", up_to_s),
        Scene("request after request", "short", up_to_s, asks_s=_times(up_to_s, up_to_s / 200)),
        Scene("request after request, half as many", "short", up_to_s, asks_s=_times(up_to_s, up_to_s / 100)),
        _like(websocket, "a silent WebSocket"),
        _like(websocket, "a WebSocket on which only the server talks", tokens_s=whole[1:]),
        _like(websocket, "a WebSocket on which only the client talks", client_s=whole[1:]),
        _like(websocket, "a busy WebSocket", tokens_s=whole[1:], client_s=whole[1:]),
        *_shape_scenes(),
    ]


def _shape_scenes() -> Iterator[Scene]:
    """What is asked about the pieces in which an answer comes."""
    content_types = ("text/event-stream", "application/x-ndjson")
    for content_type in content_types:
        head = Scene(f"a head long before a body of {content_type}", "stream", 1.0, content_type=content_type)
        yield _like(head, head.name, tokens_s=(LATE_MS / 1000,), ends=True)
    tokens = Scene("", "stream", 5.0, tokens_s=tuple(k * 0.01 for k in range(300)), ends=True)
    for content_type, hint in product(content_types, (True, False)):
        name = f"tokens of {content_type}{'' if hint else ', unhinted'}"
        yield _like(tokens, name, content_type=content_type, hint=hint)


def _like(scene: Scene, name: str, **changes: object) -> Scene:
    return Scene(**{**scene.__dict__, "name": name, **changes})


def _text(k: int) -> bytes:
    """Token `k`: no two in a row have the same size."""
    return b"x" * (90 + k * 17 % 31)


def _chunk(k: int) -> bytes:
    data = b"data: %b\n\n" % _text(k)
    return b"%x\r\n%b\r\n" % (len(data), data)


def _times(until_s: float, every_s: float) -> tuple[float, ...]:
    return tuple(k * every_s for k in range(int(until_s / every_s)))

"""WebSocket close: the proxy itself sends a Close frame with a code, to both sides."""

from __future__ import annotations

import random
from collections.abc import Generator
from typing import Annotated

import msgspec
from websockets.exceptions import ProtocolError
from websockets.extensions import Extension
from websockets.frames import CLOSE, Close, Frame
from websockets.streams import StreamReader

from bench.proxy.chain import Chain
from bench.proxy.rule import Positive, Rule, seconds
from bench.proxy.stage import Stage

CloseCode = Annotated[int, msgspec.Meta(ge=1000, le=4999)]


class WebsocketClose(Rule, frozen=True, kw_only=True):
    """Closes a WebSocket with `close_code` and `reason`: `after_s` after its upgrade, or after a silence.

    Any frame either way starts the silence anew, pings too.
    """

    name = "websocket_close"

    close_code: CloseCode = 1001
    reason: str = ""
    after_s: Positive | None = None
    idle_timeout_s: Positive | None = None

    def check(self) -> None:
        if (self.after_s is None) == (self.idle_timeout_s is None):
            raise ValueError("takes either after_s or idle_timeout_s")
        if len(self.reason.encode()) > 123:
            raise ValueError("reason takes 123 bytes at most")

    def stage(self, chain: Chain, draw: random.Random) -> Stage:
        return WebsocketCloseStage(self, chain)

    def words(self) -> str:
        after = f"{seconds(self.after_s)}" if self.after_s else f"{seconds(self.idle_timeout_s or 0)} of silence"
        return f"closes a WebSocket with code {self.close_code} after {after}"


class WebsocketCloseStage(Stage):
    """Follows the server's frames, because a Close frame may only stand between two of them."""

    http = True

    def __init__(self, rule: WebsocketClose, chain: Chain) -> None:
        super().__init__(rule, chain)
        self._rule = rule
        self._frames: FrameBoundaries | None = None
        self._last_s = 0.0
        self._is_due = False

    def tunnelled(self, now_s: float) -> None:
        self._frames = FrameBoundaries()
        self._last_s = now_s
        self.wake_at(self._due_s())

    def up(self, now_s: float, data: bytes) -> None:
        self._last_s = now_s
        self.send_up(now_s, data)

    def down(self, now_s: float, data: bytes) -> None:
        self._last_s = now_s
        self.send_down(now_s, data)
        if self._frames:
            self._frames.feed(data)
            if self._is_due:
                self._close(now_s, self._frames)

    def expired(self, now_s: float) -> None:
        if self._rule.idle_timeout_s and now_s < self._due_s():
            self.wake_at(self._due_s())
        elif self._frames:
            self._is_due = True
            self._close(now_s, self._frames)

    def _due_s(self) -> float:
        return self._last_s + (self._rule.idle_timeout_s or self._rule.after_s or 0)

    def _close(self, now_s: float, frames: FrameBoundaries) -> None:
        if not frames.between:
            return
        frame = Frame(CLOSE, Close(self._rule.close_code, self._rule.reason).serialize())
        self.send_up(now_s, frame.serialize(mask=True))
        self.send_down(now_s, frame.serialize(mask=False))
        self.cut(now_s, "fin")


class FrameBoundaries:
    """Whether a server's byte stream stands between two WebSocket frames."""

    def __init__(self) -> None:
        self._reader = StreamReader()
        self._parser = self._parse()
        self.between = True

    def feed(self, data: bytes) -> None:
        """Take bytes. What is no WebSocket counts as one frame without an end."""
        self._reader.feed_data(data)
        next(self._parser)

    def _parse(self) -> Generator[None, None, None]:
        try:
            while True:
                self.between = not self._reader.buffer
                if self.between:
                    yield
                self.between = False
                yield from Frame.parse(self._reader.read_exact, mask=False, extensions=[_IgnoreReservedBits()])
        except ProtocolError:
            while True:
                yield


class _IgnoreReservedBits(Extension):
    """Compressed frames have reserved bits set; only their length matters here."""

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        return Frame(frame.opcode, frame.data, frame.fin)

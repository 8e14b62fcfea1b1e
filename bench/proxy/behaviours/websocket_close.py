"""WebSocket close: the proxy itself sends a Close frame with a code, to both sides."""

from __future__ import annotations

from typing import Annotated

import msgspec
from websockets.exceptions import ProtocolError
from websockets.protocol import Protocol, Side

from bench.proxy.http_bytes import RequestHead, header
from bench.proxy.rule import Draw, Positive, Rule, seconds
from bench.proxy.stage import Context, Direction, Pass, Stage

GRACE_S = 10.0
"""A side that is in the middle of a frame for so long gets no Close frame, only the FIN."""

CloseCode = Annotated[int, msgspec.Meta(ge=1000, le=4999)]


def may_be_sent(code: int) -> bool:
    """Whether a Close frame may have it (RFC 6455 §7.4): not 1005 and 1006, which say that none came, nor 2000."""
    try:
        _close_frame(Side.SERVER, code, "")
    except ProtocolError:
        return False
    return True


def _close_frame(side: Side, code: int, reason: str) -> bytes:
    """As that side sends it: only a client masks."""
    sender = Protocol(side)
    sender.send_close(code, reason)
    return b"".join(sender.data_to_send())


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
        if not may_be_sent(self.close_code):
            raise ValueError(f"close_code takes one that a Close frame may have, not {self.close_code}")

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return WebsocketCloseStage(self, chain)

    def deed(self) -> str:
        after = f"{seconds(self.after_s)}" if self.after_s else f"{seconds(self.idle_timeout_s or 0)} of silence"
        return f"closes a WebSocket with code {self.close_code} after {after}"


class WebsocketCloseStage(Stage):
    """Follows the frames each way, because a Close frame may only stand between two of them, and nothing behind it."""

    http = True

    def __init__(self, rule: WebsocketClose, chain: Context) -> None:
        super().__init__(rule.name, chain)
        self._rule = rule
        self._asked = False  # for a WebSocket
        self._frames: dict[Direction, FrameBoundaries] = {}  # of each way that is still open
        self._last_s = 0.0
        self._is_due = False

    def request(self, now_s: float, request: RequestHead) -> None:
        self._asked = b"websocket" in header(request, b"upgrade")

    def tunnelled(self, now_s: float) -> None:
        if self._asked:
            self._frames = {"up": FrameBoundaries(), "down": FrameBoundaries()}
            self._last_s = now_s
            self.wake_at(self._due_s())

    def up(self, now_s: float, data: bytes) -> None:
        self._pass(now_s, "up", data, self.send_up)

    def down(self, now_s: float, data: bytes) -> None:
        self._pass(now_s, "down", data, self.send_down)

    def expired(self, now_s: float) -> None:
        if self._is_due:  # and the grace is over
            self.cut(now_s, "fin")
        elif self._rule.idle_timeout_s and now_s < self._due_s():
            self.wake_at(self._due_s())
        elif self._frames:
            self._is_due = True
            self.wake_at(now_s + GRACE_S)
            for direction, frames in list(self._frames.items()):
                if frames.between:
                    self._close(now_s, direction)

    def _due_s(self) -> float:
        return self._last_s + (self._rule.idle_timeout_s or self._rule.after_s or 0)

    def _pass(self, now_s: float, direction: Direction, data: bytes, send: Pass) -> None:
        self._last_s = now_s
        frames = self._frames.get(direction)
        end = frames.feed(data) if frames else None
        if not self._is_due:
            send(now_s, data)
        elif frames:
            send(now_s, data[:end])
            if end is not None:
                self._close(now_s, direction)

    def _close(self, now_s: float, direction: Direction) -> None:
        """Send the Close frame one way; behind the second one comes the end."""
        del self._frames[direction]
        side, send = (Side.CLIENT, self.send_up) if direction == "up" else (Side.SERVER, self.send_down)
        send(now_s, _close_frame(side, self._rule.close_code, self._rule.reason))
        if not self._frames:
            self.cut(now_s, "fin")


class FrameBoundaries:
    """Whether one direction of a WebSocket stands between two frames, by the lengths in their heads (RFC 6455 §5.2).

    between: whether it stands there now
    """

    def __init__(self) -> None:
        self._head = b""  # of a frame, as far as it is there
        self._left_bytes = 0  # of a frame whose head is complete

    @property
    def between(self) -> bool:
        return not self._head and not self._left_bytes

    def feed(self, data: bytes) -> int | None:
        """Take bytes. Returns the offset behind the first frame that ends in them; None if none does."""
        first, at = None, 0
        while at < len(data):
            at = self._take_content(data, at) if self._left_bytes else self._take_head(data, at)
            if first is None and self.between:
                first = at
        return first

    def _take_content(self, data: bytes, at: int) -> int:
        end = min(at + self._left_bytes, len(data))
        self._left_bytes -= end - at
        return end

    def _take_head(self, data: bytes, at: int) -> int:
        """Take a byte of a head, and all it says once it is complete."""
        self._head += data[at : at + 1]
        length_bytes = _LENGTH_BYTES.get(self._head[1] & 0x7F, 0) if len(self._head) > 1 else 0
        if len(self._head) == 2 + length_bytes:
            head, self._head = self._head, b""
            length = int.from_bytes(head[2:]) if length_bytes else head[1] & 0x7F
            self._left_bytes = length + 4 * (head[1] >> 7)  # a masking key, if the first bit says so
        return at + 1


_LENGTH_BYTES = {126: 2, 127: 8}
"""In a head: the length in its second byte -> how many bytes of the real one follow."""

"""Response buffering: withholds a response until enough of it is there."""

from __future__ import annotations

from typing import Literal

from bench.proxy.http_bytes import HEAD_END, RequestHead, ResponseHead, header, is_chunked
from bench.proxy.rule import PER_RESPONSE, AtLeastOne, Condition, Draw, Positive, Rule, seconds
from bench.proxy.stage import NEVER, Context, Stage

MAX_HELD_BYTES = 64 * 1024 * 1024
"""A response held until it is complete is given up and passed on when it grows beyond this."""


class ResponseBuffering(Rule, frozen=True, kw_only=True):
    """Holds responses, head and body, and passes them on in whole buffers.

    buffer_bytes: pass on as many whole buffers of this size as are full (the head counts)
    first_bytes: hold only until so many bytes of a body are there (its head does not count, the framing of chunks
        does); from then on everything goes on at once
    flush_s: pass on what is held this long after its first byte came
    until_complete: pass on nothing before the response is complete
    honour_x_accel_buffering: a response with `X-Accel-Buffering: no` is not held
    chunked: whether a chunked response is held as well, or goes on as it comes
    drop_on_cut: what is held of a body when another behaviour cuts the connection is lost; the head still goes out
    """

    name = "response_buffering"
    holds = True

    buffer_bytes: AtLeastOne | None = None
    first_bytes: AtLeastOne | None = None
    flush_s: Positive | None = None
    until_complete: bool = False
    honour_x_accel_buffering: bool = False
    chunked: Literal["hold", "pass"] = "hold"
    drop_on_cut: bool = False

    def check(self) -> None:
        if self.until_complete == any((self.buffer_bytes, self.first_bytes, self.flush_s)):
            raise ValueError("takes either until_complete = true, or buffer_bytes, first_bytes and/or flush_s")
        if self.buffer_bytes and self.first_bytes:
            raise ValueError("takes either buffer_bytes or first_bytes")

    def conditions(self) -> tuple[Condition, ...]:
        return PER_RESPONSE

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return ResponseBufferingStage(self, chain)

    def deed(self) -> str:
        until = ["complete"] if self.until_complete else []
        until += [f"{self.buffer_bytes} bytes are there"] if self.buffer_bytes else []
        until += [f"the first {self.first_bytes} bytes of a body are there"] if self.first_bytes else []
        until += [f"{seconds(self.flush_s)} have passed"] if self.flush_s else []
        what = f"responses{' unless chunked' if self.chunked == 'pass' else ''}"
        unless = ", except with X-Accel-Buffering: no" if self.honour_x_accel_buffering else ""
        return f"withholds {what} until {' or '.join(until)}{unless}"


class ResponseBufferingStage(Stage):
    """Holds each response back as the rule says."""

    http = True

    def __init__(self, rule: ResponseBuffering, chain: Context) -> None:
        super().__init__(rule.name, chain)
        self._rule = rule
        self._holds = self._head_is_next = False
        self._held = bytearray()
        self._head_bytes = 0  # of what is held

    def response(self, now_s: float, request: RequestHead, response: ResponseHead) -> None:
        rule = self._rule
        self._head_is_next = True
        self._holds = not (
            (rule.honour_x_accel_buffering and header(response, b"x-accel-buffering") == b"no")
            or (rule.chunked == "pass" and is_chunked(response))
        )

    def down(self, now_s: float, data: bytes) -> None:
        if not self._holds:
            self.send_down(now_s, data)
            return
        if not self._held and self._rule.flush_s:
            self.wake_at(now_s + self._rule.flush_s)
        if self._head_is_next:
            self._head_is_next = False
            end = HEAD_END.search(data)  # another behaviour may have sent more along with it
            self._head_bytes = end.end() if end else len(data)
        self._held += data
        self._flush(now_s, self._ready_bytes())
        self.struck |= bool(self._held)

    def down_eof(self, now_s: float) -> None:
        drops = self._rule.drop_on_cut and self.chain.stopped
        self._flush(now_s, self._head_bytes if drops else len(self._held))
        self.end_down(now_s)

    def finished(self, now_s: float) -> None:
        self._flush(now_s, len(self._held))
        self._holds = False

    def tunnelled(self, now_s: float) -> None:
        self.finished(now_s)

    def expired(self, now_s: float) -> None:
        self._flush(now_s, len(self._held))

    def _ready_bytes(self) -> int:
        """How much of what is held may go on, unless its time is over."""
        held, first_bytes = len(self._held), self._rule.first_bytes
        if first_bytes:
            return held if held - self._head_bytes >= min(first_bytes, MAX_HELD_BYTES) else 0
        return held - held % min(self._rule.buffer_bytes or MAX_HELD_BYTES, MAX_HELD_BYTES)

    def _flush(self, now_s: float, n_bytes: int) -> None:
        if n_bytes:
            data = bytes(self._held[:n_bytes])
            del self._held[:n_bytes]
            self._head_bytes = 0
            self._holds &= not self._rule.first_bytes
            self.send_down(now_s, data)
        if not self._held:
            self.wake_at(NEVER)

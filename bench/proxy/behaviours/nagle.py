"""Nagle's algorithm met by delayed acknowledgements: small writes wait until the one before is acknowledged."""

from __future__ import annotations

from typing import Literal

from bench.proxy.rule import AtLeastOne, Draw, Positive, Rule, direction_words
from bench.proxy.stage import NEVER, Context, Direction, End, Pass, Stage


class Nagle(Rule, frozen=True, kw_only=True):
    """As a sender without TCP_NODELAY (RFC 896), whose receiver acknowledges late (RFC 9293 §3.8.6.3).

    While something is not acknowledged, only whole segments go on. The receiver acknowledges after `delayed_ack_ms`,
    with what it sends itself, or at once at every second whole segment. The time on the way is taken as nothing.

    delayed_ack_ms: Linux waits 40 ms; a time scale leaves that alone, as kernels do
    segment_bytes: the most that one segment carries
    late_acks: the first one only: once it was late, those behind it come at once until the receiver sends something,
        as Linux does (measured, 6.18); or all of them
    """

    name = "nagle"
    holds = True

    delayed_ack_ms: Positive = 40.0
    segment_bytes: AtLeastOne = 1448
    late_acks: Literal["first", "all"] = "first"
    way: Direction = "down"
    unscaled: tuple[str, ...] = ("delayed_ack_ms",)

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return NagleStage(self, chain)

    def deed(self) -> str:
        late = f"{self.delayed_ack_ms:g} ms late{' the first time' if self.late_acks == 'first' else ''}"
        return f"holds small pieces {direction_words(self.way)} until those before are acknowledged, {late} (Nagle)"


class NagleStage(Stage):
    """A sender each way that the rule is for; what passes the other way carries its acknowledgement."""

    def __init__(self, rule: Nagle, chain: Context) -> None:
        super().__init__(rule.name, chain)
        self._rule = rule
        self._up = _Sender(rule) if rule.way != "down" else None
        self._down = _Sender(rule) if rule.way != "up" else None

    def up(self, now_s: float, data: bytes) -> None:
        self._pass(now_s, data, self._up, self.send_up)
        self._answer(now_s, self._down, self.send_down)

    def down(self, now_s: float, data: bytes) -> None:
        self._pass(now_s, data, self._down, self.send_down)
        self._answer(now_s, self._up, self.send_up)

    def up_eof(self, now_s: float) -> None:
        self._end(now_s, self._up, self.send_up, self.end_up)

    def down_eof(self, now_s: float) -> None:
        self._end(now_s, self._down, self.send_down, self.end_down)

    def expired(self, now_s: float) -> None:
        for sender, send in ((self._up, self.send_up), (self._down, self.send_down)):
            if sender and sender.ack_due_s <= now_s:
                sender.is_prompt = self._rule.late_acks == "first"
                self._acknowledge(now_s, sender, send)
        self._wait()

    def _pass(self, now_s: float, data: bytes, sender: _Sender | None, send: Pass) -> None:
        if sender is None:
            send(now_s, data)
            return
        if ready := sender.take(now_s, data):
            send(now_s, ready)
        self.struck |= bool(sender.held)
        self._wait()

    def _answer(self, now_s: float, sender: _Sender | None, send: Pass) -> None:
        """The receiver sends something, and its acknowledgement with it."""
        if sender:
            sender.is_prompt = False
            self._acknowledge(now_s, sender, send)

    def _acknowledge(self, now_s: float, sender: _Sender, send: Pass) -> None:
        if ready := sender.acknowledged(now_s):
            send(now_s, ready)

    def _end(self, now_s: float, sender: _Sender | None, send: Pass, end: End) -> None:
        if sender and sender.held:  # a kernel pushes the rest before a FIN
            rest, sender.held = sender.held, b""
            send(now_s, rest)
        end(now_s)

    def _wait(self) -> None:
        self.wake_at(min(sender.ack_due_s if sender.held else NEVER for sender in (self._up, self._down) if sender))


class _Sender:
    """One direction.

    held: what waits for an acknowledgement, less than a segment
    ack_due_s: when what is on its way will be acknowledged; NEVER if nothing is
    is_prompt: the receiver acknowledges at once for now
    """

    def __init__(self, rule: Nagle) -> None:
        self._rule = rule
        self._whole = 0  # segments that are not acknowledged
        self.held = b""
        self.ack_due_s = NEVER
        self.is_prompt = False

    def take(self, now_s: float, data: bytes) -> bytes:
        """What goes on at once of what is there with `data`."""
        if self.ack_due_s <= now_s:
            self._settle()
        self.held += data
        size = len(self.held) - len(self.held) % self._rule.segment_bytes
        if size:
            self._whole += size // self._rule.segment_bytes
            if self._whole > 1:
                self._settle()
        if self.ack_due_s == NEVER:
            size = len(self.held)
        ready, self.held = self.held[:size], self.held[size:]
        if ready and self.ack_due_s == NEVER and not self.is_prompt:
            self.ack_due_s = now_s + self._rule.delayed_ack_ms / 1000
        return ready

    def acknowledged(self, now_s: float) -> bytes:
        """What goes on now that all before is acknowledged."""
        self._settle()
        return self.take(now_s, b"") if self.held else b""

    def _settle(self) -> None:
        self._whole = 0
        self.ack_due_s = NEVER

"""A first-in-first-out line whose items become due: what latency, bandwidth and their like are made of (pure)."""

from __future__ import annotations

from collections import deque

from bench.proxy.stage import NEVER, Context, Direction, End, Pass, Stage

HELD_BYTES = 1_048_576
"""A line that holds more stops reading from the side it comes from, until half of it has gone."""


END = b""


class DelayLine:
    """Bytes, and at last the end, of one direction, each with the time at which it may go on.

    Order is kept, as TCP keeps it: nothing overtakes what entered before it.
    """

    def __init__(self) -> None:
        self._items: deque[tuple[float, bytes]] = deque()
        self._last_due_s = -NEVER
        self.n_bytes = 0

    def put(self, due_s: float, data: bytes) -> None:
        """Add bytes; b"" is the end, as when reading a socket."""
        self._last_due_s = max(self._last_due_s, due_s)
        self._items.append((self._last_due_s, data))
        self.n_bytes += len(data)

    @property
    def next_due_s(self) -> float:
        """When the first item may go; NEVER if there is none."""
        return self._items[0][0] if self._items else NEVER

    @property
    def last_due_s(self) -> float:
        """When the newest item may go (-NEVER if there never was one)."""
        return self._last_due_s

    def take(self, now_s: float) -> bytes | None:
        """The first item if it is due, else None."""
        if self.next_due_s > now_s:
            return None
        _, data = self._items.popleft()
        self.n_bytes -= len(data)
        return data


class DelayingStage(Stage):
    """Base of the stages that send each piece on later. Subclasses say when, and into what pieces."""

    def __init__(self, by: str, chain: Context, direction: Direction) -> None:
        super().__init__(by, chain)
        self._lines: dict[Direction, DelayLine] = {w: DelayLine() for w in ("up", "down") if direction in (w, "both")}

    def schedule(self, now_s: float, line: DelayLine, data: bytes) -> None:
        """Put bytes into their line, with their times."""
        raise NotImplementedError

    def end_due_s(self, now_s: float, line: DelayLine) -> float:
        """When the end may go on."""
        return max(now_s, line.last_due_s)

    def up(self, now_s: float, data: bytes) -> None:
        self._enter(now_s, "up", data, self.send_up)

    def down(self, now_s: float, data: bytes) -> None:
        self._enter(now_s, "down", data, self.send_down)

    def up_eof(self, now_s: float) -> None:
        self._enter_end(now_s, "up", self.end_up)

    def down_eof(self, now_s: float) -> None:
        self._enter_end(now_s, "down", self.end_down)

    def expired(self, now_s: float) -> None:
        for direction, line in self._lines.items():
            self._release(now_s, direction, line)
        self._wake()

    def _enter(self, now_s: float, direction: Direction, data: bytes, send: Pass) -> None:
        line = self._lines.get(direction)
        if line is None:
            send(now_s, data)
            return
        self.schedule(now_s, line, data)
        if line.n_bytes > HELD_BYTES:
            self.chain.hold(self, direction, on=True)
        self._release(now_s, direction, line)
        self._wake()

    def _enter_end(self, now_s: float, direction: Direction, end: End) -> None:
        line = self._lines.get(direction)
        if line is None:
            end(now_s)
            return
        line.put(self.end_due_s(now_s, line), END)
        self._release(now_s, direction, line)
        self._wake()

    def _release(self, now_s: float, direction: Direction, line: DelayLine) -> None:
        send, end = (self.send_up, self.end_up) if direction == "up" else (self.send_down, self.end_down)
        while (data := line.take(now_s)) is not None:
            if data == END:
                end(now_s)
            else:
                send(now_s, data)
        if line.n_bytes <= HELD_BYTES // 2:
            self.chain.hold(self, direction, on=False)

    def _wake(self) -> None:
        due_s = min(line.next_due_s for line in self._lines.values())
        self.struck |= due_s < NEVER
        self.wake_at(due_s)

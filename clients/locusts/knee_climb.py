"""Where the delay breaks: the number of users climbs step by step until the limit no longer holds (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from clients.locusts.live import WINDOW_S, Point, for_json

_NO_LIMIT = "no limit was reached, there may be room above"


def sentence_of(knee: int | None, why: str) -> str:
    """What a search has found, for people: the most users that were borne (None: it was ended before), and why."""
    if knee is None:
        return f"the knee was not found: {why or 'the search was ended before a step broke'}"
    if why == _NO_LIMIT:
        return f"no knee up to {knee} users: {why}"
    return f"the knee is at {knee} users ({why})" if knee else f"the knee is below the first step ({why})"


@dataclass
class Climb:
    """Tells how many users there should be. A step holds for `hold_s`; then the window must be about it alone.

    A step is broken when the p99 delay of any transport exceeds `limit_ms`, or messages are dropped or fail, in two
    looks in a row: one slow second is no knee. `knee` is then the step before it (0 if even the first broke). `seen`
    has the p99 delays of every step, the broken one last.
    """

    limit_ms: float
    step: int
    most: int
    hold_s: float
    users: int = 0
    knee: int | None = None
    why: str = ""
    seen: list[Point] = field(default_factory=list)
    _held: int = 0  # users of the step before
    _since_s: float = 0.0
    _bad: int = 0

    @property
    def sentence(self) -> str:
        """What is known so far, for people."""
        return sentence_of(self.knee, self.why or f"the search was ended at {self.users} users")

    @property
    def told(self) -> dict[str, object]:
        """The same for run.json."""
        steps = [{name: for_json(value) for name, value in step.items()} for step in self.seen]
        return {"users": self.knee, "why": self.why, "limit_ms": self.limit_ms, "p99_delay_ms": steps}

    def next(self, now_s: float, points: Mapping[str, Point]) -> int | None:
        """Users from now on, or None when the search is over."""
        if not self.users:
            self._go_to(min(self.step, self.most), now_s)
            return self.users
        if now_s - self._since_s < max(self.hold_s, WINDOW_S):
            return self.users
        why = self._broken(points)
        self._bad += bool(why)
        if why and self._bad < 2:
            return self.users
        self.seen.append({"users": self.users, **{t: p.get("delay_ms_p99") for t, p in points.items()}})
        if why:
            self.knee, self.why = self._held, why
            return None
        if self.users >= self.most:
            self.knee, self.why = self.users, _NO_LIMIT
            return None
        self._go_to(min(self.users + self.step, self.most), now_s)
        return self.users

    def _go_to(self, users: int, now_s: float) -> None:
        self._held, self.users, self._since_s, self._bad = self.users, users, now_s, 0

    def _broken(self, points: Mapping[str, Point]) -> str:
        for transport, point in points.items():
            delay_ms, dropped = point.get("delay_ms_p99"), point.get("drop_percent")
            if delay_ms is not None and delay_ms > self.limit_ms:
                return f"{transport}: p99 delay {delay_ms:.1f} ms > {self.limit_ms:g} ms at {self.users} users"
            if dropped:
                return f"{transport}: {dropped:.1f} % of the messages dropped or failed at {self.users} users"
        return ""

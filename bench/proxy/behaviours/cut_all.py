"""Cut all: an event that ends every open connection at one moment, at once or after a grace."""

from __future__ import annotations

import math

from bench.proxy.http_bytes import RequestHead, closing
from bench.proxy.rule import Draw, ErrorStatus, NotNegative, Positive, Rule, ending, seconds
from bench.proxy.stage import NEVER, Context, CutAction, LateData, Stage


class CutAll(Rule, frozen=True, kw_only=True):
    """At the moment `at_s` ends every connection that was opened before; later ones live on until the next time.

    at_s: from the start of the proxy, or of the measured part of a run's cell
    every_s: again so long after each time
    grace_s: who is in the middle of something may go on for so long: a response is its connection's last, and a
        connection that waits for its next request is closed (FIN) at once (not one that waits for its first, as nginx)
    outage_s: for so long behind the end nobody is served: new connections are reset, or requests answered by `status`
    late_data, forget_s: of the action black_hole
    """

    name = "cut_all"

    at_s: NotNegative
    every_s: Positive | None = None
    action: CutAction = "fin"
    grace_s: NotNegative = 0.0
    outage_s: NotNegative = 0.0
    status: ErrorStatus | None = None
    late_data: LateData = "drop"
    forget_s: Positive = 300.0

    def check(self) -> None:
        if self.every_s is not None and self.grace_s + self.outage_s >= self.every_s:
            raise ValueError("every_s takes more than grace_s and outage_s together")
        if self.status is not None and not self.outage_s:
            raise ValueError("status is for an outage_s")

    def stage(self, chain: Context, draw: Draw) -> Stage:
        return CutAllStage(self, chain)

    def deed(self) -> str:
        again = f" and every {seconds(self.every_s)} from then on" if self.every_s else ""
        text = f"at {seconds(self.at_s)}{again}: {ending(self.action, None, self.late_data)} every connection"
        if self.grace_s:
            text += f" that is still busy {seconds(self.grace_s)} later, the others behind their response"
        if self.outage_s:
            text += f"; then {f'answers {self.status}' if self.status else 'refuses'} for {seconds(self.outage_s)}"
        return text


class CutAllStage(Stage):
    """Waits for the first moment behind its connection's start."""

    def __init__(self, rule: CutAll, chain: Context) -> None:
        super().__init__(rule.name, chain)
        self.http = bool(rule.grace_s) or rule.status is not None
        self._rule = rule
        self._opened_s = 0.0
        self._has_asked = False
        self._is_leaving = False  # the moment is over, the grace is not

    def accepted(self, now_s: float) -> None:
        self._opened_s = now_s
        if self._rule.status is None and self._is_out(now_s):
            self.cut(now_s, "rst")
        else:
            self.wake_at(self._due_s())

    def request(self, now_s: float, request: RequestHead) -> None:
        self._has_asked = True
        if self._rule.status is not None and self._is_out(now_s):
            self.answer(now_s, self._rule.status)

    def tunnelled(self, now_s: float) -> None:
        if self._rule.status is not None and self._is_out(now_s):  # and there is nobody to tell a status
            self.cut(now_s, "rst")

    def rewrite_response(self, head: bytes) -> bytes:
        return closing(head) if self._is_leaving else head

    def idle(self, now_s: float) -> None:
        if self._is_leaving:
            self.cut(now_s, "fin")

    def expired(self, now_s: float) -> None:
        rule, due_s = self._rule, self._due_s()
        if now_s < due_s:  # its moments are counted anew
            self._is_leaving = False
            self.wake_at(due_s)
        elif now_s < due_s + rule.grace_s:
            self._is_leaving = True
            if self._has_asked and self.chain.phase == "idle":
                self.cut(now_s, "fin")
            else:
                self.wake_at(due_s + rule.grace_s)
        else:
            self.cut(now_s, rule.action, late_data=rule.late_data, forget_s=rule.forget_s)

    def _due_s(self) -> float:
        """The first moment behind the opening of this connection."""
        first_s = self.chain.common.start_s + self._rule.at_s
        if self._opened_s < first_s:
            return first_s
        every_s = self._rule.every_s
        return first_s + (math.floor((self._opened_s - first_s) / every_s) + 1) * every_s if every_s else NEVER

    def _is_out(self, now_s: float) -> bool:
        """Whether nobody is served now."""
        rule = self._rule
        since_s = now_s - self.chain.common.start_s - rule.at_s - rule.grace_s
        if since_s >= 0 and rule.every_s:
            since_s %= rule.every_s
        return 0 <= since_s < rule.outage_s

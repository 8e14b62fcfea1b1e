"""Findings about time as rules: which one limit, or several, show what was seen (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from bench.probe.finding import Finding, Findings
from bench.probe.roundest import roundest
from bench.probe.written import STREAMED, Written, status_of
from bench.proxy.behaviours import (
    FirstByteTimeout,
    IdleTimeout,
    KeepaliveTimeout,
    MaxAge,
    MaxDuration,
    MaxRequests,
    WebsocketClose,
)
from bench.proxy.behaviours.websocket_close import may_be_sent
from bench.proxy.stage import CutAction, LateData

WHOLE = ("blocking", "polling")
"""Whose answers come in one piece: how long one may take to begin shows there."""
SEEN_LATE_SHARE, SEEN_LATE_S = 0.002, 0.01
"""Timers strike late, never early, and so are they seen: the number that was set may be smaller by this."""
MOVED = 0.015
"""A rounder number is no further than this from what was found."""
SLACK = 0.05, 0.1
"""Two limits are the same number if what is known of them is within 5 %, or 100 ms."""


ResetBy = Literal["either", "up", "down", "each"]


def limit_rules(findings: Findings) -> Iterator[Written]:
    """The rules that cut what lasts too long."""
    yield from _requests(findings)
    yield from _limits(_Limits.of(findings))


def is_said(findings: Findings, finding: Finding) -> bool:
    """Whether the rules say this limit on answers: it is the number of a transport that they were made from."""
    limits = _Limits.of(findings)
    if finding.transport == "websocket":
        said = [limits.socket_idle, limits.socket_duration]
    else:
        said = [limits.idle] if _is_one_timer(limits) else [limits.first_byte, limits.idle, limits.duration]
    return any(same(finding, each) for each in said)


def same(one: Finding | None, other: Finding | None) -> bool:
    """Whether two findings can be the same number."""
    if one is None or other is None or not _is_limit(one) or not _is_limit(other):
        return False
    low = max(_low(one), _low(other))
    high = min(_high(one), _high(other))
    return low <= high + max(SLACK[0] * high, SLACK[1])


def _is_limit(finding: Finding | None) -> bool:
    return finding is not None and isinstance(finding.value, int | float) and not isinstance(finding.value, bool)


def _low(finding: Finding) -> float:
    assert isinstance(finding.value, int | float)
    return finding.value if finding.low is None else finding.low


def _high(finding: Finding) -> float:
    assert isinstance(finding.value, int | float)
    return finding.value if finding.high is None else finding.high


@dataclass(frozen=True)
class _Limits:
    """The findings about time, of HTTP and of WebSockets.

    late_answer_s: so late an answer in one piece may begin at least, which a rule on silence within answers allows
    """

    first_byte: Finding | None
    late_answer_s: float
    idle: Finding | None
    duration: Finding | None
    keepalive: Finding | None
    age: Finding | None
    socket_idle: Finding | None
    socket_duration: Finding | None

    @classmethod
    def of(cls, findings: Findings) -> _Limits:
        """As far as they are limits; what is another one's doing is left out."""

        def http(question: str, order: tuple[str, ...] = (*STREAMED, *WHOLE)) -> Finding | None:
            found = (findings.get(question, name) for name in order)
            return next((finding for finding in found if _is_limit(finding)), None)

        def anywhere(question: str) -> Finding | None:
            return next((each for each in findings.findings if each.question == question and _is_limit(each)), None)

        def socket(question: str) -> Finding | None:
            finding = findings.get(question, "websocket")
            return finding if _is_limit(finding) else None

        whole = [each for name in WHOLE if (each := findings.get("first_byte", name))]
        idle, duration = _told_apart(http("idle"), http("duration"))
        socket_idle, socket_duration = _told_apart(socket("idle"), socket("duration"))
        return cls(
            first_byte=http("first_byte", (*WHOLE, *STREAMED)),  # of these no byte comes at all
            late_answer_s=max((each.low or 0.0 for each in whole), default=0.0),
            idle=idle,
            duration=duration,
            keepalive=anywhere("keep_alive"),
            age=anywhere("age"),
            socket_idle=socket_idle,
            socket_duration=socket_duration,
        )

    @property
    def is_below_http(self) -> bool:
        """Whether a WebSocket falls silent in a way that knows nothing of HTTP, where shorter limits hide it."""
        socket = self.socket_idle
        others = (self.idle or self.duration, self.keepalive)
        return (
            socket is not None
            and _action(socket) == "black_hole"
            and all(other is not None and _high(other) < _low(socket) for other in others)
        )


def _told_apart(idle: Finding | None, duration: Finding | None) -> tuple[Finding | None, Finding | None]:
    """A stream that is cut as early when it is silent as when it talks was cut for its age, unless both sides together
    keep it open.
    """
    if not same(idle, duration):
        return idle, duration
    return (idle, None) if idle and idle.facts.get("reset_by") == "each" else (None, duration)


def _requests(findings: Findings) -> Iterator[Written]:
    """How many requests a connection carries: one, where each response ends it and says so."""
    if any(each.question == "keep_alive" and each.facts.get("is_kept") is False for each in findings.findings):
        yield Written(MaxRequests(max_requests=1), {"type": "connections are not kept: each response says so"})
        return
    found = next((each for each in findings.findings if each.question == "requests" and _is_limit(each)), None)
    if found:
        yield Written(MaxRequests(max_requests=int(_low(found))), {"max_requests": f"seen {found.seen} times"})


def _limits(found: _Limits) -> Iterator[Written]:
    if found.age:
        yield Written(MaxAge(max_age_s=_number(found.age)), _comment(found.age, "max_age_s"))
    if _is_one_timer(found):
        yield _one_timer(found)
    else:
        yield from _http_limits(found)
        if found.keepalive:
            yield _keepalive(found.keepalive)
        if found.socket_idle:
            yield _socket_idle(found, found.socket_idle)
    if found.socket_duration:
        yield _socket_duration(found.socket_duration)


def _is_one_timer(found: _Limits) -> bool:
    """Whether one timer for the whole connection explains every silence."""
    idle, keepalive, socket = found.idle, found.keepalive, found.socket_idle
    if idle is None or keepalive is None:
        return False
    alike = same(idle, keepalive) and (socket is None or same(idle, socket))
    endings = {finding.ending for finding in (idle, keepalive, socket) if finding}
    resets = {finding.facts["reset_by"] for finding in (idle, socket) if finding and finding.facts.get("reset_by")}
    return alike and len(endings) == 1 and len(resets) <= 1 and not idle.ending.startswith("close")


def _one_timer(found: _Limits) -> Written:
    idle = found.idle
    assert idle is not None
    reset_by, unsure = _reset_by(found.socket_idle or idle, "either")
    rule = IdleTimeout(
        idle_timeout_s=_number(idle, found.keepalive, found.socket_idle),
        reset_by=reset_by,
        status=status_of(found.first_byte) if same(found.first_byte, idle) else status_of(idle),
        **_cut(idle, unsure),
    )
    return Written(rule, _comment(idle, "idle_timeout_s"))


def _http_limits(found: _Limits) -> Iterator[Written]:
    first, idle, duration = found.first_byte, found.idle, found.duration
    if duration:
        status = status_of(first) if same(first, duration) else status_of(duration)
        rule = MaxDuration(max_duration_s=_number(duration), scope="request", status=status, **_cut(duration))
        yield Written(rule, _comment(duration, "max_duration_s"))
    if idle:
        reset_by, unsure = _reset_by(idle, "down")
        status = status_of(first) if same(first, idle) else status_of(idle)
        rule_s = _number(idle, first) if same(first, idle) else _number(idle)
        idle_rule = IdleTimeout(
            idle_timeout_s=rule_s,
            reset_by=reset_by,
            scope=_scope(found, idle, status),
            status=status,
            **_cut(idle, unsure),
        )
        yield Written(idle_rule, _comment(idle, "idle_timeout_s"))
    if first and not same(first, idle) and not same(first, duration):
        status = status_of(first)
        unsure = () if status else ("status",)
        limit = FirstByteTimeout(first_byte_timeout_s=_number(first), status=status or 504, unsure=unsure)
        yield Written(limit, _comment(first, "first_byte_timeout_s"))


def _scope(found: _Limits, idle: Finding, status: int | None) -> Literal["request", "response"]:
    """From where a limit on silence counts: from the response on, if one that begins later is none of its business."""
    return "response" if status is None and found.late_answer_s > _high(idle) + SLACK[1] else "request"


def _keepalive(finding: Finding) -> Written:
    unsure = ("keepalive_timeout_s",) if finding.facts.get("may_be_server") else ()
    rule = KeepaliveTimeout(keepalive_timeout_s=_number(finding), action=_action(finding), unsure=unsure)
    return Written(rule, _comment(finding, "keepalive_timeout_s"))


def _socket_idle(found: _Limits, finding: Finding) -> Written:
    if found.is_below_http:
        rule = IdleTimeout(idle_timeout_s=_number(finding), **_cut(finding))
        return Written(rule, _comment(finding, "idle_timeout_s"))
    if code := _close_code(finding):
        return Written(
            WebsocketClose(idle_timeout_s=_number(finding), close_code=code), _comment(finding, "idle_timeout_s")
        )
    reset_by, unsure = _reset_by(finding, "either")
    rule = IdleTimeout(idle_timeout_s=_number(finding), reset_by=reset_by, scope="websocket", **_cut(finding, unsure))
    return Written(rule, _comment(finding, "idle_timeout_s"))


def _socket_duration(finding: Finding) -> Written:
    if code := _close_code(finding):
        return Written(WebsocketClose(after_s=_number(finding), close_code=code), _comment(finding, "after_s"))
    rule = MaxDuration(max_duration_s=_number(finding), scope="websocket", **_cut(finding))
    return Written(rule, _comment(finding, "max_duration_s"))


def _number(*findings: Finding | None) -> float:
    """The roundest number that all of them allow; of several that do not overlap, the first one's."""
    found = [finding for finding in findings if finding is not None and _is_limit(finding)]
    low, high = max(map(_low, found)), min(map(_high, found))
    first = found[0]
    if low > high:
        low, high = _low(first), _high(first)
    assert isinstance(first.value, int | float)
    likeliest = min(max(low, first.value), high)
    low -= max(SEEN_LATE_SHARE * low, SEEN_LATE_S)
    return roundest(max(low, likeliest * (1 - MOVED)), min(high, likeliest * (1 + MOVED)))


def _action(finding: Finding) -> CutAction:
    return "rst" if finding.ending == "rst" else "black_hole" if finding.ending == "black_hole" else "fin"


def _cut(finding: Finding, unsure: tuple[str, ...] = ()) -> dict[str, Any]:
    """The parameters that say how a connection is ended."""
    action = _action(finding)
    late = _late_data(finding)
    if action != "black_hole":
        return {"action": action, "unsure": unsure}
    return {
        "action": action,
        "late_data": late or "drop",
        "unsure": unsure if late else (*unsure, "late_data"),
    }


def _late_data(finding: Finding) -> LateData | None:
    """What a black hole does to bytes that come later, if that was tried."""
    poked = {str(seen.facts["when_poked"]) for seen in finding.observations if "when_poked" in seen.facts}
    if not poked:
        return None
    return "rst" if "rst" in poked else "drop"


def _reset_by(finding: Finding | None, otherwise: ResetBy) -> tuple[ResetBy, tuple[str, ...]]:
    """Whose bytes start the time anew, and the parameter's name if nobody could see."""
    seen = finding.facts.get("reset_by") if finding else None
    return (seen, ()) if seen in ("either", "up", "down", "each") else (otherwise, ("reset_by",))


def _close_code(finding: Finding) -> int | None:
    words = finding.ending.split()
    return int(words[1]) if len(words) == 2 and words[0] == "close" and may_be_sent(int(words[1])) else None


def _comment(finding: Finding, parameter: str) -> dict[str, str]:
    """How often, and between which times."""
    return {parameter: f"seen {finding.seen} times, {_low(finding):.6g} to {_high(finding):.6g} s"}

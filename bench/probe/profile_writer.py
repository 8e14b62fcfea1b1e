"""From what a probe has found to a profile that `tokenderby proxy` replays (pure).

A finding becomes a rule of the kind that shows the same from outside; which rule a vendor wrote down cannot be known.
Numbers are rounded no finer than they are known. What is not certain is `unsure`; what was looked for and not found
stands in the notes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.probe.finding import Finding, Findings
from bench.probe.roundest import MILLISECONDS, roundest
from bench.proxy.behaviours import (
    BEHAVIOURS,
    Coalescing,
    FirstByteTimeout,
    GzipHoldback,
    IdleTimeout,
    KeepaliveTimeout,
    MaxAge,
    MaxDuration,
    ResponseBuffering,
    Upgrade,
    WebsocketClose,
)
from bench.proxy.profile import Profile
from bench.proxy.profile_toml import profile_toml
from bench.proxy.rule import Rule, check_order, seconds
from bench.proxy.stage import Action, LateData

STREAMED = ("sse", "chunked")
WHOLE = ("blocking", "polling")
"""Whose answers come in one piece: how long one may take to begin shows there."""
HELD_TYPES = {"sse": "text/event-stream", "chunked": "application/x-ndjson"}
USUAL_BYTES = (*(2**k for k in range(8, 21)), 1448, 1460)
"""What buffers are made of: powers of two, and what a TCP segment carries on Ethernet, with time stamps and without."""
LATE_SHARE, LATE_S = 0.002, 0.01
"""Timers strike late, never early, and so are they seen: the number that was set may be smaller by this."""
SLACK = 0.05, 0.1
"""Two limits are the same number if what is known of them is within 5 %, or 100 ms."""


@dataclass
class Written:
    """A rule, and what is said behind its parameters."""

    rule: Rule
    comments: dict[str, str] = field(default_factory=dict)


def profile_of(findings: Findings, name: str = "probe") -> Profile:
    """The profile that shows the same."""
    return Profile(
        name=name,
        title=f"As seen from outside: {', '.join(sorted(set(findings.urls.values())))}"[:200],
        notes=" ".join(_notes(findings)),
        rules=tuple(written.rule for written in _written(findings)),
    )


def profile_text(findings: Findings) -> str:
    """The file: the profile, with what each number rests on behind it."""
    comments = {n: written.comments for n, written in enumerate(_written(findings))}
    return profile_toml(profile_of(findings), comments)


def _written(findings: Findings) -> list[Written]:
    """The rules, from the client's side to the server's."""
    rules = [*_limits(_Limits.of(findings)), *_shapes(findings)]
    rules.sort(key=lambda written: _place(written.rule, findings))
    check_order([written.rule for written in rules])
    return rules


def _place(rule: Rule, findings: Findings) -> int:
    """A limit that still answers with a status while an answer is held stands on the client's side of who holds it."""
    held = _held(findings)
    silent = any(finding.value == "until_complete" for finding in held)
    order: list[type[Rule]] = [Upgrade, KeepaliveTimeout, MaxAge, Coalescing, ResponseBuffering, GzipHoldback]
    if type(rule) in order:
        return order.index(type(rule)) * 2
    if isinstance(rule, IdleTimeout) and rule.scope == "connection":
        return -1  # what knows no HTTP counts what the client gets
    is_outside = not held or (silent and getattr(rule, "status", None) is not None)
    return 5 if is_outside else 20  # before what holds, or behind it


# Limits.


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
    """The findings about time, of HTTP and of WebSockets."""

    first_byte: Finding | None
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

        idle, duration = _told_apart(http("idle"), http("duration"))
        socket_idle, socket_duration = _told_apart(socket("idle"), socket("duration"))
        return cls(
            first_byte=http("first_byte", (*WHOLE, *STREAMED)),  # of these no byte comes at all
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
        status=_status(found.first_byte) if same(found.first_byte, idle) else _status(idle),
        **_cut(idle, unsure),
    )
    return Written(rule, _comment(idle, "idle_timeout_s"))


def _http_limits(found: _Limits) -> Iterator[Written]:
    first, idle, duration = found.first_byte, found.idle, found.duration
    if duration:
        status = _status(first) if same(first, duration) else _status(duration)
        rule = MaxDuration(max_duration_s=_number(duration), scope="request", status=status, **_cut(duration))
        yield Written(rule, _comment(duration, "max_duration_s"))
    if idle:
        reset_by, unsure = _reset_by(idle, "down")
        status = _status(first) if same(first, idle) else _status(idle)
        rule_s = _number(idle, first) if same(first, idle) else _number(idle)
        idle_rule = IdleTimeout(
            idle_timeout_s=rule_s, reset_by=reset_by, scope="request", status=status, **_cut(idle, unsure)
        )
        yield Written(idle_rule, _comment(idle, "idle_timeout_s"))
    if first and not same(first, idle) and not same(first, duration):
        status = _status(first)
        unsure = () if status else ("status",)
        limit = FirstByteTimeout(first_byte_timeout_s=_number(first), status=status or 504, unsure=unsure)
        yield Written(limit, _comment(first, "first_byte_timeout_s"))


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
    return roundest(low - max(LATE_SHARE * low, LATE_S), high)


def _action(finding: Finding) -> Action:
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


ResetBy = Literal["either", "up", "down", "each"]


def _reset_by(finding: Finding | None, otherwise: ResetBy) -> tuple[ResetBy, tuple[str, ...]]:
    """Whose bytes start the time anew, and the parameter's name if nobody could see."""
    seen = finding.facts.get("reset_by") if finding else None
    return (seen, ()) if seen in ("either", "up", "down", "each") else (otherwise, ("reset_by",))


def _status(finding: Finding | None) -> int | None:
    words = finding.ending.split() if finding else []
    return int(words[1]) if len(words) == 2 and words[0] == "status" and 400 <= int(words[1]) <= 599 else None


def _close_code(finding: Finding) -> int | None:
    words = finding.ending.split()
    return int(words[1]) if len(words) == 2 and words[0] == "close" and 1000 <= int(words[1]) <= 4999 else None


# Shapes.


def _held(findings: Findings) -> list[Finding]:
    """Of each streamed transport, the finding that says it is held back."""
    found = (findings.get("buffering", name) for name in STREAMED)
    return [finding for finding in found if finding and finding.value not in (None, "none", "first_bytes")]


def _shapes(findings: Findings) -> Iterator[Written]:
    upgrade = findings.get("upgrade", "websocket")
    if upgrade and upgrade.value == "stripped":
        yield Written(Upgrade(action="strip"), _seen(upgrade))
    elif upgrade and upgrade.value == "refused":
        yield Written(Upgrade(action="refuse", status=_status(upgrade) or 403), _seen(upgrade))
    held = _held(findings)
    if held:
        yield _holding(findings, held)
    late = [f for name in STREAMED if (f := findings.get("late_head", name)) and f.value is True]
    if late and not held and (head_holdback := BEHAVIOURS.get("head_holdback")):
        yield Written(head_holdback(), _seen(late[0]))
    if packed := [f for name in STREAMED if (f := findings.get("compression", name)) and f.value == "gzip"]:
        types = tuple(finding.facts["content_type"] for finding in packed)
        flushes = not any(finding.facts.get("holds") for finding in packed)
        yield Written(GzipHoldback(sync_flush=flushes, content_types=types), _seen(packed[0]))


def _holding(findings: Findings, held: list[Finding]) -> Written:
    """Who holds streams back, as a rule."""
    asked = [name for name in STREAMED if findings.get("buffering", name)]
    types = tuple(HELD_TYPES[f.transport] for f in held) if len(held) < len(asked) else ()
    honours = all(finding.facts.get("honours_hint") for finding in held)
    first, size = held[0], _buffer_bytes(held)
    time_ms = float(first.facts.get("time_ms_low", 0))
    comments = {"type": first.words, "buffer_bytes": _bytes_comment(held)}
    common: dict[str, Any] = {"honour_x_accel_buffering": honours, "content_types": types}
    match first.value:
        case "until_complete":
            return Written(ResponseBuffering(until_complete=True, **common), comments)
        case "bytes_or_time" if not first.facts["whole_buffers"] and not honours and not types:
            return _coalescing(findings, size, time_ms, first)
        case "time":
            return Written(ResponseBuffering(flush_s=_hold_ms(time_ms) / 1000, **common), comments)
    drops = findings.get("held_at_cut", first.transport)
    rule = ResponseBuffering(
        buffer_bytes=size,
        flush_s=_hold_ms(time_ms) / 1000 if time_ms else None,
        drop_on_cut=drops is not None and drops.value is True,
        unsure=("drop_on_cut",) if drops is None or drops.value is None else (),
        **common,
    )
    return Written(rule, comments)


def _coalescing(findings: Findings, size: int, time_ms: float, first: Finding) -> Written:
    socket = findings.get("buffering", "websocket")
    rule = Coalescing(
        coalesce_ms=_hold_ms(time_ms),
        coalesce_bytes=size,
        scope="connection" if socket and socket.value not in (None, "none") else "response",
        unscaled=("coalesce_ms",),
    )
    return Written(rule, {"type": first.words, "coalesce_bytes": _bytes_comment([first])})


def _hold_ms(time_ms: float) -> float:
    """A time for which bytes are held: the shortest that was seen, or a tenth less, since clocks are late."""
    return roundest(0.9 * time_ms, time_ms, MILLISECONDS)


def _buffer_bytes(held: list[Finding]) -> int:
    """The size that all of them allow: exact in whole buffers, else no finer than a token."""
    sizes = [finding for finding in held if "bytes_high" in finding.facts]
    exact = [finding for finding in sizes if finding.facts.get("whole_buffers")]
    if exact:
        return int(exact[0].facts["bytes_high"])
    low = max((float(finding.facts["bytes_low"]) for finding in sizes), default=0)
    high = min((float(finding.facts["bytes_high"]) for finding in sizes), default=1)
    return next((size for size in USUAL_BYTES if low < size <= high), round(high))


def _bytes_comment(held: list[Finding]) -> str:
    first = held[0].facts
    if first.get("whole_buffers"):
        return f"seen {held[0].seen} times, in whole buffers"
    return f"above {first['bytes_low']:.0f}, at most {first['bytes_high']:.0f}" if "bytes_low" in first else ""


# What is said of it.


def _seen(finding: Finding) -> dict[str, str]:
    return {"type": f"seen {finding.seen} times"}


def _comment(finding: Finding, parameter: str) -> dict[str, str]:
    """How often, and between which times."""
    return {parameter: f"seen {finding.seen} times, {_low(finding):.6g} to {_high(finding):.6g} s"}


def _notes(findings: Findings) -> Iterator[str]:
    """What was looked for and not found, and what no rule can say."""
    yield f"Probed {findings.started}, silences of up to {seconds(findings.up_to_s)}."
    if findings.interrupted:
        yield "The probe was interrupted: what is not here was perhaps not asked."
    for finding in findings.findings:
        if finding.words and not _is_rule(finding):
            where = f" ({finding.transport})" if finding.transport else ""
            yield f"{finding.question}{where}: {finding.words}."


def _is_rule(finding: Finding) -> bool:
    """Whether a rule says it."""
    return finding.value not in (None, "none", "passed", "first_bytes", False) and finding.question in {
        *("first_byte", "idle", "duration", "keep_alive", "age", "buffering", "upgrade", "compression", "held_at_cut")
    }

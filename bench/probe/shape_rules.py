"""Findings about what is done to a stream on its way, as rules (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.probe.finding import Finding, Findings
from bench.probe.roundest import MILLISECONDS, roundest
from bench.probe.written import STREAMED, Written, seen, status_of
from bench.proxy.behaviours import Coalescing, GzipHoldback, HeadHoldback, ResponseBuffering, Upgrade
from bench.proxy.rule import check_conditions

HELD_TYPES = {"sse": "text/event-stream", "chunked": "application/x-ndjson"}
USUAL_BYTES = (*(2**k for k in range(8, 21)), 1448, 1460)
"""What buffers are made of: powers of two, and what a TCP segment carries on Ethernet, with time stamps and without."""


def held_findings(findings: Findings) -> list[Finding]:
    """Of each streamed transport, the finding that says it is held back."""
    found = (findings.get("buffering", name) for name in STREAMED)
    return [finding for finding in found if finding and finding.value not in (None, "none", "first_bytes")]


def shape_rules(findings: Findings) -> Iterator[Written]:
    """The rules that hold back, refuse and compress."""
    if upgrade := findings.get("upgrade", "websocket"):
        yield from _upgrade(upgrade)
    held = held_findings(findings)
    if held:
        yield _holding(findings, held)
    # A behaviour of its own; where the proxy does not have it, the notes tell.
    late = [f for name in STREAMED if (f := findings.get("late_head", name)) and f.value is True]
    if late and not held:
        yield Written(HeadHoldback(), seen(late[0]))
    if packed := [f for name in STREAMED if (f := findings.get("compression", name)) and f.value == "gzip"]:
        flushes = not any(finding.facts.get("holds") for finding in packed)
        if types := _types(packed):  # without any, the rule would compress everything
            yield Written(GzipHoldback(sync_flush=flushes, content_types=types), seen(packed[0]))


def media_type(content_type: str) -> str:
    """What a Content-Type says, in lower case and without parameters.

    >>> media_type(" Text/Event-Stream ; charset=utf-8")
    'text/event-stream'
    """
    return content_type.partition(";")[0].strip().lower()


def _types(packed: list[Finding]) -> tuple[str, ...]:
    """The types that a rule can be limited to: a deployment may send anything as one."""
    told = dict.fromkeys(media_type(str(finding.facts.get("content_type", ""))) for finding in packed)
    return tuple(name for name in told if _is_type(name))


def _is_type(name: str) -> bool:
    try:
        check_conditions(GzipHoldback(content_types=(name,)))
    except ValueError:
        return False
    return True


def _upgrade(finding: Finding) -> Iterator[Written]:
    """A WebSocket that does not open does not open with the rule either; how it looks is not always known."""
    if finding.value == "stripped":
        yield Written(Upgrade(action="strip"), seen(finding))
    elif finding.value in ("refused", "cut"):
        status = status_of(finding)
        unsure = () if status else ("action", "status")
        yield Written(Upgrade(action="refuse", status=status or 403, unsure=unsure), seen(finding))


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

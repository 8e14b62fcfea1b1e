"""The streams that are asked for to see what is done to them on their way (pure)."""

from __future__ import annotations

from bench.probe.streams import Stream

TIMES = 3
"""How often each is asked for; what is not there each time is chance."""
LIMIT_S = 30.0
"""How long an answer is waited for, beyond its own time."""
UNHINTED = {"X-Accel-Buffering": "yes"}
"""The request's header that has our servers leave out `X-Accel-Buffering: no`."""

_EVEN: Stream = {"ttft_ms": 0, "ttft_sigma": 0, "gap_sigma": 0}
_SLOW_TOKENS = 12


def slow(up_to_s: float) -> Stream:
    """A few tokens, far apart: what they fill no buffer with is held by a clock. 10 s, of 10 min to try."""
    gap_s = max(0.6, up_to_s / 60) / _SLOW_TOKENS
    return _EVEN | {"gap_ms": gap_s * 1000, "tokens": _SLOW_TOKENS}


STEADY: Stream = _EVEN | {"gap_ms": 8, "tokens": 75}
"""Many small tokens in 0.6 s: some kilobytes."""

LARGE: Stream = _EVEN | {"gap_ms": 10, "tokens": 720, "per_emission": 12}
"""Over 64 KiB in 0.6 s."""

LATE_MS = 300
LATE: Stream = _EVEN | {"ttft_ms": LATE_MS, "gap_ms": 0, "tokens": 2}
"""Nothing for a while behind the head."""


def is_late(head_ms: float) -> bool:
    """Whether a head of such an answer waited for its body: ours goes out at once, if not told otherwise."""
    return head_ms > 0.9 * LATE_MS

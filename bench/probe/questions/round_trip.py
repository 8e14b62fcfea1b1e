"""How long the way there and back takes, and how fast a large answer comes."""

from __future__ import annotations

from bench.probe.asking import Asking
from bench.probe.finding import Finding
from bench.probe.question import ProbeQuestion
from bench.probe.questions.buffering import repeated_traces
from bench.probe.shape_streams import LIMIT_S, TIMES
from bench.probe.streams import Stream
from bench.probe.trace import Trace
from clients.core.http1 import Request
from servers.transport import TRANSPORTS

ASKED = 10
"""Of a network's times the least is the way's own."""
_AT_ONCE: Stream = {"ttft_ms": 0, "ttft_sigma": 0, "gap_ms": 0, "gap_sigma": 0, "tokens": 2000}
SLOW_S = 0.2
"""What comes in less was not slowed down by any rate that matters to tokens."""


async def _ask(asking: Asking) -> Finding:
    took_ms = []
    async with asking.channel() as channel:
        for _ in range(ASKED):
            heard = await channel.ask(Request("GET", "/clock"), LIMIT_S)
            if heard.status == 200 and heard.head_ns is not None:
                took_ms.append((heard.head_ns - heard.asked_ns) / 1e6)
    if not took_ms:
        return Finding(question="round_trip", transport=asking.transport, words="/clock did not answer")
    return Finding(
        question="round_trip",
        transport=asking.transport,
        value=round(min(took_ms), 3),
        unit="ms",
        low=0.0,
        high=round(min(took_ms), 3),
        seen=len(took_ms),
        words=f"{min(took_ms):.3g} ms",
    )


async def _ask_rate(asking: Asking) -> Finding:
    came = await repeated_traces(asking, _AT_ONCE, lambda repeated_traces: not all(map(_is_slow, repeated_traces)))
    rates = [_kbit_per_s(trace) for trace in came if _is_slow(trace)]
    if len(rates) < TIMES:
        return Finding(question="rate", transport=asking.transport, seen=len(came), words="no limit that matters")
    return Finding(
        question="rate",
        transport=asking.transport,
        value=round(max(rates), 1),
        unit="kbit/s",
        low=round(min(rates), 1),
        high=round(max(rates), 1),
        seen=len(rates),
        words=f"{max(rates):.3g} kbit/s",
    )


def _took_ns(trace: Trace) -> int:
    return trace.reads[-1].at_ns - trace.reads[0].at_ns


def _is_slow(trace: Trace) -> bool:
    return _took_ns(trace) > SLOW_S * 1e9


def _kbit_per_s(trace: Trace) -> float:
    return (trace.reads[-1].raw_bytes - trace.reads[0].raw_bytes) * 8e6 / _took_ns(trace)


QUESTIONS = (
    ProbeQuestion("round_trip", "How long is the way?", "shape", tuple(TRANSPORTS), 1, lambda _: 1.0, _ask, once=True),
    ProbeQuestion(
        "rate",
        "How fast does a large answer come?",
        "shape",
        ("sse", "chunked"),
        TIMES,
        lambda _: 1.0,
        _ask_rate,
        once=True,
    ),
)

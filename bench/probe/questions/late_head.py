"""Does the response's head wait for the first byte of its body? Then a browser knows nothing until a token comes."""

from __future__ import annotations

from bench.probe.asking import Asking
from bench.probe.finding import Finding
from bench.probe.question import ProbeQuestion
from bench.probe.questions.buffering import repeated_traces
from bench.probe.shape_streams import LATE, LATE_MS, TIMES, is_late
from bench.probe.trace import Trace


async def _ask(asking: Asking) -> Finding:
    came = await repeated_traces(asking, LATE, lambda repeated_traces: not _is_late(repeated_traces))
    if not came:
        return Finding(question="late_head", transport=asking.transport, words="no stream came whole")
    held = _is_late(came)
    return Finding(
        question="late_head",
        transport=asking.transport,
        value=held,
        seen=len(came),
        words=f"the head, sent at once, comes with the first token, {LATE_MS} ms later"
        if held
        else "the head comes before the body",
        facts={
            "head_ms": round(min(t.head_ms for t in came), 3),
            "first_token_ms": round(min(t.first_token_ms for t in came), 3),
        },
    )


def _is_late(came: list[Trace]) -> bool:
    """Whether each head waited."""
    return is_late(min(trace.head_ms for trace in came))


QUESTIONS = (
    ProbeQuestion(
        "late_head",
        "Does the head wait for the body?",
        "shape",
        ("sse", "chunked"),
        TIMES,
        lambda _: LATE_MS / 1e3,
        _ask,
    ),
)

"""Does the response's head wait for the first byte of its body? Then a browser knows nothing until a token comes."""

from __future__ import annotations

from bench.probe.asking import Asking
from bench.probe.finding import Finding
from bench.probe.question import Question
from bench.probe.questions.buffering import traces
from bench.probe.shape_streams import LATE, LATE_MS, TIMES


async def _ask(asking: Asking) -> Finding:
    came = [trace for trace in await traces(asking, LATE) if trace.is_complete]
    heads_ms = [trace.head_ms for trace in came]
    if not heads_ms:
        return Finding(question="late_head", transport=asking.transport, words="no stream came whole")
    held = min(heads_ms) > 0.9 * LATE_MS  # ours goes out at once, if the server was not told otherwise
    return Finding(
        question="late_head",
        transport=asking.transport,
        value=held,
        seen=len(came),
        words=f"the head, sent at once, comes with the first token, {LATE_MS} ms later"
        if held
        else "the head comes before the body",
        facts={"head_ms": round(min(heads_ms), 3), "first_token_ms": round(min(t.first_token_ms for t in came), 3)},
    )


QUESTIONS = (
    Question(
        "late_head",
        "Does the head wait for the body?",
        "shape",
        ("sse", "chunked"),
        TIMES,
        lambda _: LATE_MS / 1e3,
        _ask,
    ),
)

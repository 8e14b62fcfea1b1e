"""Is a stream compressed for a client that accepts gzip, and does the compressor hold tokens back?"""

from __future__ import annotations

from bench.probe.asking import Asking
from bench.probe.channel import Heard, Talk
from bench.probe.finding import Finding
from bench.probe.holding import is_held
from bench.probe.question import ProbeQuestion
from bench.probe.shape_rules import media_type
from bench.probe.shape_streams import LIMIT_S, STEADY, TIMES
from bench.probe.trace import Trace

_GZIP = {"Accept-Encoding": "gzip"}


async def _ask(asking: Asking) -> Finding:
    heard = await _heard(asking)
    if not heard:
        return Finding(question="compression", transport=asking.transport, words="no stream came whole")
    codings = set(map(_coding, heard))
    coding = codings.pop() if len(codings) == 1 else ""
    traces = [Trace.of(each) for each in heard]
    holds = bool(coding) and all(len(each.deliveries) == 1 for each in traces)
    words = f"compressed ({coding}), and {_of_tokens(traces, holds=holds)}" if coding else "none"
    return Finding(
        question="compression",
        transport=asking.transport,
        value=coding or "none",
        seen=len(heard),
        words=words,
        facts={"holds": holds, "content_type": media_type(heard[0].headers.get("content-type", ""))},
    )


def _of_tokens(traces: list[Trace], *, holds: bool) -> str:
    """What becomes of tokens: who waits for a full compressor sends nothing of so short an answer before its end."""
    if holds:
        return "held back until the answer is complete"
    return "held back for a while, as by a buffer or a clock" if is_held(traces) else "flushed with each token"


async def _heard(asking: Asking) -> list[Heard]:
    """Streams that came whole; a single one that is not compressed says that streams are not."""
    talk, whole = Talk(STEADY, LIMIT_S, headers=_GZIP), list[Heard]()
    for _ in range(TIMES):
        heard = await asking.talk(talk)
        if heard.is_complete:
            whole.append(heard)
            if not _coding(heard):
                break
    return whole


def _coding(heard: Heard) -> str:
    return heard.headers.get("content-encoding", "")


QUESTIONS = (
    ProbeQuestion(
        *("compression", "Is a stream compressed?", "shape", ("sse", "chunked"), TIMES),
        lambda _: 0.6,
        _ask,
    ),
)

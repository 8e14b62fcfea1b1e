"""What holds a stream back, as a finding with its words (pure)."""

from __future__ import annotations

from typing import Any

from bench.probe.finding import Finding
from bench.probe.holding import NOTHING, Holding
from bench.probe.shape_streams import TIMES

UNLESS_HINTED = ", unless the answer says X-Accel-Buffering: no"


def held_finding(question: str, transport: str, found: Holding | None, hinted: Holding | None) -> Finding:
    """What was seen, as a finding; hinted: with `X-Accel-Buffering: no`, None if that was not asked."""
    if found is None:
        return Finding(question=question, transport=transport, words="no stream came whole: nothing can be said")
    facts: dict[str, Any] = {"kind": found.kind}
    if found.bytes:
        facts |= {"bytes_low": found.bytes.low, "bytes_high": found.bytes.high, "whole_buffers": found.whole_buffers}
    if found.time_ms:
        facts |= {"time_ms_low": found.time_ms.low, "time_ms_high": found.time_ms.high}
    honours = found.kind != "none" and hinted == NOTHING
    if found.kind != "none" and hinted is not None:
        facts["honours_hint"] = honours
    size = found.bytes or None
    return Finding(
        question=question,
        transport=transport,
        value=found.kind,
        unit="bytes" if size else "",
        low=size.low if size else None,
        high=size.high if size else None,
        seen=1 if found.kind == "none" else TIMES,  # one free stream says that nothing holds them
        words=_words(found) + UNLESS_HINTED * honours,
        facts=facts,
    )


def _words(found: Holding) -> str:
    size = found.bytes.high if found.bytes else 0
    time_ms = found.time_ms.low if found.time_ms else 0
    size_words = f"{'whole buffers of ' if found.whole_buffers else ''}{size:.0f} bytes"
    return {
        "none": "nothing is held back",
        "until_complete": f"held until the answer is complete (tried with {size:.0f} bytes)",
        "first_bytes": f"the first {size_words} are held until they are there, what follows is not",
        "bytes": f"held until {size_words} are there",
        "time": f"held for {time_ms:.0f} ms",
        "bytes_or_time": f"held for {time_ms:.0f} ms, or until {size_words} are there",
    }[found.kind]

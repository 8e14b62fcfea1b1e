"""What to do behind this balancer: each sentence rests on a finding, which it names (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bench.probe.finding import Finding, Findings
from bench.probe.held import UNLESS_HINTED
from bench.probe.words import NEARLY, cut_words, rounded_seconds

MARGIN = 2
"""A heartbeat twice within the limit: one of them may be late."""
EARLY = 1.2
"""A head comes so much sooner than its limit."""
STREAMED = ("sse", "chunked", "websocket")
TITLES = {"sse": "SSE", "chunked": "a chunked response", "websocket": "a WebSocket"}


@dataclass(frozen=True)
class Advice:
    """A sentence, and the finding that it rests on (question, transport)."""

    words: str
    question: str
    transport: str


def probe_advice(findings: Findings) -> list[Advice]:
    """Everything that follows from what was measured; nothing where nothing was found."""
    return [
        *_upgrade(findings),
        *_buffering(findings),
        *_limits(findings),
        *_first_byte(findings),
        *_requests(findings),
        *_several(findings),
    ]


def _of(finding: Finding, words: str) -> Advice:
    return Advice(words, finding.question, finding.transport)


def _number(finding: Finding | None) -> float | None:
    value = finding.value if finding else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _upgrade(findings: Findings) -> Iterator[Advice]:
    upgrade = findings.get("upgrade", "websocket")
    if upgrade is None or upgrade.value in (None, "passed"):
        return
    why = "the Upgrade header is not forwarded" if upgrade.value == "stripped" else cut_words(upgrade.ending)
    yield _of(upgrade, f"A WebSocket cannot work here: {why}. Use SSE or a chunked response.")


def _buffering(findings: Findings) -> Iterator[Advice]:
    for transport in STREAMED:
        held = findings.get("buffering", transport)
        if held is None or held.value in (None, "none"):
            continue
        title = TITLES[transport]
        if held.facts.get("honours_hint"):
            yield _of(held, f"Send X-Accel-Buffering: no with {title}: without it, tokens are {_without_hint(held)}.")
        elif held.value == "until_complete":
            yield _of(held, f"{title[0].upper()}{title[1:]} cannot stream here: it is {held.words}.")
        else:
            yield _of(held, f"Tokens of {title} come in bursts, whatever the server does: they are {held.words}.")


def _without_hint(held: Finding) -> str:
    """What is held, without the words that say that a hint helps."""
    return held.words.removesuffix(UNLESS_HINTED)


def _limits(findings: Findings) -> Iterator[Advice]:
    for transport in STREAMED:
        idle, duration = findings.get("idle", transport), findings.get("duration", transport)
        title = TITLES[transport]
        if idle is not None and (limit_s := _number(idle)) is not None:
            yield _of(idle, _heartbeat(title, idle, limit_s))
        if duration is not None and (limit_s := _number(duration)) is not None:
            yield _of(
                duration,
                f"An answer over {title} that takes longer than {rounded_seconds(limit_s)} is cut however busy "
                "it is: clients must resume, and the server must keep the answer that long.",
            )


def _heartbeat(title: str, idle: Finding, limit_s: float) -> str:
    kept = idle.facts.get("kept_open_by", {})
    reset_by = idle.facts.get("reset_by")
    every = rounded_seconds(_round_down(_surely_s(idle, limit_s) / MARGIN))
    if reset_by == "up" or (kept and not kept.get("down", True) and reset_by != "each"):
        return f"Have the client send something over {title} every {every}: only its bytes keep it open."
    if reset_by == "each":
        return f"Both sides must send something over {title} every {every}: each has a timer of its own. Else resume."
    silent = (
        " A black hole tells nobody: clients need a limit of their own on silence."
        if idle.ending == "black_hole"
        else ""
    )
    why = f"{cut_words(idle.ending)} after {rounded_seconds(limit_s)} of silence."
    return f"Send a heartbeat over {title} every {every}: {why}{silent}"


def _surely_s(limit: Finding, value_s: float) -> float:
    """How long is allowed for certain: where nobody saw the moment of a cut, much less than its likeliest time."""
    low_s = limit.low or 0.0
    return value_s if low_s > NEARLY * value_s else low_s or value_s


def _round_down(value_s: float) -> float:
    """To a number that people set: 27.5 → 25, 7.4 → 7."""
    step = 5 if value_s > 20 else 1 if value_s > 2 else 0.1 if value_s > 0.2 else 0.01
    return round(math.floor(value_s / step + 1e-9) * step, 2)


def _first_byte(findings: Findings) -> Iterator[Advice]:
    found = (each for each in findings.findings if each.question == "first_byte" and _number(each) is not None)
    if first := next(found, None):
        limit_s = _number(first) or 0
        within = rounded_seconds(_round_down(_surely_s(first, limit_s) / EARLY))
        yield _of(
            first,
            f"Send the response's head, or a comment, within {within}, before the model's first "
            f"token: {cut_words(first.ending)} if nothing comes for {rounded_seconds(limit_s)}.",
        )


def _requests(findings: Findings) -> Iterator[Advice]:
    found = next((each for each in findings.findings if each.question == "requests"), None)
    if found is not None and (number := _number(found)) is not None:
        after = f"after {number:.0f} requests" if number > 1 else "after each response"
        yield _of(
            found,
            f"A connection is closed {after}: clients that poll open a new one that often, and each must be ready to "
            "send a request once more where the connection closes under it.",
        )


def _several(findings: Findings) -> Iterator[Advice]:
    found = next((each for each in findings.findings if each.question == "stickiness"), None)
    if found is not None and (_number(found) or 0) > 1 and not found.facts.get("sticky_by_cookie"):
        yield _of(
            found,
            f"{found.words}: a client that resumes reaches another server. Keep answers where all of them can read "
            "(Redis, as polling does).",
        )

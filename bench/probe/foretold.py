"""What a probe of a known profile has to find (pure): the scenes of bench.probe.rehearsal, read as findings.

The blind proof holds a probe against this: nothing here knows what kinds of rules there are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from bench.probe.finding import NO_CUT, Finding, Findings, Value
from bench.probe.held import held_finding
from bench.probe.holding import Holding, holding
from bench.probe.profile_likeness import is_close
from bench.probe.rehearsal import Scene, SceneOutcome, rehearse, scenes
from bench.probe.shape_rules import HELD_TYPES
from bench.probe.shape_streams import LARGE, STEADY, TIMES, is_late
from bench.probe.shape_streams import slow as slow_stream
from bench.probe.streams import Stream
from bench.probe.trace import Read, Trace
from bench.proxy.rule import Rule

LONGEST_S = 60.0
"""Of a shape's streams; a limit within that cuts them, here as there."""

PROBED_TRANSPORTS = ("blocking", "chunked", "sse", "websocket")
"""Of which a probe asks; polling shows what a blocking answer shows, and needs a Redis."""
MakeFinding = Callable[..., Finding]


def foretold(rules: Sequence[Rule], up_to_s: float, transports: Sequence[str] = PROBED_TRANSPORTS) -> Findings:
    """The findings that `rules` give, where silences of `up_to_s` are tried."""
    seen = {scene.name: rehearse(rules, scene) for scene in scenes(up_to_s)}
    found: list[Finding] = []
    for transport in transports:
        if transport == "blocking":
            first = _finding(transport, "first_byte", seen["no answer"])
            found.append(first if first.value is not None else msgspec.structs.replace(first, low=up_to_s))
            continue
        found += _of_websocket(seen) if transport == "websocket" else _of_stream(rules, seen, transport)
    return Findings(urls=dict.fromkeys(transports, ""), up_to_s=up_to_s, started="", findings=tuple(found))


def _of_stream(rules: Sequence[Rule], seen: Mapping[str, SceneOutcome], transport: str) -> list[Finding]:
    finding = partial(_finding, transport)
    return [
        *(_sse_limits if transport == "sse" else _chunked_limits)(finding, seen),
        finding("keep_alive", seen["no other request"]),
        *_used(finding, transport, seen["request after request"], seen["request after request, half as many"]),
        _buffering(rules, transport),
        _held_at_cut(transport, seen),
        _late_head(transport, seen[f"a head long before a body of {HELD_TYPES[transport]}"]),
    ]


def _used(finding: MakeFinding, transport: str, often: SceneOutcome, seldom: SceneOutcome) -> list[Finding]:
    """A connection that is used all the time: what ends it at another age, but after as many answers, counts them."""
    is_at_answer = often.at_s is not None and often.answers > 0 and is_close(often.at_s, often.arrivals[-1][0])
    if not is_at_answer or often.answers != seldom.answers:
        return [finding("age", often), Finding(question="requests", transport=transport, words="no limit")]
    number = Finding(
        question="requests", transport=transport, value=often.answers, unit="requests", ending=often.ending
    )
    return [Finding(question="age", transport=transport, words="no limit"), number]


def _sse_limits(finding: MakeFinding, seen: Mapping[str, SceneOutcome]) -> list[Finding]:
    """The client of an event stream that is asked by GET can go on sending its request's body."""
    silent, goes_on = seen["a silence in an answer"], seen["an answer that goes on and on"]
    both = seen["an answer that goes on and on, while the client talks"]
    reset_by = _reset_by(silent, goes_on, seen["a silence in an answer, while the client talks"])
    return [finding("idle", silent, unless=both, reset_by=reset_by), finding("duration", both)]


def _chunked_limits(finding: MakeFinding, seen: Mapping[str, SceneOutcome]) -> list[Finding]:
    """Here the client has nothing to say."""
    silent, goes_on = seen["a silence in an answer"], seen["an answer that goes on and on"]
    return [finding("idle", silent, unless=goes_on, reset_by="down"), finding("duration", goes_on)]


def _of_websocket(seen: Mapping[str, SceneOutcome]) -> list[Finding]:
    finding = partial(_finding, "websocket")
    silent, busy = seen["a silent WebSocket"], seen["a busy WebSocket"]
    if silent.status != 101:
        stripped = silent.status == 426
        ending = f"status {silent.status}"
        return [finding("upgrade", silent, value="stripped" if stripped else "refused", ending=ending)]
    by_server, by_client = (seen[f"a WebSocket on which only the {who} talks"] for who in ("server", "client"))
    return [
        finding("upgrade", silent, value="passed", ending=NO_CUT),
        finding("idle", silent, unless=busy, reset_by=_reset_by(silent, by_server, by_client)),
        finding("duration", busy),
    ]


def _reset_by(silent: SceneOutcome, by_server: SceneOutcome, by_client: SceneOutcome) -> str:
    kept = _is_kept(by_server, silent), _is_kept(by_client, silent)
    return {(True, True): "either", (True, False): "down", (False, True): "up", (False, False): "each"}[kept]


def _is_kept(one: SceneOutcome, silent: SceneOutcome) -> bool:
    """Whether it outlives the silent one."""
    return silent.at_s is None or one.at_s is None or one.at_s > silent.at_s * 1.01


def _finding(
    transport: str,
    question: str,
    out: SceneOutcome,
    *,
    unless: SceneOutcome | None = None,
    value: Value = None,
    ending: str | None = None,
    reset_by: str = "",
) -> Finding:
    """A cut at a moment, as the answer to a question; `unless`: an outcome without the silence that is cut as early."""
    if value is None and not (unless and unless.at_s is not None and out.at_s is not None and unless.at_s <= out.at_s):
        value = out.at_s
    return Finding(
        question=question,
        transport=transport,
        value=value,
        ending=ending or (out.ending if value is not None else NO_CUT),
        low=out.at_s,
        high=out.at_s,
        seen=3,
        words="" if value is not None else "no cut",
        facts={"reset_by": reset_by} if reset_by and value is not None else {},
    )


def _buffering(rules: Sequence[Rule], transport: str) -> Finding:
    """As the question asks it: first without the hint, and with it where that is held."""
    unhinted, hinted = (_holding(rules, HELD_TYPES[transport], hint=hint) for hint in (False, True))
    return held_finding("buffering", transport, unhinted, hinted)


def _holding(rules: Sequence[Rule], content_type: str, *, hint: bool) -> Holding | None:
    slow, steady, large = (
        [rehearsed(rules, stream, content_type=content_type, hint=hint)] * TIMES
        for stream in (slow_stream(LONGEST_S), STEADY, LARGE)
    )
    return holding(slow, steady, large)


def _held_at_cut(transport: str, seen: Mapping[str, SceneOutcome]) -> Finding:
    """Whether more than the head came of an answer that was cut while a token of it was held."""
    out = seen["a silence in an answer, unhinted"]
    lost = out.ending == "fin" and len(out.arrivals) == 1 and out.arrivals[0][1] < 120
    return Finding(question="held_at_cut", transport=transport, value=lost, seen=3)


def _late_head(transport: str, out: SceneOutcome) -> Finding:
    """Whether the head came as late as the body."""
    return Finding(question="late_head", transport=transport, value=is_late(out.arrivals[0][0] * 1000), seen=3)


def rehearsed(
    rules: Sequence[Rule], stream: Stream, content_type: str = "text/event-stream", *, hint: bool = True
) -> Trace:
    """A stream through `rules`, as its client would see it."""
    tokens = int(stream["tokens"])
    together = int(stream.get("per_emission", 1))
    sent_s = tuple(k // together * stream["gap_ms"] / 1000 for k in range(tokens))
    scene = Scene("", "stream", 10 * LONGEST_S, tokens_s=sent_s, ends=True, content_type=content_type, hint=hint)
    ends = [n_bytes for _, n_bytes in rehearse((), scene).arrivals[1:]][:tokens]
    reads, told = [], 0
    for at_s, n_bytes in rehearse(rules, scene).arrivals:
        there = bisect_right(ends, n_bytes)
        reads.append(Read(round(at_s * 1e9), n_bytes, tuple(round(s * 1e9) for s in sent_s[told:there])))
        told = there
    return Trace(0, reads[0].at_ns if reads else None, tuple(reads), told == tokens)

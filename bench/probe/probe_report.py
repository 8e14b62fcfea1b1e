"""What the command prints when a probe is over: what was found, what it resembles, what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.probe.finding import Finding, Findings
from bench.probe.own_lateness import LATE_ITSELF
from bench.probe.probe_advice import probe_advice
from bench.probe.profile_likeness import Near, nearest
from bench.probe.profile_writer import profile_of
from bench.probe.question import all_questions
from bench.probe.words import rounded_seconds
from servers.foreign_text import SENTENCE_SIGNS, in_one_line

_SAME = "looks the same from outside"
SHOWN_DIFFERENCES = 3
SHOWN_SPANS = 3
NOTHING_PASSES = (
    "No answer was seen to pass, so nothing follows from this: what stands in front of the servers, or a server "
    "itself, refuses every chat request, or takes longer than this probe waits (a longer --up-to waits longer)."
)


def findings_report(findings: Findings) -> Group:
    """Everything, for a console: the table, the nearest shipped profiles, the advice; no more where nothing passes."""
    parts: list[RenderableType] = [findings_table(findings), *map(_text, _disturbed(findings))]
    told = [*_nearest(findings), "", *_advice(findings)] if findings.passing else [NOTHING_PASSES]
    return Group(*parts, *map(_text, ["", *told]))


def findings_table(findings: Findings) -> Table:
    """A row a finding; questions are named once."""
    table = Table("question", "transport", "found", "seen", show_lines=False)
    before = ""
    for finding in findings.findings:
        title = _title(finding) if finding.question != before else ""
        before = finding.question
        mark = "" if finding.is_complete else " (interrupted)"
        cells = title, finding.transport or "all", finding.words + mark, str(finding.seen or "")
        table.add_row(*map(_text, cells))  # words may have brackets, which are no markup
    return table


def _text(words: str) -> Text:
    """May quote what a deployment sent."""
    return Text(in_one_line(words, SENTENCE_SIGNS))


def _title(finding: Finding) -> str:
    question = all_questions().get(finding.question)
    return question.title if question else finding.question


def _disturbed(findings: Findings) -> Iterator[str]:
    """What did not count, and what that may have been."""
    spans: list[tuple[float, float]] = []
    for began_s, ended_s in sorted(findings.disturbances):
        if spans and began_s <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(spans[-1][1], ended_s)
        else:
            spans.append((began_s, ended_s))
    if spans:
        shown = ", ".join(
            f"from {rounded_seconds(began_s)} to {rounded_seconds(ended_s)}" for began_s, ended_s in spans[:SHOWN_SPANS]
        )
        more = f" and {len(spans) - SHOWN_SPANS} times more" if len(spans) > SHOWN_SPANS else ""
        yield (
            f"Something was wrong {shown}{more} of the probe: what ended then does not count. A server was restarted, "
            "the network was bad, or there were more connections than the way there serves."
        )
    late = sum(seen.void.startswith(LATE_ITSELF) for finding in findings.findings for seen in finding.observations)
    if late:
        yield f"This machine was late itself: {late} of its observations do not count. On a quiet one more is found."


def _nearest(findings: Findings) -> Iterator[str]:
    found = nearest(profile_of(findings).rules, findings.up_to_s)
    yield f"Nearest of the profiles that ship, as far as {findings.up_to_s:g} s of silence can tell:"
    for near in found:
        yield from _near(near)


def _near(near: Near) -> Iterator[str]:
    """A profile, and what differs, the first few in words."""
    count = len(near.differences)
    yield f"  {near.profile.name}: " + (f"{count} differences" if count > 1 else "one difference" if count else _SAME)
    for each in near.differences[:SHOWN_DIFFERENCES]:
        yield f"    {each.scene}: here {each.one}; there {each.other}"


def _advice(findings: Findings) -> Sequence[str]:
    found = probe_advice(findings)
    if not found:
        return ["Nothing found that a stream has to beware of."]
    return ["What follows from it:", *(f"  - {each.words} ({_name(each.question, each.transport)})" for each in found)]


def _name(question: str, transport: str) -> str:
    return f"{question}, {transport}" if transport else question

"""From what a probe has found to a profile that `tokenderby proxy` replays (pure).

A finding becomes a rule of the kind that shows the same from outside; which rule a vendor wrote down cannot be known.
Numbers are rounded no finer than they are known. What is not certain is `unsure`; what was looked for and not found
stands in the notes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

from bench.probe.finding import NO_CUT, Finding, Findings
from bench.probe.limit_rules import is_said, limit_rules
from bench.probe.shape_rules import held_findings, shape_rules
from bench.probe.written import STREAMED, Written, status_of
from bench.proxy.behaviours import (
    Coalescing,
    GzipHoldback,
    HeadHoldback,
    IdleTimeout,
    KeepaliveTimeout,
    MaxAge,
    MaxRequests,
    ResponseBuffering,
    Upgrade,
)
from bench.proxy.profile import Profile, ProfileError, parse_profile
from bench.proxy.profile_toml import profile_toml
from bench.proxy.rule import Rule, check_order, seconds

RULES_OF = frozenset(
    {
        "first_byte",
        "idle",
        "duration",
        "keep_alive",
        "age",
        "requests",
        "buffering",
        "upgrade",
        "compression",
        "held_at_cut",
    }
)
"""The questions whose findings become rules; of the others the notes tell."""


def profile_of(findings: Findings, name: str = "probe") -> Profile:
    """The profile that shows the same."""
    return Profile(
        name=name,
        title=f"As seen from outside: {', '.join(sorted(set(findings.urls.values())))}"[:200],
        notes=" ".join(_notes(findings)),
        rules=tuple(written.rule for written in _written(findings)),
    )


def profile_text(findings: Findings) -> str:
    """The file: the profile, with what each number rests on behind it."""
    comments = {n: written.comments for n, written in enumerate(_written(findings))}
    return profile_toml(profile_of(findings), comments)


def _written(findings: Findings) -> list[Written]:
    """The rules, from the client's side to the server's."""
    rules = [written for written in _made(findings) if not _why_not(written.rule)]
    rules.sort(key=lambda written: _place(written.rule, findings))
    check_order([written.rule for written in rules])
    return rules


def _made(findings: Findings) -> list[Written]:
    """The rules as the findings give them: a deployment, or a file to resume from, may have told anything."""
    return [*limit_rules(findings), *shape_rules(findings)]


def _why_not(rule: Rule) -> str:
    """Why a proxy would not take this rule; "" if it does."""
    try:
        parse_profile("probe", tomllib.loads(profile_toml(Profile(name="probe", rules=(rule,)))))
    except (ProfileError, tomllib.TOMLDecodeError) as error:
        return str(error)
    return ""


def _place(rule: Rule, findings: Findings) -> int:
    """A limit that still answers with a status while an answer is held stands on the client's side of who holds it."""
    held = held_findings(findings)
    silent = any(finding.value == "until_complete" for finding in held)
    order: list[type[Rule]] = [
        Upgrade,
        KeepaliveTimeout,
        MaxAge,
        MaxRequests,
        HeadHoldback,
        Coalescing,
        ResponseBuffering,
        GzipHoldback,
    ]
    if type(rule) in order:
        return order.index(type(rule)) * 2
    if isinstance(rule, IdleTimeout) and rule.scope == "connection" and rule.status is None:
        return -1  # what knows no HTTP counts what the client gets
    if _has_begun_behind_the_head(findings):
        return 20
    is_outside = not held or (silent and getattr(rule, "status", None) is not None and not _outlives(findings, held))
    return 5 if is_outside else 20  # before what holds, or behind it


def _has_begun_behind_the_head(findings: Findings) -> bool:
    """Whether a stream whose head is withheld is cut without a status: to its limit the answer has begun."""
    if not any(each.question == "late_head" and each.value is True for each in findings.findings):
        return False
    found = (findings.get("first_byte", transport) for transport in STREAMED)
    return any(each is not None and each.value is not None and status_of(each) is None for each in found)


def _outlives(findings: Findings, held: list[Finding]) -> bool:
    """Whether a stream of which the client sees nothing lasts: then whoever wants bytes gets those that are held."""
    lasting = (findings.get("duration", finding.transport) for finding in held)
    return any(each is not None and each.value is None and each.seen > 0 for each in lasting)


def _notes(findings: Findings) -> Iterator[str]:
    """What was looked for and not found, and what no rule can say."""
    yield f"Probed {findings.started}, silences of up to {seconds(findings.up_to_s)}."
    if findings.interrupted:
        yield "The probe was interrupted: what is not here was perhaps not asked."
    if silent := sorted(set(findings.urls) - findings.passing):
        yield f"No answer was seen to pass of: {', '.join(silent)}."
    rules = [written.rule for written in _written(findings)]
    for finding in findings.findings:
        if finding.words and not _is_rule(finding, findings, rules):
            where = f" ({finding.transport})" if finding.transport else ""
            yield f"{finding.question}{where}: {finding.words}."
        if other := _cut_alone(finding, findings):
            only = f"{other} alone, not of {finding.transport}"
            yield f"The limit of {finding.question} was seen of {only}; its rule cuts both."
    for reason in filter(None, (_why_not(written.rule) for written in _made(findings))):
        yield f"No rule, since a proxy does not take it: {reason}."


def _is_rule(finding: Finding, findings: Findings, rules: list[Rule]) -> bool:
    """Whether a rule says it, and says all of it."""
    if finding.value in (None, "none", "passed", "first_bytes", False) or finding.question not in RULES_OF:
        return finding.facts.get("is_kept") is False
    match finding.question:
        case "idle" | "duration" | "first_byte":
            return is_said(findings, finding)
        case "upgrade":
            return finding.value != "cut"
        case "compression":
            return finding.value == "gzip" and any(isinstance(rule, GzipHoldback) for rule in rules)
        case "buffering":
            return _is_held_so(finding, findings, rules)
    return True


def _is_held_so(finding: Finding, findings: Findings, rules: list[Rule]) -> bool:
    """Whether a rule holds this transport back in this way."""
    if finding.transport in STREAMED:
        return finding.value == held_findings(findings)[0].value
    return any(isinstance(rule, Coalescing) and rule.scope == "connection" for rule in rules)


def _cut_alone(finding: Finding, findings: Findings) -> str:
    """The transport whose limit this stream outlived, "" if none: rules about time take no content types."""
    if finding.question not in ("idle", "duration") or finding.transport not in STREAMED or finding.low is None:
        return ""
    if finding.value is not None or finding.ending != NO_CUT or not finding.seen:
        return ""
    others = (each for each in findings.findings if each.question == finding.question and each.transport in STREAMED)
    cut = (each.transport for each in others if each.value is not None and (each.high or 0) < finding.low)
    return next(cut, "")

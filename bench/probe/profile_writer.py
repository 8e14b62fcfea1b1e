"""From what a probe has found to a profile that `tokenderby proxy` replays (pure).

A finding becomes a rule of the kind that shows the same from outside; which rule a vendor wrote down cannot be known.
Numbers are rounded no finer than they are known. What is not certain is `unsure`; what was looked for and not found
stands in the notes.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.probe.finding import Finding, Findings
from bench.probe.limit_rules import limit_rules
from bench.probe.shape_rules import held_findings, shape_rules
from bench.probe.written import Written
from bench.proxy.behaviours import (
    Coalescing,
    GzipHoldback,
    IdleTimeout,
    KeepaliveTimeout,
    MaxAge,
    ResponseBuffering,
    Upgrade,
)
from bench.proxy.profile import Profile
from bench.proxy.profile_toml import profile_toml
from bench.proxy.rule import Rule, check_order, seconds

RULES_OF = frozenset(
    {"first_byte", "idle", "duration", "keep_alive", "age", "buffering", "upgrade", "compression", "held_at_cut"}
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
    rules = [*limit_rules(findings), *shape_rules(findings)]
    rules.sort(key=lambda written: _place(written.rule, findings))
    check_order([written.rule for written in rules])
    return rules


def _place(rule: Rule, findings: Findings) -> int:
    """A limit that still answers with a status while an answer is held stands on the client's side of who holds it."""
    held = held_findings(findings)
    silent = any(finding.value == "until_complete" for finding in held)
    order: list[type[Rule]] = [Upgrade, KeepaliveTimeout, MaxAge, Coalescing, ResponseBuffering, GzipHoldback]
    if type(rule) in order:
        return order.index(type(rule)) * 2
    if isinstance(rule, IdleTimeout) and rule.scope == "connection":
        return -1  # what knows no HTTP counts what the client gets
    is_outside = not held or (silent and getattr(rule, "status", None) is not None)
    return 5 if is_outside else 20  # before what holds, or behind it


def _notes(findings: Findings) -> Iterator[str]:
    """What was looked for and not found, and what no rule can say."""
    yield f"Probed {findings.started}, silences of up to {seconds(findings.up_to_s)}."
    if findings.interrupted:
        yield "The probe was interrupted: what is not here was perhaps not asked."
    for finding in findings.findings:
        if finding.words and not _is_rule(finding):
            where = f" ({finding.transport})" if finding.transport else ""
            yield f"{finding.question}{where}: {finding.words}."


def _is_rule(finding: Finding) -> bool:
    """Whether a rule says it."""
    return finding.value not in (None, "none", "passed", "first_bytes", False) and finding.question in RULES_OF

"""A probe's findings against what a known profile had to show (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.probe.finding import Finding, Findings
from bench.probe.profile_likeness import RELATIVE, is_close
from bench.probe.words import cut_words, rounded_seconds

ONCE = ("keep_alive", "age", "requests")
"""Asked of one transport, for all."""


@dataclass(frozen=True)
class ProofVerdict:
    """One question: what was true, what was found, and whether that is the same.

    is_shown: whether there was anything to find
    """

    question: str
    transport: str
    true: str
    found: str
    is_right: bool
    is_shown: bool


def judge(found: Findings, true: Findings, early_s: float = 0.0) -> list[ProofVerdict]:
    """Every question that a known profile answers, against the finding; early_s: how much early its cuts may come."""
    return list(_verdicts(found, true, early_s))


def _verdicts(found: Findings, true: Findings, early_s: float) -> Iterator[ProofVerdict]:
    asked_once = set()
    for expected in true.findings:
        question = expected.question
        if question in ONCE:
            if question in asked_once:
                continue
            asked_once.add(question)
            seen = next((each for each in found.findings if each.question == question), None)
        else:
            seen = found.get(question, expected.transport)
        if seen is None:  # a transport that this deployment does not have
            continue
        right = _is_right(seen, expected, true.up_to_s, early_s)
        yield ProofVerdict(
            question, seen.transport, _words(expected), _words(seen), right, expected.value not in _NOTHING
        )


_NOTHING = (None, "none", "passed", False)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_time(finding: Finding) -> bool:
    return _is_number(finding.value) and finding.unit != "requests"


def _is_right(seen: Finding, expected: Finding, up_to_s: float, early_s: float) -> bool:
    if _is_time(expected) and _is_number(seen.value):
        return _same_cut(seen, expected, early_s)
    if _is_time(expected) and seen.value is None:  # at the very end of what was tried
        return bool(is_close(float(expected.value or 0), up_to_s))
    if expected.question == "held_at_cut":
        return seen.value in (None, expected.value)
    if expected.question == "buffering":
        kinds = {seen.value, expected.value}
        if kinds in ({None, "none"}, {"time", "bytes_or_time"}):
            return True  # a stream too long for the limits says nothing; a kernel that waits may also be sooner
        return seen.value == expected.value and _same_holding(seen, expected)
    return seen.value == expected.value and (seen.value is None or seen.ending == expected.ending)


def _same_cut(seen: Finding, expected: Finding, early_s: float) -> bool:
    resets = {finding.facts.get("reset_by") or "" for finding in (seen, expected)} - {""}
    found_s, true_s = float(seen.value or 0), float(expected.value or 0)
    return (
        (is_close(found_s, true_s) or true_s - early_s <= found_s <= true_s)
        and seen.ending == expected.ending
        and len(resets) <= 1
    )


def _same_holding(seen: Finding, expected: Finding) -> bool:
    if seen.value in (None, "none"):
        return True
    if seen.facts.get("honours_hint") != expected.facts.get("honours_hint"):
        return False
    if seen.value == "until_complete" or "bytes_high" not in expected.facts:
        return True
    low = max(finding.facts["bytes_low"] for finding in (seen, expected))
    high = min(finding.facts["bytes_high"] for finding in (seen, expected))
    return bool(low <= high * (1 + RELATIVE))


def _words(finding: Finding) -> str:
    if finding.unit == "requests":
        return f"{finding.value} requests"
    if _is_number(finding.value):
        reset_by = f", kept open by {finding.facts['reset_by']}" if finding.facts.get("reset_by") else ""
        return f"{rounded_seconds(float(finding.value or 0))}: {cut_words(finding.ending)}{reset_by}"
    if finding.question == "buffering" and finding.value not in _NOTHING:
        return finding.words
    if finding.question == "upgrade":
        return f"{finding.value} ({finding.ending})" if finding.value == "refused" else str(finding.value)
    return "nothing" if finding.value in _NOTHING else str(finding.value)

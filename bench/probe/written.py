"""A rule that is written down, and how its parameters are commented (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.probe.finding import Finding
from bench.proxy.rule import Rule

STREAMED = ("sse", "chunked")
"""Whose answers stream over HTTP."""


@dataclass
class Written:
    """A rule, and what is said behind its parameters."""

    rule: Rule
    comments: dict[str, str] = field(default_factory=dict)


def seen(finding: Finding) -> dict[str, str]:
    """How often, behind the rule's type."""
    return {"type": f"seen {finding.seen} times"}


def status_of(finding: Finding | None) -> int | None:
    """The status that an ending names, if it is one of errors."""
    words = finding.ending.split() if finding else []
    return int(words[1]) if len(words) == 2 and words[0] == "status" and 400 <= int(words[1]) <= 599 else None

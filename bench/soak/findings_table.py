"""Findings as rows: lines for a terminal as they come, and Markdown tables for docs/robustness.md (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.soak.bounds import MIB, ProcessRow, ServerCounts, Size
from bench.soak.faults import FaultFinding
from bench.soak.scenario import LoadFinding

SoakFinding = LoadFinding | FaultFinding

LOAD_HEAD = (
    "load", "transport", "way", "connections", "process", "MiB before, most, after, again", "descriptors likewise",
    "answers", "keys", "settled s", "SIGTERM s",
)  # fmt: skip
FAULT_HEAD = ("transport", "process", "fault", "complete", "tokens lost", "drops", "keys", "SIGTERM s")
_LOAD_WIDTHS = (6, 9, 6, 11, 7, 30, 27, 7, 9, 9, 9)
_FAULT_WIDTHS = (9, 19, 7, 8, 11, 5, 9, 24)


def finding_lines(finding: SoakFinding) -> list[str]:
    """A line for each process (or one for a fault), then one for each broken bound."""
    widths = _LOAD_WIDTHS if isinstance(finding, LoadFinding) else _FAULT_WIDTHS
    return [*(_line(row, widths) for row in _rows(finding)), *(f"  broken: {reason}" for reason in finding.broken)]


def head(finding: SoakFinding) -> str:
    """The line above the first of its kind."""
    is_load = isinstance(finding, LoadFinding)
    return _line(LOAD_HEAD, _LOAD_WIDTHS) if is_load else _line(FAULT_HEAD, _FAULT_WIDTHS)


def findings_markdown(findings: Sequence[SoakFinding]) -> str:
    """Both tables, and below them a line for each broken bound."""
    parts = []
    for kind, columns in ((LoadFinding, LOAD_HEAD), (FaultFinding, FAULT_HEAD)):
        if some := [finding for finding in findings if isinstance(finding, kind)]:
            rows = [row for finding in some for row in _rows(finding)]
            parts.append("\n".join([_cells(columns), _cells(["---"] * len(columns)), *map(_cells, rows)]))
    broken = [f"- {title(finding)}: {reason}" for finding in findings for reason in finding.broken]
    parts.append("\n".join(["Broken bounds:", "", *broken]) if broken else "No bound was broken.")
    return "\n\n".join(parts) + "\n"


def title(finding: SoakFinding) -> str:
    """Which one it is, in words."""
    if isinstance(finding, LoadFinding):
        return f"{finding.scenario}, {finding.transport}, {finding.way}"
    return f"{finding.fault.how}, {finding.fault.transport}, {_struck(finding)}"


def _rows(finding: SoakFinding) -> list[tuple[str, ...]]:
    if isinstance(finding, FaultFinding):
        return [_fault_row(finding)]
    first = (finding.scenario, finding.transport, finding.way, f"{finding.connections:,}")
    return [(*first, *_process_cells(row, finding)) for row in finding.processes] or [(*first, *["–"] * 7)]


def _process_cells(row: ProcessRow, finding: LoadFinding) -> tuple[str, ...]:
    sizes = [size for size in (row.before, row.most, row.after, row.again) if size]
    is_server = row.role == "server"
    return (
        row.role,
        _course([f"{size.memory_bytes / MIB:.0f}" for size in sizes]),
        _course([_descriptors(size) for size in sizes]),
        str(finding.after.streams_active) if is_server else "",
        _keys(finding.after) if is_server else "",
        f"{finding.settle_s:.1f}" if is_server else "",
        _seconds(row.end_s),
    )


def _fault_row(finding: FaultFinding) -> tuple[str, ...]:
    fault = finding.fault
    ends = ", ".join(f"{role} {_seconds(seconds)}" for role, seconds in finding.end_s.items())
    complete = f"{finding.complete}/{finding.messages}"
    counted = (complete, str(finding.tokens_lost), str(finding.drops))
    return (fault.transport, _struck(finding), fault.how, *counted, _keys(finding.after), ends)


def _struck(finding: FaultFinding) -> str:
    fault = finding.fault
    return f"{fault.role}, Redis lives" if fault.shared_redis and fault.role != "redis" else fault.role


def _keys(counts: ServerCounts | None) -> str:
    if counts is None:
        return "–"
    return f"{counts.keys}, {counts.keys_for_ever} for ever" if counts.keys_for_ever else str(counts.keys)


def _descriptors(size: Size) -> str:
    return f"{size.descriptors:,}"


def _course(values: Sequence[str]) -> str:
    return " → ".join(values)


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return "never" if math.isinf(value) else f"{value:.1f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

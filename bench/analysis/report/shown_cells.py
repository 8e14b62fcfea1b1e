"""Which cells a picture shows."""

from __future__ import annotations

from bench.analysis.findings.failures import is_complete
from bench.analysis.measures.groups import MeasuredCell, Measurements

MAX_ROWS = 12  # more in one picture cannot be taken in


def charted(measured: Measurements) -> list[MeasuredCell]:
    """Of the group with most valid cells, the plain one first, at most MAX_ROWS."""
    groups: dict[tuple[str, ...], list[MeasuredCell]] = {}
    for cell in measured.cells:
        if cell.blocks:
            groups.setdefault(cell.key.group, []).append(cell)
    best = max(groups.values(), key=lambda cells: (cells[0].key.group == ("direct", "none"), len(cells)), default=[])
    return best[:MAX_ROWS]


def costed(measured: Measurements) -> list[MeasuredCell]:
    """Of these the complete ones: what is lost costs nothing, so who loses would look cheap."""
    return [cell for cell in charted(measured) if is_complete(cell)]

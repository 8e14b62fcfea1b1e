"""What the house has set itself, and whether a figure meets it."""

from __future__ import annotations

CLIENT_RATIOS = {"sse": 1.4, "chunked": 1.4, "websocket": 1.6}
SERVER_RATIOS = {"sse": 1.6, "chunked": 1.6, "websocket": 1.8, "polling": 3.0}  # polling: with its Redis
PROXY_RATIO = 1.3  # of the bare pump
PROXY_ADDED_MS_P99 = 2.0
ANALYSIS_S = 20.0
ANALYSIS_MIB = 2048.0
STREAMS = {"sse": 2500, "chunked": 2500, "websocket": 2000}


def at_most(value: float, goal: float | None) -> str:
    """The goal, and whether `value` meets it, for a rich console."""
    if goal is None:
        return ""
    return f"[green]≤ {goal:g} met[/]" if value <= goal else f"[red]≤ {goal:g} missed[/]"


def at_least(value: float, goal: float | None) -> str:
    """The same for a figure that cannot be too large."""
    if goal is None:
        return ""
    return f"[green]≥ {goal:g} met[/]" if value >= goal else f"[red]≥ {goal:g} missed[/]"

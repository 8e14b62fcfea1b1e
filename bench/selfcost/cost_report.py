"""What `make perf` prints, and the lines of results/perf.csv."""

from __future__ import annotations

import csv
import io
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from bench.console import Console
from bench.running.machine import git_commit
from bench.selfcost import goals
from bench.selfcost.analysis_cost import AnalysisCost
from bench.selfcost.proxy_cost import PROFILE, ProxyCost
from bench.selfcost.transport_cost import SteadyTraffic, TransportCost, medians
from clients.whole_file import replace_file
from servers.process import usable_cores
from servers.transport import TRANSPORTS

COLUMNS = ("commit", "machine", "transport", "role", "us_per_token", "floor_us_per_token", "ratio")


def print_transports(console: Console, costs: Mapping[str, TransportCost], traffic: SteadyTraffic) -> None:
    """The table of medians: CPU per token of both sides, as multiples of the floors, beside the goals; 80 columns."""
    title = f"{traffic.streams} streams × {traffic.tokens_per_s} tokens/s; CPU µs per token, medians"
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)
    for column in ("", "client", "× floor", "goal", "server", "× floor", "goal"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    client_floor = median(us for cost in costs.values() for us in cost.floor.client_us)
    server_floor = median(us for cost in costs.values() for us in cost.floor.server_us)
    table.add_row("floor", f"{client_floor:.1f}", "1.00", "", f"{server_floor:.1f}", "1.00", "")
    for name, cost in costs.items():
        table.add_row(
            TRANSPORTS[name].title,
            *_beside(cost.client_us, cost.floor.client_us, goals.CLIENT_RATIOS.get(name)),
            *_beside(cost.server_us, cost.floor.server_us, goals.SERVER_RATIOS.get(name)),
        )
    console.print(table, markup=True)
    for name, cost in costs.items():
        parts = medians(cost.server_parts)
        console.print(
            f"{TRANSPORTS[name].title} server: {parts.us_per_request:.0f} CPU µs per request, "
            f"{parts.us_per_token:.1f} for each further token"
        )
    for name, cost in costs.items():
        if alone_us := cost.decoding_us:
            ratio = median_ratio(alone_us, cost.floor.client_us)
            console.print(
                f"{TRANSPORTS[name].title} client: its parser, decoder and ledger alone take {median(alone_us):.1f}, "
                f"{ratio:.2f} × the floor"
            )
    for name, cost in costs.items():
        p50, p99 = np.percentile(cost.ttft_error_ms, [50, 99])
        console.print(
            f"{TRANSPORTS[name].title}: first tokens late by {p50:.2f} ms, {p99:.2f} at p99; "
            f"emit lag {median(cost.emit_lag_ms_p99):.2f} at p99"
        )


def missed(costs: Mapping[str, TransportCost], proxy: ProxyCost | None) -> list[tuple[str, str]]:
    """Role and transport of each ratio that is above its goal."""
    found: list[tuple[str, str]] = []
    for name, cost in costs.items():
        for role, us, floors_us, ratios in (
            ("client", cost.client_us, cost.floor.client_us, goals.CLIENT_RATIOS),
            ("server", cost.server_us, cost.floor.server_us, goals.SERVER_RATIOS),
        ):
            if name in ratios and median_ratio(us, floors_us) > ratios[name]:
                found.append((role, name))
    if proxy is not None and median_ratio(proxy.proxy_us, proxy.pump_us) > goals.PROXY_RATIO:
        found.append(("proxy", "sse"))
    return found


def _beside(us: Sequence[float], floors_us: Sequence[float], goal: float | None) -> tuple[str, str, str]:
    ratio = median_ratio(us, floors_us)
    return f"{median(us):.1f}", f"{ratio:.2f}", goals.at_most(ratio, goal)


def median_ratio(us: Sequence[float], floors_us: Sequence[float]) -> float:
    """The median of each figure over the floor that was measured beside it."""
    return median(figure / floor for figure, floor in zip(us, floors_us, strict=True))


def print_proxy(console: Console, cost: ProxyCost) -> None:
    """The proxy's HTTP path beside the bare pump, and what it adds to the delay."""
    us, ratio, verdict = _beside(cost.proxy_us, cost.pump_us, goals.PROXY_RATIO)
    direct, proxied = np.median(cost.direct_ms, axis=0), np.median(cost.proxied_ms, axis=0)
    added = proxied - direct
    console.print(
        f"proxy ({PROFILE}, following HTTP): {us} CPU µs per token, {ratio} × a bare pump's "
        f"{median(cost.pump_us):.1f} {verdict}; adds {added[0]:.2f} ms at the median, {added[1]:.2f} ms at p99 "
        f"{goals.at_most(added[1], goals.PROXY_ADDED_MS_P99)}",
        markup=True,
    )


def print_analysis(console: Console, cost: AnalysisCost) -> None:
    """The analysis' time and memory."""
    console.print(
        f"analysis of {cost.rows:,} token rows: {cost.seconds:.1f} s {goals.at_most(cost.seconds, goals.ANALYSIS_S)}, "
        f"{cost.peak_mib:.0f} MiB {goals.at_most(cost.peak_mib, goals.ANALYSIS_MIB)}",
        markup=True,
    )


def append_csv(path: Path, costs: Mapping[str, TransportCost], proxy: ProxyCost | None) -> None:
    """Add this run's medians to `path`, all or none, under the header if there is none yet. Raises OSError."""
    figures: list[tuple[str, str, list[float], list[float]]] = []
    for name, cost in costs.items():
        figures.append((name, "client", cost.client_us, cost.floor.client_us))
        figures.append((name, "server", cost.server_us, cost.floor.server_us))
    if proxy is not None:
        figures.append(("sse", "proxy", proxy.proxy_us, proxy.pump_us))
    commit = git_commit() or ""  # before the file changes
    machine = f"{platform.machine()} {len(usable_cores())} cores {platform.system()}"
    path.parent.mkdir(exist_ok=True)
    before = path.read_bytes() if path.exists() else b""
    rows = io.StringIO(newline="")
    writer = csv.writer(rows, lineterminator="\n")
    if not before:
        writer.writerow(COLUMNS)
    for name, role, values, floors in figures:
        costs_of_role = median(values), median(floors), median_ratio(values, floors)
        writer.writerow([commit, machine, name, role, *(f"{cost:.2f}" for cost in costs_of_role)])
    replace_file(path, before + rows.getvalue().encode())

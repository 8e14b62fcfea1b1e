"""The command behind `make perf`: measures in turn (A B C, A B C), prints medians beside the goals, records if told."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from bench.option_types import Names
from bench.running.machine import pinning
from bench.selfcost import cost_report, goals
from bench.selfcost.analysis_cost import measure_analysis
from bench.selfcost.hottest_functions import hottest_functions, shares
from bench.selfcost.proxy_cost import ProxyCost, measure_proxy
from bench.selfcost.stream_capacity import (
    LIMIT_MS,
    SECONDS_PER_TRANSPORT,
    TOKENS_PER_S,
    Try,
    find_capacity,
    measure_delay_ms,
)
from bench.selfcost.transport_cost import SteadyTraffic, TransportCost, measure_transport
from servers.arguments import HELP, Command, Seconds
from servers.transport import STREAMING

RESULTS = Path("results/perf.csv")
_STARTS_S = 2.5  # of the processes of one measurement, and what its answers take before their first token
_ANALYSIS_S = 30


@click.command(cls=Command, context_settings=HELP)
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 50), help="How often all is repeated.")
@click.option("--transports", type=Names(STREAMING), default=",".join(STREAMING), show_default=True, help="Only these.")
@click.option("--only-transports", is_flag=True, help="Leave out the proxy and the analysis.")
@click.option("--scale", is_flag=True, help="Also search how many streams each transport bears (about 4 minutes).")
@click.option("--record", is_flag=True, help=f"Append the medians to {RESULTS}; nothing is written without it.")
@click.option(
    "--profile",
    type=(click.Choice(["client", "server", "proxy"]), click.Choice(STREAMING)),
    metavar="ROLE TRANSPORT",
    help="Instead, print the hottest functions of client, server or proxy under this load (half a minute).",
)
@click.option("--streams", default=200, show_default=True, type=click.IntRange(1, 5000), help="Answers at once.")
@click.option("--seconds", default=5.0, show_default=True, type=Seconds(0.2, 60), help="Length of an answer.")
def perf(  # noqa: PLR0917 - click passes them by name
    rounds: int,
    transports: tuple[str, ...],
    only_transports: bool,
    scale: bool,
    record: bool,
    profile: tuple[str, str] | None,
    streams: int,
    seconds: float,
) -> None:
    """What the house itself costs, beside the floor measured in the same run. A benchmark, never a test.

    CPU per token of every client and server, each on a core of its own where there are two; per request and per token
    apart; the proxy beside a bare pump; the analysis of ten million token rows. A ratio above its goal is followed by
    a profile. Needs a quiet machine: nothing else may run. Whatever the figures, the exit code is 0.
    """
    console = Console()
    console.width = max(console.width, 80)
    traffic = SteadyTraffic(streams=streams, seconds=seconds)
    if record and traffic != SteadyTraffic():
        raise click.UsageError("--record keeps figures of the default --streams and --seconds only")
    if profile:
        click.echo(hottest_functions(*profile, traffic))
        return
    say_duration(console, traffic, rounds, transports, only_transports=only_transports, scale=scale)
    costs, proxy = measure(console, traffic, rounds, transports, with_proxy=not only_transports)
    cost_report.print_transports(console, costs, traffic)
    if proxy:
        cost_report.print_proxy(console, proxy)
        cost_report.print_analysis(console, measure_analysis())
    if record:
        cost_report.append_csv(RESULTS, costs, proxy)
        console.print(f"appended to {RESULTS}", style="dim")
    for role, name in cost_report.missed(costs, proxy):
        console.print(f"why the {role} of {name} is above its goal (share of its CPU, by cProfile):")
        click.echo("\n".join(shares(hottest_functions(role, name, traffic))))
    if scale:
        print_capacities(console, transports)


def say_duration(
    console: Console,
    traffic: SteadyTraffic,
    rounds: int,
    transports: tuple[str, ...],
    *,
    only_transports: bool,
    scale: bool,
) -> None:
    """How long it will take, and what it runs on."""
    one_s = traffic.seconds + _STARTS_S
    number = len(transports)
    expected_s = rounds * (3 * number + ("sse" in transports)) * one_s
    expected_s += 0 if only_transports else rounds * 3 * one_s + _ANALYSIS_S
    expected_s += (2 * number + 1) * one_s  # at most: a profile for each ratio above its goal
    expected_s += number * SECONDS_PER_TRANSPORT if scale else 0
    expected = f"{expected_s:.0f} s" if expected_s < 90 else f"{expected_s / 60:.0f} minutes"
    cores = pinning()
    where = (
        f"servers on core {cores['servers']}, load on {cores['load']}" if cores["load"] else "no cores to choose from"
    )
    console.print(f"takes about {expected}; {where}", style="dim", markup=False)


def measure(
    console: Console, traffic: SteadyTraffic, rounds: int, transports: tuple[str, ...], *, with_proxy: bool
) -> tuple[dict[str, TransportCost], ProxyCost | None]:
    """All rounds; each measures everything once."""
    costs: dict[str, TransportCost] = defaultdict(TransportCost)
    proxy = ProxyCost() if with_proxy else None
    for k in range(rounds):
        console.print(f"round {k + 1} of {rounds}", style="dim")
        for name in transports:
            measure_transport(name, costs[name], traffic, seed=k)
        if proxy:
            measure_proxy(proxy, traffic)
    return costs, proxy


def print_capacities(console: Console, transports: tuple[str, ...]) -> None:
    """Search each transport that pushes its tokens, and print every try."""
    console.print(f"streams × {TOKENS_PER_S} tokens/s whose p99 delay stays ≤ {LIMIT_MS:g} ms on two cores:")

    def say(name: str, tried: Try) -> None:
        console.print(f"  {name}: {tried.streams} streams, p99 {tried.delay_ms_p99:.1f} ms", style="dim")

    for name in (name for name in transports if name in goals.STREAMS):
        found = find_capacity(partial(measure_delay_ms, name), partial(say, name))
        console.print(f"{name}: {found} {goals.at_least(found, goals.STREAMS[name])}")

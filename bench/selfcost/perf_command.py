"""The command behind `make perf`: measures in turn (A B C, A B C), prints medians beside the goals, records if told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile

import click

from bench.console import Console
from bench.option_types import Names, typed_names
from bench.running.machine import pinning
from bench.selfcost import cost_report, goals
from bench.selfcost.analysis_cost import measure_analysis
from bench.selfcost.hottest_functions import hottest_functions, shares
from bench.selfcost.other_programs import OtherPrograms
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
from servers.process import usable_cores
from servers.transport import STREAMING
from servers.user_errors import UserError, reason

RESULTS = Path("results/perf.csv")
_STARTS_S = 2.5  # of the processes of one measurement, and what its answers take before their first token
_SHORT_S = 6.5  # five times as many short answers take five seconds to start
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
    if profile:
        refuse_beside_profile()
        console.print(hottest_functions(*profile, traffic), soft_wrap=True)
        return
    if record:
        check_record(traffic)
    parts = PerfParts(transports, only_transports=only_transports, scale=scale)
    say_duration(console, expected_perf_s(traffic, rounds, parts))
    costs, proxy = measure(console, traffic, rounds, transports, with_proxy=not only_transports)
    cost_report.print_transports(console, costs, traffic)
    if proxy:
        cost_report.print_proxy(console, proxy)
        cost_report.print_analysis(console, measure_analysis())
    if record:
        keep_medians(costs, proxy)
        console.print(f"appended to {RESULTS}", style="dim")
    for role, name in cost_report.missed(costs, proxy):
        console.print(f"why the {role} of {name} is above its goal (share of its CPU, by cProfile):")
        console.print("\n".join(shares(hottest_functions(role, name, traffic))), soft_wrap=True)
    if scale:
        print_capacities(console, transports)


def refuse_beside_profile() -> None:
    """Raise UsageError for what was typed beside --profile and means nothing to it."""
    for name in ("rounds", "transports", "only_transports", "scale", "record"):
        if name in typed_names():
            raise click.UsageError(f"--{name.replace('_', '-')} means nothing beside --profile")


def check_record(traffic: SteadyTraffic) -> None:
    """Before minutes of measuring: raise UsageError if the figures could not be kept."""
    if traffic != SteadyTraffic():
        raise click.UsageError("--record keeps figures of the default --streams and --seconds only")
    try:
        RESULTS.parent.mkdir(exist_ok=True)
        with TemporaryFile(dir=RESULTS.parent) as beside:
            beside.write(bytes(4096))
    except OSError as error:
        raise click.UsageError(f"--record: cannot write {RESULTS}: {reason(error)}") from error


def keep_medians(costs: Mapping[str, TransportCost], proxy: ProxyCost | None) -> None:
    """Append the medians to the table. Raises UserError."""
    try:
        cost_report.append_csv(RESULTS, costs, proxy)
    except OSError as error:
        raise UserError(f"cannot write {RESULTS}: {reason(error)}") from error


@dataclass(frozen=True)
class PerfParts:
    """What is measured."""

    transports: tuple[str, ...]
    only_transports: bool = False
    scale: bool = False


def expected_perf_s(traffic: SteadyTraffic, rounds: int, parts: PerfParts) -> float:
    """About how long it takes on a quiet machine, with a profile for each ratio that can be above its goal."""
    names = parts.transports
    steady_s = traffic.seconds + _STARTS_S
    measured_s = sum(3 * steady_s + _SHORT_S for _ in names)  # two floors and the long answers; the short ones
    measured_s += steady_s if "sse" in names else 0  # its decoder alone
    measured_s += 0 if parts.only_transports else 3 * steady_s
    with_goals = sum((name in goals.CLIENT_RATIOS) + (name in goals.SERVER_RATIOS) for name in names)
    after_s = with_goals * steady_s + (0 if parts.only_transports else _ANALYSIS_S + steady_s)
    searched = sum(name in goals.STREAMS for name in names) if parts.scale else 0
    return rounds * measured_s + after_s + searched * SECONDS_PER_TRANSPORT


def say_duration(console: Console, seconds: float) -> None:
    """How long it will take at most, and what it runs on."""
    expected = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"
    cores = pinning()
    if cores["load"]:
        where = f"servers on core {cores['servers']}, load on {cores['load']}"
    else:
        where = "no core can be chosen here" if len(usable_cores()) > 1 else "servers and load share one core"
    console.print(f"takes about {expected}; {where}", style="dim")


def measure(
    console: Console, traffic: SteadyTraffic, rounds: int, transports: tuple[str, ...], *, with_proxy: bool
) -> tuple[dict[str, TransportCost], ProxyCost | None]:
    """All rounds; each measures everything once."""
    costs: dict[str, TransportCost] = defaultdict(TransportCost)
    others = OtherPrograms()
    proxy = ProxyCost() if with_proxy else None
    for k in range(rounds):
        console.print(f"round {k + 1} of {rounds}", style="dim")
        for name in transports:
            measure_transport(name, costs[name], traffic, seed=k)
        if proxy:
            measure_proxy(proxy, traffic)
    if others.disturb:
        console.print(
            f"other programs took {others.ratio:.0%} of a core meanwhile: figures too high, ratios uncertain",
            style="red",
        )
    return costs, proxy


def print_capacities(console: Console, transports: tuple[str, ...]) -> None:
    """Search each transport that pushes its tokens, and print every try."""
    console.print(f"streams × {TOKENS_PER_S} tokens/s whose p99 delay stays ≤ {LIMIT_MS:g} ms:")

    def say(name: str, tried: Try) -> None:
        console.print(f"  {name}: {tried.streams} streams, p99 {tried.delay_ms_p99:.1f} ms", style="dim")

    for name in (name for name in transports if name in goals.STREAMS):
        found = find_capacity(partial(measure_delay_ms, name), partial(say, name))
        console.print(f"{name}: {found} {goals.at_least(found, goals.STREAMS[name])}", markup=True)

"""What `tokenderby calibrate` says: how far the harness itself can be wrong, and what no run here can tell apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.analysis.findings.noise import print_noise
from bench.analysis.measures import harness_error
from bench.analysis.measures.groups import measure
from bench.analysis.measures.harness_error import ClientError, HarnessError
from bench.analysis.measures.waterfall import STAGES, Waterfall
from bench.analysis.report import waterfall_chart
from bench.analysis.statistics.wording import count, counted, listed, number, with_unit
from bench.calibration import golden_clock, waterfalls
from bench.calibration.golden_clock import LEVELS
from bench.running.machine import machine_facts
from bench.selfcost.transport_cost import Floor, SteadyTraffic, measure_floors
from bench.store import RunFolder, utc_text
from servers.transport import TRANSPORTS

GOALS_MS = {50: (0.15, 2.0), 200: (math.inf, 5.0)}
"""By streams at once: p50 and p99 of the clients' error that a quiet machine of two cores keeps (docs/metrics.md)."""


def calibrate(folder: RunFolder, out: Path, console: Console) -> None:
    """Measure the clients' error and the floors, keep the first in `out`, and say it all.

    `folder` is the run of the plan `calibrate`. Raises OSError, UserError.
    """
    console.print("Setting the clients' stamps against an independent server's:")
    clients = tuple(_told(golden_clock.client_errors(), console))
    console.print("Following tokens from stage to stage …")
    falls = tuple(waterfalls.waterfalls())
    facts = machine_facts()
    cpu, cores = str(facts["cpu"]), int(str(facts["cores"]))
    found = HarnessError(measured=utc_text(), cpu=cpu, cores=cores, clients=clients, waterfalls=falls)
    path = harness_error.write_calibration(out, found)
    waterfall_chart.write_waterfalls(falls, out / "waterfall.svg")
    console.print("\nThe harness's own error", style="bold")
    print_errors(clients, console)
    console.print("\nWhere a token's delay comes from (ms, means)", style="bold")
    print_waterfalls(falls, console)
    console.print("\nThe noise floor", style="bold")
    print_noise(measure(folder), console)
    floor = Floor()
    measure_floors(floor, SteadyTraffic())
    console.print(f"a bare client: {floor.client_us[0]:.1f} CPU µs per token; server: {floor.server_us[0]:.1f}")
    console.print(f"Kept in {path}, and drawn in {out / 'waterfall.svg'}", soft_wrap=True)


def _told(found: Iterable[ClientError], console: Console) -> Iterator[ClientError]:
    for each in found:
        if each.streams == LEVELS[0]:
            console.print(f"  {TRANSPORTS[each.transport].title}")
        yield each


def print_errors(clients: Sequence[ClientError], console: Console) -> None:
    """A line per transport and level, then what it means."""
    table = Table("transport", "streams", "samples", "p50 ms", "p99 ms", "max ms", box=SIMPLE_HEAD)
    for each in clients:
        times = (number(value) for value in (each.p50_ms, each.p99_ms, each.max_ms))
        table.add_row(TRANSPORTS[each.transport].title, count(each.streams), count(each.samples), *times)
    console.print(table)
    console.print(sentence(clients))


def print_waterfalls(falls: Sequence[Waterfall], console: Console) -> None:
    """A line per transport: its stages, and their sum."""
    table = Table("transport", *STAGES, "in all", box=SIMPLE_HEAD)
    for each in falls:
        table.add_row(TRANSPORTS[each.transport].title, *map(number, (*each.mean_ms, each.whole_mean_ms)))
    console.print(table)


def sentence(clients: Sequence[ClientError]) -> str:
    """The answer in words."""
    worst = harness_error.worst(clients)
    where = f"{TRANSPORTS[worst.transport].title}, {count(worst.streams)} streams at once"
    text = f"99 % of a client's stamps come within {with_unit(worst.p99_ms, 'ms')} of the send (the worst: {where})."
    if missed := [f"{count(streams)} streams" for streams in LEVELS if not _is_within_goals(clients, streams)]:
        text += f" That is more than a quiet machine shows at {listed(missed)}: other programs are at work here."
    if early := sum(each.early for each in clients):
        text += f" {counted(early, 'stamp')} came before it: the clocks are not one, and no time here can be trusted."
    return text


def _is_within_goals(clients: Sequence[ClientError], streams: int) -> bool:
    goals = GOALS_MS.get(streams)
    at = [each for each in clients if each.streams == streams]
    return goals is None or all(each.p50_ms <= goals[0] and each.p99_ms <= goals[1] for each in at)

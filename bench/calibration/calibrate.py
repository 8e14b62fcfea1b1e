"""What `tokenderby calibrate` says: how far the harness itself can be wrong, and what no run here can tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.analysis import harness_error, waterfall_chart
from bench.analysis.groups import measure
from bench.analysis.harness_error import ClientError, HarnessError
from bench.analysis.noise import print_noise
from bench.analysis.waterfall import STAGES, Waterfall
from bench.analysis.wording import count, number, with_unit
from bench.calibration import golden_clock, waterfalls
from bench.running.machine import machine_facts
from bench.selfcost.transport_cost import Floor, Traffic, measure_floors
from bench.store import RunFolder, utc_text
from servers.transport import TRANSPORTS


def calibrate(folder: RunFolder, out: Path, console: Console) -> None:
    """Measure the clients' error and the floors, keep the first in `out`, and say it all.

    `folder` is the run of the plan `calibrate`. Raises OSError, UserError.
    """
    console.print("Setting the clients' stamps against an independent server's …")
    clients = tuple(golden_clock.errors())
    console.print("Following tokens from stage to stage …")
    falls = tuple(waterfalls.waterfalls())
    facts = machine_facts()
    cpu, cores = str(facts["cpu"]), int(str(facts["cores"]))
    found = HarnessError(measured=utc_text(), cpu=cpu, cores=cores, clients=clients, waterfalls=falls)
    path = harness_error.write(out, found)
    waterfall_chart.write(falls, out / "waterfall.svg")
    console.print("\nThe harness's own error", style="bold")
    print_errors(clients, console)
    console.print("\nWhere a token's delay comes from (ms, means)", style="bold")
    print_waterfalls(falls, console)
    console.print("\nThe noise floor", style="bold")
    print_noise(measure(folder), console)
    floor = Floor()
    measure_floors(floor, Traffic())
    console.print(f"a bare client: {floor.client_us[0]:.1f} CPU µs per token; server: {floor.server_us[0]:.1f}")
    console.print(f"Kept in {path}, and drawn in {out / 'waterfall.svg'}", soft_wrap=True)


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
    text = f"A client's stamp comes at most {with_unit(worst.p99_ms, 'ms')} after its token was sent (p99, {where})."
    if early := sum(each.early for each in clients):
        text += f" {count(early)} stamps came before it: the clocks are not one, and no time here can be trusted."
    return text

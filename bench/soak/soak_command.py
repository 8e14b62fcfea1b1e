"""The command behind `make soak`: which load and which faults, in which order, what is printed, and the exit code."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path

import click
import psutil

from bench.option_types import Names, named_profile, writable
from bench.running.machine import git_commit, machine_facts
from bench.running.progress import clock_text
from bench.soak import findings_table
from bench.soak.aborts import StartAndAbort
from bench.soak.bad_requests import BadRequests
from bench.soak.faults import EXPECTED_S, MESSAGES, QUICK_MESSAGES, Fault, faults_of, strike
from bench.soak.findings_table import SoakFinding
from bench.soak.idle_connections import IdleConnections
from bench.soak.scenario import Scenario, soak_one
from bench.soak.silent_readers import SilentReaders
from servers.arguments import HELP, Command
from servers.process import allow_many_files, run
from servers.transport import TRANSPORTS

HELD, BROKEN, INTERRUPTED = 0, 1, 130
FAULTS = "faults"
SCENARIOS: dict[str, Scenario] = {
    kind.name: kind() for kind in (IdleConnections, StartAndAbort, BadRequests, SilentReaders)
}
_RESERVED_DESCRIPTORS = 250  # of a process, beside its connections
_QUICK_S = 15.0  # a scenario on all servers at once in a quick soak

Case = Callable[[], Awaitable[SoakFinding]]


@dataclass(frozen=True)
class SoakStep:
    """Cases that are taken together: the tracks side by side, those of a track one after the other."""

    title: str
    tracks: list[list[Case]]
    expected_s: float


@dataclass
class Soak:
    """The steps, and what has been found so far."""

    steps: list[SoakStep]
    findings: list[SoakFinding] = field(default_factory=list)
    _said: set[type[SoakFinding]] = field(default_factory=set)

    async def take(self) -> None:
        """Take every step."""
        begun_s = time.monotonic()
        for number, step in enumerate(self.steps, 1):
            left_s = sum(later.expected_s for later in self.steps[number - 1 :])
            spent = clock_text(time.monotonic() - begun_s)
            click.echo(f"[{number}/{len(self.steps)}] {step.title} ({spent} gone, about {clock_text(left_s)} left)")
            async with asyncio.TaskGroup() as group:
                for track in step.tracks:
                    group.create_task(self._take_track(track))

    async def _take_track(self, track: list[Case]) -> None:
        for case in track:
            finding = await case()
            self.findings.append(finding)
            if type(finding) not in self._said:
                self._said.add(type(finding))
                click.echo(findings_table.head(finding))
            for line in findings_table.finding_lines(finding):
                click.echo(line)


@click.command(cls=Command, context_settings=HELP)
@click.option(
    "--transport", "transports", type=Names(list(TRANSPORTS)), default=",".join(TRANSPORTS), help="All if not given."
)
@click.option(
    "--scenario",
    "scenarios",
    type=Names([*SCENARIOS, FAULTS]),
    default=",".join([*SCENARIOS, FAULTS]),
    help="All if not given.",
)
@click.option("--quick", is_flag=True, help="A few hundred connections a scenario: under two minutes.")
@click.option("--connections", type=click.IntRange(1), help="At most so many a scenario.")
@click.option("--profile", default="aws-alb", show_default=True, help="What the proxy stands for.")
@click.option(
    "--way",
    "ways",
    type=Names(["direct", "proxy"]),
    default="direct,proxy",
    show_default=True,
    help="How clients get there.",
)
@click.option(
    "--markdown",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=writable,
    help="Also write the tables to this file.",
)
def soak(  # noqa: PLR0917 - click passes them by name
    transports: tuple[str, ...],
    scenarios: tuple[str, ...],
    quick: bool,
    connections: int | None,
    profile: str,
    ways: tuple[str, ...],
    markdown: Path | None,
) -> None:
    """Load and faults on every server, directly and through the proxy, on this machine's loopback only.

    Scenarios: idle (10,000 connections), abort (10,000 questions whose users leave), bad (10,000 wrong requests),
    silent (300 users who read nothing), faults (kill -9 and STOP of each process). Exit code 1 if a bound is broken.
    """
    named_profile(profile)  # while a wrong one can still be said
    for name in [name for name in os.environ if name.startswith("TOKENDERBY_")]:
        del os.environ[name]  # a user's settings are not what is soaked
    allow_many_files()
    wanted = Wanted(transports, ways, profile, connections, is_quick=quick)
    soaking = Soak([step for name in scenarios for step in steps_of(name, wanted)])
    expected_s = sum(step.expected_s for step in soaking.steps)
    click.echo(f"takes about {clock_text(expected_s)} (minutes:seconds) on a quiet machine; Ctrl-C keeps what is done")
    sys.exit(finish(soaking, markdown))


def finish(soaking: Soak, file: Path | None) -> int:
    """Take the steps, say what was broken, write the tables to `file`; the exit code."""
    code = HELD
    try:
        run(soaking.take())
    except KeyboardInterrupt:
        click.echo("interrupted: what follows is what was finished")
        code = INTERRUPTED
    broken = [finding for finding in soaking.findings if finding.broken]
    for finding in broken:
        for reason in finding.broken:
            click.echo(f"BROKEN {findings_table.title(finding)}: {reason}")
    click.echo(f"{len(soaking.findings)} finished, {len(broken)} of them broke a bound")
    if file is not None:
        file.write_text(f"{_where()}\n\n{findings_table.findings_markdown(soaking.findings)}", encoding="utf-8")
    return code or (BROKEN if broken else HELD)


def _where() -> str:
    facts = machine_facts()
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"Commit {git_commit()}, {facts['system']}, {facts['cores']} cores, {memory_gib:.0f} GiB."


@dataclass(frozen=True)
class Wanted:
    """What the user asked for."""

    transports: tuple[str, ...]
    ways: tuple[str, ...]
    profile: str
    connections: int | None
    is_quick: bool


def steps_of(name: str, wanted: Wanted) -> list[SoakStep]:
    """The steps of one scenario, or of the faults."""
    if name == FAULTS:
        return [_fault_step(wanted)]
    scenario = SCENARIOS[name]
    expected_s = _QUICK_S if wanted.is_quick else scenario.expected_s
    cases = [(transport, way) for transport in wanted.transports for way in wanted.ways]
    titled = [(f"{name}, {transport}, {way}", _load_case(scenario, transport, way, wanted)) for transport, way in cases]
    if scenario.side_by_side or wanted.is_quick:
        return [SoakStep(f"{name}, all at once", [[case] for _, case in titled], expected_s)]
    return [SoakStep(title, [[case]], expected_s) for title, case in titled]


def _load_case(scenario: Scenario, transport: str, way: str, wanted: Wanted) -> Case:
    full = scenario.quick if wanted.is_quick else scenario.connections
    asked = min(full, wanted.connections or full)
    possible = most_connections(proxied=way == "proxy") if scenario.needs_descriptors else asked
    if possible < asked:
        click.echo(
            f"{scenario.name}, {transport}, {way}: {possible:,} of {asked:,} connections, as many as files allow"
        )
    profile = wanted.profile if way == "proxy" else None
    return partial(soak_one, scenario, transport, profile, min(asked, possible), is_quick=wanted.is_quick)


def most_connections(*, proxied: bool) -> int:
    """How many connections the system's limit of open files allows; the proxy has two descriptors for each."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(1, (limit - _RESERVED_DESCRIPTORS) // (2 if proxied else 1))


def _fault_step(wanted: Wanted) -> SoakStep:
    messages = QUICK_MESSAGES if wanted.is_quick else MESSAGES
    messages = min(messages, wanted.connections or messages)
    faults = [fault for transport in wanted.transports for fault in faults_of(transport)]
    tracks = [list(track) for _, track in groupby(faults, key=lambda fault: (fault.transport, fault.shared_redis))]

    def case(fault: Fault) -> Case:
        return partial(strike, fault, wanted.profile, messages)

    expected_s = max(map(len, tracks)) * EXPECTED_S
    return SoakStep(
        "faults, all transports at once", [[case(fault) for fault in track] for track in tracks], expected_s
    )

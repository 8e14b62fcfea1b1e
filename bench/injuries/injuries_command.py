"""The command `python -m bench.injuries`: each injury so many times, a table, and the exit code."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from bench.injuries.injury import INJURIES, UNHURT, Injury
from bench.injuries.struck_run import is_caught, needs_redis, struck_run
from bench.option_types import writable
from bench.run_record import CellRecord
from bench.running.machine import git_commit, machine_facts
from servers.arguments import HELP, Command
from servers.redis_server import find_executable

CAUGHT, MISSED = 0, 1
SECONDS_EACH = 4.5  # about, for one run on two quiet cores: servers and load begin and end


@dataclass
class InjuryCount:
    """How one injury's runs ended: the first words of all reasons, with the number of runs that gave them."""

    injury: Injury
    times: int = 0
    void: int = 0
    caught: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def note(self, record: CellRecord) -> None:
        """One more run."""
        self.times += 1
        self.void += record.status != "ok"
        self.caught += is_caught(self.injury, record)
        self.reasons.update({reason.partition(":")[0] for reason in record.reasons})

    @property
    def missed(self) -> int:
        """Runs that were not void for the reasons that they should have been; of nothing, nothing is missed."""
        return self.times - self.caught if self.injury.reasons else 0

    def row(self) -> str:
        """A row of the table in Markdown."""
        caught = f"{self.caught} of {self.times}" if self.injury.reasons else "–"
        most = sorted(self.reasons.items(), key=lambda reason: (-reason[1], reason[0]))
        reasons = "; ".join(f"{reason} ({count})" for reason, count in most) or "–"
        return f"| {self.injury.name} | {caught} | {self.void} of {self.times} | {reasons} |"


_HEAD = "| injury | void for the right reason | void | all reasons (runs) |\n|---|---|---|---|"


@click.command(cls=Command, context_settings=HELP)
@click.option("--times", type=click.IntRange(1, 1000), default=3, show_default=True, help="How often each.")
@click.option("--only", default="", metavar="WORDS", help="Only injuries whose name has these words.")
@click.option(
    "--markdown",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=writable,
    help="Also write the table to this file.",
)
def injuries(times: int, only: str, markdown: Path | None) -> None:
    """Disturb runs of plan quick on purpose, and count how many are found void for it.

    A stall of the load process, a slow model, a program on a core of the run's, each part stopped; and nothing at all,
    which should leave the cell valid where the machine is otherwise idle. Exit code 1 if one was missed.
    """
    chosen = [injury for injury in (UNHURT, *INJURIES) if only in injury.name and _possible(injury)]
    if not chosen:
        raise click.BadParameter(f"no injury has {only!r} in its name", param_hint="'--only'")
    click.echo(f"takes about {times * len(chosen) * SECONDS_EACH / 60:.0f} minutes")
    click.echo(_HEAD)
    counts = [_counted(injury, times) for injury in chosen]
    if markdown is not None:
        markdown.write_text(table(counts), encoding="utf-8")
    missed = sum(count.missed for count in counts)
    click.echo(f"{missed} missed")
    sys.exit(MISSED if missed else CAUGHT)


def _possible(injury: Injury) -> bool:
    if needs_redis(injury) and find_executable() is None:
        click.echo(f"left out, since there is no Redis here: {injury.name}")
        return False
    return True


def _counted(injury: Injury, times: int) -> InjuryCount:
    count = InjuryCount(injury)
    for _ in range(times):
        with TemporaryDirectory(prefix="tokenderby-injuries-") as folder:
            count.note(asyncio.run(struck_run(injury, Path(folder))))
    click.echo(count.row())
    return count


def table(counts: Sequence[InjuryCount]) -> str:
    """The table in Markdown, under where it was made."""
    machine = machine_facts()
    where = f"Commit {git_commit()}, {machine['system']}, {machine['cores']} cores."
    return "\n".join([where, "", _HEAD, *(count.row() for count in counts)]) + "\n"

"""The command `decide`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench import option_types
from bench.export.exports import Exports, export_options
from servers.arguments import HELP, Number, Seconds
from servers.user_errors import reason

if TYPE_CHECKING:
    from bench.proxy.profile import Profile

PROFILES = "decide"
"""The folder, inside that of the runs, for profiles that were changed for a decision."""


@click.command(context_settings=HELP)
@click.argument("profile")
@click.option(
    "--slo",
    multiple=True,
    callback=option_types.limits_option,
    metavar="KEY=VALUE",
    help="A limit that the choice has to keep, as ttft_ms_p95=900.",
)
@click.option(
    "--trace",
    type=click.Path(),
    metavar="FILE",
    help="Requests and answers as yours really come.",
)
@click.option(
    "--silence",
    "silence_s",
    type=Seconds(min=0, max=600),
    default=20.0,
    show_default=True,
    metavar="S",
    help="The model's longest silence in an answer.",
)
@click.option(
    "--think",
    "think_s",
    type=Seconds(min=0, max=3600),
    default=90.0,
    show_default=True,
    metavar="S",
    help="How long users think between messages.",
)
@click.option(
    "--rtt",
    "rtt_ms",
    type=Number(min=0, max=10_000),
    default=0.0,
    show_default=True,
    metavar="MS",
    help="Round trip between users and the intermediary.",
)
@click.option(
    "--time-scale", type=Number(min=1, max=1000), help="Divide every time; by default a cell takes 30 s at most."
)
@click.option("--out", default="results", show_default=True, metavar="DIR", help="Where the run's folder is made.")
@export_options()
def decide(  # noqa: PLR0917 - click passes them by name
    profile: str,
    slo: dict[str, Any] | None,
    trace: str | None,
    silence_s: float,
    think_s: float,
    rtt_ms: float,
    time_scale: float | None,
    out: str,
    exports: Exports,
) -> int:
    """Say which transport to take behind PROFILE, with which heartbeat and recovery, and why.

    PROFILE is a name (see `tokenderby profiles`), or a TOML file such as `tokenderby probe` writes. Every way that may
    work is run behind it in a few minutes: with conversations of typical answers, with a model that falls silent, and
    with your own trace, if you give one. Prints one recommendation, the runner-up and what would change the choice;
    the run's report has the evidence. What is weighed, in which order: docs/decide.md.

    \b
    Examples:
      tokenderby decide aws-alb
      tokenderby decide profile.toml --silence 60 --think 300 --slo ttft_ms_p95=900
      tokenderby decide mobile-nat --rtt 80 --trace BurstGPT_1.csv

    Exit code: 0 done, 1 nothing brings every message or keeps every limit, 2 the words are wrong, 130 interrupted.
    """
    from bench.decide import matrix
    from bench.proxy.profile import load_profile
    from bench.run_to_report import begin, run_and_report
    from bench.running.runner import RunOptions
    from bench.table_checks import PlanError, as_option

    traffic = matrix.ExpectedTraffic(silence_s, think_s, trace)
    found = load_profile(profile)
    named = _with_round_trip(found, rtt_ms, out) if rtt_ms else profile
    scale = time_scale or matrix.fitting_time_scale(traffic)
    try:
        plan = matrix.matrix(named, matrix.heartbeat_s(found), traffic, slo or {}, scale)
    except PlanError as error:
        raise as_option(error, {"trace": "--trace", "goodput_ratio": "--slo goodput_ratio"}) from None
    folder = begin(plan, out)
    with folder.lock():
        return run_and_report(plan, folder, RunOptions(), exports)


def _with_round_trip(profile: Profile, rtt_ms: float, out: str) -> str:
    """A file beside the runs, with that profile behind a network of so long a round trip."""
    from bench.decide.matrix import farther
    from bench.proxy.profile_toml import profile_toml

    folder = Path(out) / PROFILES
    file = folder / f"{profile.name[:48]}-rtt{rtt_ms:g}ms.toml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(profile_toml(farther(profile, rtt_ms)), encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"--out {out}: takes a folder that can be written to ({reason(error)})") from None
    return str(file.resolve())

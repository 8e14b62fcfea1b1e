"""The command `tokenderby`. Heavy imports are inside the commands, so that `--help` is quick."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from rich.console import Console

    from bench.plan import Plan
    from bench.running.runner import Options
    from bench.store import Run, RunFolder

DONE, FAILED, WRONG_WORDS, INTERRUPTED = 0, 1, 2, 130

_RUN_HELP = """Run PLAN (a name, see `tokenderby plans`, or a TOML file), then write and print its report.

\b
Examples:
  tokenderby run                             the race, under 3 minutes
  tokenderby run article                     30-second answers, claim by claim
  tokenderby run timeouts                    who survives which load balancer, in under 4 minutes
  tokenderby run quick --transports sse,websocket --blocks 10
  tokenderby run my.toml --out /data/runs    a plan of your own
  tokenderby run quick --target sse=http://10.0.0.7:8001 --transports sse
  tokenderby run --resume results/latest     go on after Ctrl-C

Ctrl-C keeps the finished cells and reports them. Exit code: 0 done, 1 a cell failed, 2 the words or the plan are
wrong, 130 interrupted.
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tokenderby")
def cli() -> None:
    """Which way should a model's tokens travel to the user?

    The same simulated token stream over polling, WebSocket, chunked HTTP and Server-Sent Events, measured.

    \b
    Start here:
      tokenderby doctor        is this machine fit for it?
      tokenderby calibrate     what differences can it tell apart?
      tokenderby run           the race: a table, and an HTML report under results/
      tokenderby serve sse     one server, to look at with curl
    """


def _comma_list(_: click.Context, parameter: click.Parameter, value: str | None) -> list[str] | None:
    """Click callback: "a,b" as a list; None if the option was not given."""
    if value is None:
        return None
    words = [word.strip() for word in value.split(",")]
    if not all(words):
        raise click.BadParameter("takes words with commas between them", param=parameter)
    return words


def _targets(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Click callback: TRANSPORT=URL pairs as a table."""
    from servers.transport import TRANSPORTS

    targets = {}
    for value in values:
        transport, _equals, url = value.partition("=")
        if transport not in TRANSPORTS or not url.startswith(("http://", "https://")):
            form = f"takes TRANSPORT=URL, as sse=http://127.0.0.1:8001; transports: {', '.join(TRANSPORTS)}"
            raise click.BadParameter(f"{value!r}: {form}", param=parameter)
        targets[transport] = url
    return targets


@cli.command(help=_RUN_HELP)
@click.argument("plan", required=False, metavar="[PLAN]")
@click.option("--transports", callback=_comma_list, metavar="A,B", help="Only these transports.")
@click.option("--profiles", callback=_comma_list, metavar="A,B", help="Every cell behind each of these.")
@click.option("--recovery", "recoveries", callback=_comma_list, metavar="A,B", help="none, restart, resume.")
@click.option("--streams", type=int, metavar="N", help="Measured messages per cell and block.")
@click.option("--blocks", type=int, metavar="N", help="How many times each cell runs.")
@click.option("--seed", type=int, metavar="N", help="Another schedule of answers, arrivals and cells.")
@click.option("--time-scale", type=float, metavar="X", help="Divide the proxy's times, heartbeats and think times.")
@click.option(
    "--target", "targets", multiple=True, callback=_targets, metavar="TRANSPORT=URL", help="A running server."
)
@click.option(
    "--target-wait", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS", help="For targets that still start."
)
@click.option("--redis-url", metavar="URL", help="Redis for polling; without it one is found or started.")
@click.option("--out", default="results", show_default=True, metavar="DIR", help="Where the run's folder is made.")
@click.option("--resume", metavar="RUN", help="Go on with a run that did not finish, by its own plan.")
def run(  # noqa: PLR0917 - click passes them by name
    plan: str | None,
    targets: dict[str, str],
    target_wait: float,
    redis_url: str | None,
    out: str,
    resume: str | None,
    **changes: object,
) -> int:
    """Run a plan (the help text is `_RUN_HELP`)."""
    import asyncio

    from rich.console import Console

    from bench.running import runner

    given = [name for name, value in {"plan": plan, **changes}.items() if value is not None]
    if resume and given:
        raise click.UsageError(f"--resume goes on with the run's own plan; leave out {', '.join(given)}")
    asyncio.run(runner.check_targets(targets, target_wait))
    chosen, folder = _resumed(resume, out) if resume else _begun(plan or "quick", changes, out)
    return _carry_out(chosen, folder, runner.Options(targets, redis_url), Console())


def _carry_out(chosen: Plan, folder: RunFolder, options: Options, console: Console) -> int:
    """Run a plan into its folder and report; the exit code."""
    import asyncio

    from bench.running import runner
    from bench.running.progress import display

    todo = runner.remaining(folder.load().cells)
    console.print(f"plan {chosen.name}: {len(todo)} cells to run, into {folder.path}", highlight=False, soft_wrap=True)
    try:
        ended = asyncio.run(runner.carry_out(chosen, folder, options, display(console, todo, chosen.parallel)))
    except OSError as error:
        _fail(FAILED, f"cannot write to {folder.path}: {error.strerror}; go on with --resume {folder.path}")
    try:
        return _conclude(folder, ended, console)
    except OSError as error:
        _fail(FAILED, _unreported(folder, error))


def _begun(name: str, changes: dict[str, object], out: str) -> tuple[Plan, RunFolder]:
    from pathlib import Path

    from bench.plan import changed, read_plan, with_control
    from bench.running.runner import new_run

    plan = with_control(changed(read_plan(name), **changes))  # type: ignore[arg-type] # click has checked the types
    try:
        return plan, new_run(plan, Path(out))
    except OSError as error:
        raise click.UsageError(f"--out {out}: takes a folder that can be written to ({error.strerror})") from None


def _resumed(path: str, out: str) -> tuple[Plan, RunFolder]:
    from pathlib import Path

    from bench.running.runner import reopen_run
    from bench.store import StoreError

    try:
        return reopen_run(path, Path(out))
    except StoreError as error:
        raise click.UsageError(f"--resume {path}: {error}") from None


def _conclude(folder: RunFolder, run: Run, console: Console) -> int:
    """Report what is finished; the exit code."""
    from bench.store import link_latest

    failed = [cell for cell in run.cells if cell.status == "failed"]
    if any(cell.messages for cell in run.cells):
        folder.merge()
        _report(folder, console)
    else:
        console.print("No cell finished, so there is nothing to report.")
    for cell in failed:
        click.echo(f"tokenderby: failed: block {cell.block} {cell.cell}: {'; '.join(cell.reasons)}", err=True)
    if run.status == "interrupted":
        click.echo(f"tokenderby: interrupted; go on with: tokenderby run --resume {folder.path}", err=True)
        return INTERRUPTED
    if run.status == "complete":
        link_latest(folder)
    return FAILED if failed else DONE


def _unreported(folder: RunFolder, error: OSError) -> str:
    why = error.strerror or error  # pyarrow's have the one, without the other
    return f"cannot write the report into {folder.path}: {why}; its cells are kept: tokenderby report {folder.path}"


def _report(folder: RunFolder, console: Console) -> None:
    from bench.analysis.report import print_summary, write_report
    from bench.analysis.story import claims_in, print_claims

    summary = write_report(folder)
    print_summary(summary, console)
    if summary.run.plan.get("story"):
        print_claims(claims_in(summary.measured), console)
    console.print(f"Report: {folder.report_path}", highlight=False, soft_wrap=True)


def _elsewhere(name: str, module: str, attribute: str, summary: str) -> None:
    """Add a command that lives in another part, which is imported only when it is called."""

    def call(arguments: tuple[str, ...]) -> object:
        command: click.Command = getattr(import_module(module), attribute)
        return command.main(list(arguments), prog_name=f"tokenderby {name}", standalone_mode=False)

    words = click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)
    settings = {"ignore_unknown_options": True, "allow_interspersed_args": False}
    cli.add_command(
        click.Command(
            name, params=[words], callback=call, help=summary, add_help_option=False, context_settings=settings
        )
    )


_elsewhere("serve", "servers.__main__", "main", "Serve the simulated stream over one transport.")
_elsewhere("proxy", "bench.proxy.cli", "proxy", "Put an intermediary in front of a server.")
_elsewhere("profiles", "bench.proxy.cli", "profiles", "List the intermediaries that a proxy can be.")


@cli.command()
def plans() -> None:
    """List the plans that come with the project."""
    from bench.plan import plan_names, read_plan, with_control

    for name in plan_names():
        plan = with_control(read_plan(name))
        click.echo(f"{name:<14} {plan.description} ({plan.blocks} x {len(plan.cells)} cells)")


@cli.command()
def doctor() -> int:
    """Check whether this machine is fit to measure milliseconds. Exit code 1 if something is missing."""
    from bench.running.doctor import examine

    missing = False
    for check in examine():
        missing |= check.verdict == "missing"
        click.echo(f"{check.verdict:<8} {check.name:<16} {check.text}")
    return FAILED if missing else DONE


@cli.command()
@click.option("--out", default="results", show_default=True, metavar="DIR", help="Where the run's folder is made.")
def calibrate(out: str) -> int:
    """Measure the noise floor of this machine: two transports, each against itself (about two minutes).

    Prints by how much equal cells differ, and so which differences a run of this size can claim here; how late the
    harness itself is; and the least CPU that a bare client and a bare server spend on a token.
    """
    from rich.console import Console

    from bench.analysis.groups import measure
    from bench.analysis.noise import print_noise
    from bench.perf import Measured, measure_floors
    from bench.running.runner import Options

    console = Console()
    plan, folder = _begun("calibrate", {}, out)
    code = _carry_out(plan, folder, Options(), console)
    if code == DONE:
        console.print("The noise floor", style="bold")
        print_noise(measure(folder), console)
        floor = Measured()
        measure_floors(floor)
        console.print(f"a bare client: {floor.client_us[0]:.1f} CPU µs per token; server: {floor.server_us[0]:.1f}")
    return code


@cli.command()
@click.argument("run", default="results/latest")
def report(run: str) -> None:
    """Write and print the report of RUN (default: results/latest) again."""
    from rich.console import Console

    from bench.store import StoreError, open_run

    try:
        folder = open_run(run)
        folder.merge()
        _report(folder, Console())
    except StoreError as error:
        raise click.UsageError(f"RUN: {error}") from None
    except OSError as error:
        _fail(FAILED, _unreported(folder, error))


@cli.command()
@click.argument("run_a")
@click.argument("run_b")
@click.option("--force", is_flag=True, help="Compare even runs of other work or other machines.")
def compare(run_a: str, run_b: str, force: bool) -> int:
    """Say what became better or worse from RUN_A to RUN_B, with intervals. Exit code 1 on a regression."""
    from rich.console import Console

    from bench.analysis.compare import ComparisonError, print_comparison
    from bench.analysis.compare import compare as compared
    from bench.store import StoreError, open_run

    try:
        comparison = compared(open_run(run_a), open_run(run_b), force=force)
    except (ComparisonError, StoreError) as error:
        raise click.UsageError(str(error)) from None
    print_comparison(comparison, Console())
    return FAILED if comparison.regressed else DONE


def _fail(code: int, message: str) -> NoReturn:
    click.echo(f"tokenderby: {message}", err=True)
    sys.exit(code)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line (`arguments`, or the process's own); errors are one line, exit codes the contract's."""
    from bench.checks import PlanError

    try:
        code = cli.main(arguments, prog_name="tokenderby", standalone_mode=False)
    except click.ClickException as error:
        _fail(WRONG_WORDS, " ".join(error.format_message().split()))
    except PlanError as error:
        _fail(WRONG_WORDS, str(error))
    except (KeyboardInterrupt, click.Abort):
        _fail(INTERRUPTED, "interrupted")
    sys.exit(code or DONE)


if __name__ == "__main__":
    main()

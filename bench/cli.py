"""The command `tokenderby`. Heavy imports are inside the commands, so that `--help` is quick."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import click

from bench import option_types
from bench.elsewhere import Elsewhere
from bench.export.targets import Exports, export_options
from servers.arguments import HELP

if TYPE_CHECKING:
    from bench.console import Console
    from bench.plan import Plan
    from bench.running.runner import RunOptions
    from bench.store import Run, RunFolder
    from clients.core.tls import Trust

DONE, FAILED, INTERRUPTED = 0, 1, 130  # 2: what was given is wrong (servers/user_errors.py)
ENVIRONMENT = "TOKENDERBY"  # --streams of `run` is TOKENDERBY_RUN_STREAMS
_SETTINGS = HELP | {"max_content_width": 100}

option = partial(click.option, show_envvar=True)

_RUN_HELP = """Run a plan, then write and print its report.

PLAN is a name (see `tokenderby plans`), or a TOML file. Says first how long it will take. Ctrl-C keeps the
finished cells and reports them.

\b
Examples:
  tokenderby run                             the race, under 3 minutes
  tokenderby run article                     30-second answers, claim by claim
  tokenderby run timeouts                    who survives which load balancer, in under 4 minutes
  tokenderby run quick --transports sse,websocket --blocks 10
  tokenderby run my.toml --out /data/runs    a plan of your own
  tokenderby run quick --transports sse --target sse=http://10.0.0.7:8001
  tokenderby run --resume results/latest     go on with the newest run that did not finish
  tokenderby run --slo ttft_ms_p95=800 --junit slo.xml --markdown summary.md    a gate for a pipeline

Our servers take a bearer token from TOKENDERBY_AUTH_TOKEN; --target-token is for servers that run already.
Exit code: 0 done, 1 a cell failed, or got nothing through with nothing in between, or a limit of the
plan's [slo] is not met, 2 the words or the plan are wrong, 130 interrupted.
"""


@click.group(context_settings=_SETTINGS | {"auto_envvar_prefix": ENVIRONMENT}, invoke_without_command=True)
@click.version_option(package_name="tokenderby")
@click.pass_context
def cli(context: click.Context) -> None:
    """Which way should a model's tokens travel to the user?

    The same simulated token stream over polling, WebSocket, chunked HTTP and Server-Sent Events, measured.

    \b
    Start here:
      tokenderby doctor        is this machine fit for it?
      tokenderby calibrate     what differences can it tell apart?
      tokenderby run           the race: a table, and an HTML report under results/
      tokenderby serve sse     one server, to look at with curl

    Every option can be given by the environment; the help of each command names the variables.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


_out = option("--out", default="results", show_default=True, metavar="DIR", help="Where the run's folder is made.")
_limit = option(
    "--slo",
    multiple=True,
    callback=option_types.limits,
    metavar="KEY=VALUE",
    help="A limit, as [slo] of a plan has it.",
)


@cli.command(help=_RUN_HELP)
@click.argument("plan", required=False, metavar="[PLAN]", shell_complete=option_types.plan_words)
@option("--transports", callback=option_types.comma_list, metavar="A,B", help="Only these transports.")
@option("--profiles", callback=option_types.comma_list, metavar="A,B", help="Every cell behind each of these.")
@option(
    "--recovery",
    "recoveries",
    envvar=f"{ENVIRONMENT}_RUN_RECOVERY",
    callback=option_types.comma_list,
    metavar="A,B",
    help="none, restart, resume.",
)
@option("--streams", type=int, metavar="N", help="Measured messages per cell and block.")
@option("--blocks", type=int, metavar="N", help="How many times each cell runs.")
@option("--seed", type=int, metavar="N", help="Another schedule of answers, arrivals and cells.")
@option("--time-scale", type=float, metavar="X", help="Divide every time of the plan and the proxies.")
@option(
    "--target",
    "targets",
    envvar=f"{ENVIRONMENT}_RUN_TARGET",
    multiple=True,
    callback=option_types.targets,
    metavar="TRANSPORT=URL",
    help="A server that runs already; may be given for each transport.",
)
@option(
    "--target-token",
    envvar=f"{ENVIRONMENT}_TARGET_TOKEN",
    metavar="SECRET",
    help="The targets' bearer token; better by the environment, since others can read a command line.",
)
@option("--cafile", metavar="FILE", help="Trust these authorities (PEM) for https targets, not the system's.")
@option("--insecure", is_flag=True, help="Trust every certificate of an https target.")
@option("--target-wait", type=option_types.DAY, default=0.0, metavar="SECONDS", help="For targets that still start.")
@option(
    "--redis-url",
    envvar=f"{ENVIRONMENT}_REDIS_URL",
    type=option_types.REDIS_URL,
    metavar="URL",
    help="Redis for polling; without it one is found or started.",
)
@_limit
@_out
@option("--resume", metavar="RUN", help="Go on with a run that did not finish, by its own plan.")
@export_options()
def run(  # noqa: PLR0917 - click passes them by name
    plan: str | None,
    targets: dict[str, str],
    target_token: str | None,
    cafile: str | None,
    insecure: bool,
    target_wait: float,
    redis_url: str | None,
    out: str,
    resume: str | None,
    exports: Exports,
    **changes: object,
) -> int:
    """Run a plan (the help text is `_RUN_HELP`)."""
    import asyncio

    from bench.running import runner

    given = [name for name, value in {"plan": plan, **changes}.items() if value is not None]
    if resume and given:
        raise click.UsageError(f"--resume goes on with the run's own plan; leave out {', '.join(given)}")
    options = runner.RunOptions(targets, target_token or None, redis_url, _trust(cafile, insecure))
    asyncio.run(runner.check_targets(options, target_wait))
    if resume:
        return _resume(resume, out, options, exports)
    chosen, folder = _begun(plan or "quick", changes, out)
    with folder.lock():
        return _carry_out(chosen, folder, options, exports)


def _trust(cafile: str | None, insecure: bool) -> Trust:
    from clients.core.tls import Trust

    trust = Trust(cafile, insecure)
    trust.context  # noqa: B018  # read now, so that a wrong file is said before anything runs
    return trust


def _carry_out(chosen: Plan, folder: RunFolder, options: RunOptions, exports: Exports) -> int:
    """Run a plan into its folder and report; the exit code. The caller holds the folder's lock."""
    console = exports.console()
    return _conclude(folder, _run_cells(chosen, folder, options, console), console, exports)


def _run_cells(chosen: Plan, folder: RunFolder, options: RunOptions, console: Console) -> Run:
    """Run what is pending of a plan; how it ended."""
    import asyncio

    from bench.output import OutputLost
    from bench.running import runner
    from bench.running.expected import expected
    from bench.running.progress import display

    todo = runner.remaining(folder.load().cells)
    takes = f", {expected(chosen, todo).text()}" if todo else ""
    try:
        console.print(f"plan {chosen.name}: {len(todo)} cells to run{takes}, into {folder.path}", soft_wrap=True)
        return asyncio.run(runner.carry_out(chosen, folder, options, display(console, todo, chosen.parallel)))
    except OutputLost as error:
        _fail(FAILED, f"{error}; finished cells are kept, go on with: tokenderby run --resume {folder.path}")
    except OSError as error:
        _fail(FAILED, f"cannot write to {folder.path}: {error.strerror}; go on with --resume {folder.path}")


def _begun(name: str, changes: dict[str, object], out: str) -> tuple[Plan, RunFolder]:
    from pathlib import Path

    from bench.plan import changed, read_plan, with_control
    from bench.running.runner import new_run

    plan = with_control(changed(read_plan(name), **changes))  # type: ignore[arg-type] # click has checked the types
    try:
        return plan, new_run(plan, Path(out))
    except OSError as error:
        raise click.UsageError(f"--out {out}: takes a folder that can be written to ({error.strerror})") from None


def _resume(path: str, out: str, options: RunOptions, exports: Exports) -> int:
    """Go on with a run; the exit code."""
    from pathlib import Path

    from bench.running.runner import reopen_run
    from bench.store import StoreError, open_unfinished

    try:
        folder = open_unfinished(path, Path(out))
        with folder.lock():
            return _carry_out(reopen_run(folder), folder, options, exports)
    except StoreError as error:
        raise click.UsageError(f"--resume {path[:200]}: {error}") from None


def _conclude(folder: RunFolder, run: Run, console: Console, exports: Exports) -> int:
    """Report what is finished; the exit code."""
    found = _reported_faults(folder, run, console, exports)
    found += [
        f"failed: block {cell.block} {cell.cell}: {'; '.join(cell.reasons)}"
        for cell in run.cells
        if cell.status == "failed"
    ]
    for fault in found:
        _say(fault)
    if run.status == "interrupted":
        _say(f"interrupted; go on with: tokenderby run --resume {folder.path}")
        return INTERRUPTED
    return FAILED if found else DONE


def _reported_faults(folder: RunFolder, run: Run, console: Console, exports: Exports) -> list[str]:
    """Write and print the report; why that was not possible, what got nothing through, which limits are not met."""
    from bench.analysis.groups import measure
    from bench.analysis.slo import gates
    from bench.store import StoreError, link_latest

    try:
        if run.status == "complete":
            link_latest(folder)  # before the report: whatever becomes of that, the run is complete
        if any(cell.messages for cell in run.cells):
            folder.merge()
            return _report(folder, console, exports)
        console.print("No cell finished, so there is nothing to report.")
        measured = measure(folder)
        return exports.write_run(measured, gates(measured), folder.path)
    except (OSError, StoreError) as error:
        return [_no_report(folder, error)]


def _no_report(folder: RunFolder, error: Exception) -> str:
    why = getattr(error, "strerror", None) or error  # pyarrow's have the one, without the other
    return f"cannot write the report into {folder.path}: {why}; its cells are kept: tokenderby report {folder.path}"


def _report(
    folder: RunFolder, console: Console, exports: Exports, more_limits: dict[str, Any] | None = None
) -> list[str]:
    """Write and print the report; a line for each limit that is not met, and for each `direct` cell without success."""
    from bench.analysis.failures import faults
    from bench.analysis.report import print_summary, write_report
    from bench.analysis.story import claims_in, print_claims
    from bench.export.outcome import judge

    summary = write_report(folder)
    print_summary(summary, console)
    if summary.run.plan.get("story"):
        print_claims(claims_in(summary.measured), console)
    console.print(f"Report: {folder.report_path}", soft_wrap=True)
    return [*faults(summary.measured).values(), *judge(summary.measured, folder, console, exports, more_limits)]


def _elsewhere(name: str, place: str, summary: str) -> None:
    cli.add_command(Elsewhere(name, place, summary, ENVIRONMENT, _SETTINGS))


_elsewhere("serve", "servers.__main__:main", "Serve the simulated stream over one transport.")
_elsewhere("watch", "bench.watch.command:watch", "Watch all transports carry one answer, in a browser.")
_elsewhere("record", "bench.transcripts.commands:record", "Record a model's answers, with their times.")
_elsewhere("import", "bench.transcripts.commands:import_", "Make a recording of transcripts of providers' streams.")
_elsewhere("proxy", "bench.proxy.commands:proxy", "Put an intermediary in front of a server.")
_elsewhere("profiles", "bench.proxy.commands:profiles", "List the intermediaries that a proxy can be.")
_elsewhere("plans", "bench.plans_command:plans", "List the plans that come along, or print a plan's schema.")
_elsewhere("probe", "bench.probe.probe_command:probe", "Find out what a deployment's balancer does to streams.")
_elsewhere("compare", "bench.compare_command:compare", "Say what became better or worse between two runs.")


@cli.command()
def doctor() -> int:
    """Check whether this machine is fit to measure milliseconds. Exit code 1 if something is missing.

    \b
    Example:
      tokenderby doctor
    """
    from bench.running.doctor import examine

    missing = False
    for check in examine():
        missing |= check.verdict == "missing"
        click.echo(f"{check.verdict:<8} {check.name:<16} {check.text}")
    return FAILED if missing else DONE


@cli.command()
@_out
def calibrate(out: str) -> int:
    """Measure how far the harness itself can be wrong here.

    Takes under three minutes. Prints how late the clients' stamps are against a server that shares no code with ours,
    from 1 to 200 streams at once; by how much equal cells differ, and so which differences a run of this size can claim
    here; and the least CPU that a bare client and a bare server spend on a token. The first is kept as
    calibration.json, for the reports.

    \b
    Example:
      tokenderby calibrate --out /tmp/calibration
    """
    from pathlib import Path

    from bench.calibration.calibrate import calibrate as say_what_is_known
    from bench.running.runner import RunOptions

    exports = Exports()
    console = exports.console()
    plan, folder = _begun("calibrate", {}, out)
    with folder.lock():
        ended = _run_cells(plan, folder, RunOptions(), console)
        if ended.status != "complete":
            return _conclude(folder, ended, console, exports)
        try:
            folder.merge()
            say_what_is_known(folder, Path(out), console)
        except OSError as error:
            _fail(FAILED, f"cannot write to {out}: {error.strerror}")
    console.print(f"tokenderby report {folder.path} has the cells behind the noise floor.", soft_wrap=True)
    return DONE


@cli.command()
@click.argument("run", default="results/latest", type=click.Path())
@_limit
@export_options()
def report(run: str, slo: dict[str, Any] | None, exports: Exports) -> int:
    """Write and print the report of a run again.

    RUN is results/latest if none is named. What a killed run or a damaged disk has left is put right first, as far as
    it can be. Exit code 1 if a limit of the plan, or of --slo, is not met, or if a cell got nothing through with
    nothing in between.

    \b
    Examples:
      tokenderby report
      tokenderby report results/20261125T120000Z-quick
      tokenderby report --slo ttft_ms_p95=800 --slo completed_ratio=0.99 --json -
    """
    from bench.store import link_latest, open_run

    try:
        folder = open_run(run)
        with folder.lock():
            if folder.mend() and folder.load().status == "complete":
                link_latest(folder)
            folder.merge()
            faults = _report(folder, exports.console(), exports, slo)
    except OSError as error:
        _fail(FAILED, _no_report(folder, error))
    for fault in faults:
        _say(fault)
    return FAILED if faults else DONE


def _fail(code: int, message: str) -> NoReturn:
    _say(message)
    sys.exit(code)


def _say(message: str) -> None:
    with suppress(OSError):  # a standard error that is full or closed
        click.echo(f"tokenderby: {' '.join(message.split())}", err=True)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line (`arguments`, or the process's own); errors are one line (servers/user_errors.py)."""
    from bench.output import flush_output, write_any_text

    write_any_text()
    code = _run_command(arguments)
    lost = flush_output()
    if lost and not lost.reader_left and code == DONE:
        _say(str(lost))
    sys.exit(code or (FAILED if lost else DONE))


def _run_command(arguments: list[str] | None) -> int:
    """The exit code of a command line, its error said."""
    from bench.output import OutputLost
    from servers.user_errors import UserError

    try:
        return cli.main(arguments, prog_name="tokenderby", standalone_mode=False) or DONE
    except (UserError, click.ClickException) as error:
        if isinstance(error, OutputLost) and error.reader_left:
            return FAILED
        return _said(error.exit_code, error.format_message() if isinstance(error, click.ClickException) else str(error))
    except (KeyboardInterrupt, click.Abort):
        return _said(INTERRUPTED, "interrupted")
    except OSError as error:
        return _said(FAILED, f"{error.filename or 'standard output'}: {error.strerror or error}")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else _said(FAILED, ended.code or "ended")


def _said(code: int, message: str) -> int:
    _say(message)
    return code


if __name__ == "__main__":
    main()

"""The command `tokenderby`. Heavy imports are inside the commands, so that `--help` is quick."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import click

from bench import option_types
from bench.elsewhere import Elsewhere
from bench.environment import ENVIRONMENT, OwnCommand
from bench.export.exports import Exports, export_options
from bench.run_to_report import (
    DONE,
    FAILED,
    INTERRUPTED,
    begin,
    conclude,
    fail,
    go_on,
    no_report,
    planned,
    run_and_report,
    run_cells,
    say,
    write_and_print,
)
from servers.arguments import HELP, Number
from servers.user_errors import reason

if TYPE_CHECKING:
    from clients.core.tls import Trust

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
  tokenderby run quick --transports openai --target openai=https://HOST/v1 --model NAME
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


cli.command_class = OwnCommand


_out = option("--out", default="results", show_default=True, metavar="DIR", help="Where the run's folder is made.")
_limit = option(
    "--slo",
    multiple=True,
    callback=option_types.limits_option,
    metavar="KEY=VALUE",
    help="A limit, as [slo] of a plan has it.",
)


@cli.command(help=_RUN_HELP)
@click.argument("plan", required=False, metavar="[PLAN]", shell_complete=option_types.plan_words)
@option("--transports", callback=option_types.comma_list, metavar="A,B", help="Only these transports.")
@option("--clients", callback=option_types.comma_list, metavar="A,B", help="asyncio, browser: who asks.")
@option("--profiles", callback=option_types.comma_list, metavar="A,B", help="Every cell behind each of these.")
@option(
    "--recovery",
    "recoveries",
    envvar=f"{ENVIRONMENT}_RUN_RECOVERY",
    callback=option_types.comma_list,
    metavar="A,B",
    help="none, restart, resume, fallback.",
)
@option("--streams", type=int, metavar="N", help="Measured messages per cell and block.")
@option("--blocks", type=int, metavar="N", help="How many times each cell runs.")
@option("--seed", type=int, metavar="N", help="Another schedule of answers, arrivals and cells.")
@option(
    "--time-scale",
    type=Number(min=0.01, max=1000),
    metavar="X",
    help="Divide every time of the plan and the proxies.",
)
@option(
    "--target",
    "targets",
    envvar=f"{ENVIRONMENT}_RUN_TARGET",
    multiple=True,
    callback=option_types.targets_option,
    metavar="TRANSPORT=URL",
    help="A server that runs already; may be given for each transport. openai=URL: any OpenAI-compatible endpoint.",
)
@option(
    "--model",
    envvar=[f"{ENVIRONMENT}_RUN_MODEL", "OPENAI_MODEL"],
    metavar="NAME",
    help="What an OpenAI-compatible endpoint is asked for; its key is in OPENAI_API_KEY.",
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
    model: str | None,
    redis_url: str | None,
    out: str,
    resume: str | None,
    exports: Exports,
    **changes: object,
) -> int:
    """Run a plan (the help text is `_RUN_HELP`)."""
    import asyncio

    from bench.plan import beside
    from bench.running import runner
    from bench.running.idle_options import check_used

    typed = option_types.typed_names()
    given = [name for name, value in {"plan": plan, **changes}.items() if value is not None]
    given += ["model"] if "model" in typed else []
    if resume and given:
        raise click.UsageError(f"--resume goes on with the run's own plan; leave out {', '.join(given)}")
    options = runner.RunOptions(targets, target_token or None, redis_url, _trust(cafile, insecure))
    if resume:
        return go_on(resume, out, options, target_wait, exports)
    chosen = planned(plan or "quick", changes | {"model": model})
    options = runner.with_targets(options, chosen)
    chosen = beside(chosen, options.targets)
    check_used(typed, chosen, options.targets)
    asyncio.run(runner.check_services(options, chosen, target_wait))
    folder = begin(chosen, out, options.targets)
    with folder.lock():
        return run_and_report(chosen, folder, options, exports)


def _trust(cafile: str | None, insecure: bool) -> Trust:
    from clients.core.tls import Trust

    trust = Trust(cafile, insecure)
    trust.context  # noqa: B018  # read now, so that a wrong file is said before anything runs
    return trust


def _elsewhere(name: str, place: str, summary: str) -> None:
    cli.add_command(Elsewhere(name, place, summary, _SETTINGS))


_elsewhere("serve", "servers.__main__:main", "Serve the simulated stream over one transport.")
_elsewhere("watch", "bench.watch.watch_command:watch", "Watch all transports carry one answer, in a browser.")
_elsewhere("record", "bench.transcripts.recording_commands:record", "Record a model's answers, with their times.")
_elsewhere(
    "import", "bench.transcripts.recording_commands:import_", "Make a recording of transcripts of providers' streams."
)
_elsewhere("proxy", "bench.proxy.proxy_commands:proxy", "Put an intermediary in front of a server.")
_elsewhere("profiles", "bench.proxy.proxy_commands:profiles", "List the intermediaries that a proxy can be.")
_elsewhere("plans", "bench.plans_command:plans", "List the plans that come along, or print a plan's schema.")
_elsewhere("probe", "bench.probe.probe_command:probe", "Find out what a deployment's balancer does to streams.")
_elsewhere(
    "decide", "bench.decide.decide_command:decide", "Say which transport to take behind an intermediary, and why."
)
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
    plan = planned("calibrate")
    folder = begin(plan, out)
    with folder.lock():
        ended = run_cells(plan, folder, RunOptions(), console)
        if ended.status != "complete":
            return conclude(folder, ended, console, exports)
        try:
            folder.merge()
            say_what_is_known(folder, Path(out), console)
        except OSError as error:
            fail(FAILED, f"cannot write to {out}: {reason(error)}")
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
      tokenderby report results/reference
      tokenderby report --slo ttft_ms_p95=800 --slo completed_ratio=0.99 --json -
    """
    from bench.store import link_latest, open_run

    try:
        folder = open_run(run)
        with folder.lock():
            if folder.mend() and folder.load().status == "complete":
                link_latest(folder)
            folder.merge()
            faults = write_and_print(folder, exports.console(), exports, slo)
    except OSError as error:
        fail(FAILED, no_report(folder, error))
    for fault in faults:
        say(fault)
    return FAILED if faults else DONE


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line (`arguments`, or the process's own); errors are one line (servers/user_errors.py)."""
    import signal

    from bench.output import flush_output, write_any_text

    write_any_text()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what tidies up after Ctrl-C does so then too
    code = _run_command(arguments)
    lost = flush_output()
    if lost and not lost.reader_left and code == DONE:
        say(str(lost))
    sys.exit(code or (FAILED if lost else DONE))


def _run_command(arguments: list[str] | None) -> int:
    """The exit code of a command line, its error said."""
    from servers.user_errors import OutputLost, UserError

    try:
        return cli.main(arguments, prog_name="tokenderby", standalone_mode=False) or DONE
    except (UserError, click.ClickException) as error:
        if isinstance(error, OutputLost) and error.reader_left:
            return FAILED
        return _said(error.exit_code, error.format_message() if isinstance(error, click.ClickException) else str(error))
    except (KeyboardInterrupt, click.Abort):
        return _said(INTERRUPTED, "interrupted")
    except (OSError, MemoryError) as error:
        return _said(FAILED, _said_by_system(error))
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else _said(FAILED, ended.code or "ended")


def _said_by_system(error: OSError | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory; if the shell sets a limit, `ulimit -v` shows it"
    return f"{error.filename or 'standard output'}: {reason(error)}"


def _said(code: int, message: str) -> int:
    say(message)
    return code


if __name__ == "__main__":
    main()

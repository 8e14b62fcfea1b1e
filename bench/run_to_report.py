"""From a plan to its report: what `run`, `report`, `calibrate` and `decide` have in common.

Heavy imports are inside the functions, so that `--help` is quick.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import click

from bench.export.exports import Exports
from servers.foreign_text import printable
from servers.user_errors import reason

if TYPE_CHECKING:
    from bench.console import Console
    from bench.plan import Plan
    from bench.run_record import Run
    from bench.running.runner import RunOptions
    from bench.store import RunFolder

DONE, FAILED, INTERRUPTED = 0, 1, 130  # 2: what was given is wrong (servers/user_errors.py)


def run_and_report(chosen: Plan, folder: RunFolder, options: RunOptions, exports: Exports) -> int:
    """Run a plan into its folder and report; the exit code. The caller holds the folder's lock."""
    console = exports.console()
    return conclude(folder, run_cells(chosen, folder, options, console), console, exports)


def run_cells(chosen: Plan, folder: RunFolder, options: RunOptions, console: Console) -> Run:
    """Run what is pending of a plan; how it ended."""
    import asyncio

    from bench.running import runner
    from bench.running.expected import expected
    from bench.running.progress import display
    from servers.user_errors import OutputLost

    todo = runner.remaining(folder.load().cells)
    takes = f", {expected(chosen, todo).text()}" if todo else ""
    try:
        console.print(f"plan {chosen.name}: {len(todo)} cells to run{takes}, into {folder.path}", soft_wrap=True)
        return asyncio.run(runner.carry_out(chosen, folder, options, display(console, todo, chosen.parallel)))
    except OutputLost as error:
        fail(FAILED, f"{error}; finished cells are kept, go on with: tokenderby run --resume {folder.path}")
    except OSError as error:
        if not folder.path.is_dir():
            fail(FAILED, f"the run's folder has gone, {folder.path}, and what was measured with it; start a new run")
        fail(FAILED, f"cannot write to {folder.path}: {reason(error)}; go on with --resume {folder.path}")


def planned(name: str, changes: Mapping[str, object] | None = None) -> Plan:
    """The plan of that name, or in that file, as options change it, with its A/A control. Raises PlanError."""
    from bench.plan import read_plan, with_control
    from bench.plan_options import with_options

    return with_control(with_options(read_plan(name), **(changes or {})))  # type: ignore[arg-type] # click has checked them


def begin(plan: Plan, out: str, targets: Collection[str] = ()) -> RunFolder:
    """A folder for a run; servers for the transports in `targets` run already. Raises PlanError, click.UsageError."""
    from pathlib import Path

    from bench.running.runner import new_run

    try:
        return new_run(plan, Path(out), targets)
    except OSError as error:
        raise click.UsageError(f"--out {out}: takes a folder that can be written to ({reason(error)})") from None


def go_on(path: str, out: str, options: RunOptions, target_wait: float, exports: Exports) -> int:
    """Go on with a run; the exit code."""
    import asyncio
    from pathlib import Path

    from bench.plan import parse
    from bench.running.runner import check_services, reopen_run, with_targets
    from bench.store import StoreError, open_unfinished

    try:
        folder = open_unfinished(path, Path(out))
        with folder.lock():
            plan = parse(folder.load().plan)
            options = with_targets(options, plan)
            asyncio.run(check_services(options, plan, target_wait))
            return run_and_report(reopen_run(folder, options.targets), folder, options, exports)
    except StoreError as error:
        raise click.UsageError(f"--resume {path[:200]}: {error}") from None


def conclude(folder: RunFolder, run: Run, console: Console, exports: Exports) -> int:
    """Report what is finished; the exit code."""
    try:
        found = _reported_faults(folder, run, console, exports)
    except KeyboardInterrupt:
        what = "report" if run.status == "complete" else "run --resume"
        fail(INTERRUPTED, f"interrupted; its cells are kept, go on with: tokenderby {what} {folder.path}")
    found += [
        f"failed: block {cell.block} {cell.cell}: {'; '.join(cell.reasons)}"
        for cell in run.cells
        if cell.status == "failed"
    ]
    for fault in found:
        say(fault)
    if run.status == "interrupted":
        say(f"interrupted; go on with: tokenderby run --resume {folder.path}")
        return INTERRUPTED
    return FAILED if found else DONE


def _reported_faults(folder: RunFolder, run: Run, console: Console, exports: Exports) -> list[str]:
    """Write and print the report; why that was not possible, what got nothing through, which limits are not met."""
    from bench.analysis.findings.gates import gates
    from bench.analysis.measures.groups import measure
    from bench.store import StoreError, link_latest

    try:
        if run.status == "complete":
            link_latest(folder)  # before the report: whatever becomes of that, the run is complete
        if any(cell.messages for cell in run.cells):
            folder.merge()
            return write_and_print(folder, console, exports)
        console.print("No cell finished, so there is nothing to report.")
        measured = measure(folder)
        return exports.write_run(measured, gates(measured), folder.path)
    except (OSError, StoreError) as error:
        return [no_report(folder, error)]


def no_report(folder: RunFolder, error: Exception) -> str:
    """Why there is no report, in one line."""
    why = reason(error)
    return f"cannot write the report into {folder.path}: {why}; its cells are kept: tokenderby report {folder.path}"


def write_and_print(
    folder: RunFolder, console: Console, exports: Exports, more_limits: dict[str, Any] | None = None
) -> list[str]:
    """Write and print the report; a line for each limit that is not met, and for each `direct` cell without success.

    `more_limits` stand as if the plan's `[slo]` had them.
    """
    from bench.analysis.findings.failures import fault_lines
    from bench.analysis.findings.story import claims_told, print_claims
    from bench.analysis.report.report import print_summary, write_report
    from bench.export.outcome import judge_run

    summary = write_report(folder, more_limits)
    print_summary(summary, console)
    if claims := claims_told(summary.measured):
        print_claims(claims, console)
    console.print(f"Report: {folder.report_path}", soft_wrap=True)
    return [*fault_lines(summary.measured).values(), *judge_run(summary.measured, folder, console, exports)]


def fail(code: int, message: str) -> NoReturn:
    """Say what went wrong, and end the process."""
    say(message)
    sys.exit(code)


def say(message: str) -> None:
    """One line to standard error."""
    with suppress(OSError):  # a standard error that is full or closed
        click.echo(f"tokenderby: {printable(' '.join(message.split()))}", err=True)

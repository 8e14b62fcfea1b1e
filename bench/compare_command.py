"""`tokenderby compare`."""

from __future__ import annotations

import click

from bench.export.exports import COMPARISON_FORMATS, Exports, export_options
from bench.option_types import comma_list


@click.command()
@click.argument("run_a", type=click.Path())
@click.argument("run_b", type=click.Path())
@click.option("--force", is_flag=True, help="Compare even runs of other work or other machines.")
@click.option("--all", "every", is_flag=True, help="Show every number, not only those that changed.")
@click.option(
    "--numbers",
    callback=comma_list,
    metavar="A,B",
    help="Compare by these columns of summary.csv alone, chosen beforehand: smaller changes are found.",
)
@export_options(*COMPARISON_FORMATS)
def compare(run_a: str, run_b: str, *, force: bool, every: bool, numbers: list[str] | None, exports: Exports) -> int:
    """Say what became better or worse from RUN_A to RUN_B, with intervals. Exit code 1 on a regression.

    Runs compare if they did the same work on the same machine; how many blocks they have, and which cells, may differ.

    \b
    Examples:
      tokenderby compare results/reference results/latest
      tokenderby compare results/reference latest --markdown comment.md --junit comparison.xml
      tokenderby compare results/reference latest --numbers server_cpu_us_per_token
    """
    from bench.analysis.findings.comparison import COLUMNS
    from bench.analysis.findings.comparison import compare as compared
    from bench.export.changes import print_comparison
    from bench.store import open_run

    before, after = open_run(run_a), open_run(run_b)
    comparison = compared(before, after, numbers=COLUMNS if numbers is None else numbers, force=force)
    print_comparison(comparison, exports.console(), every=every)
    faults = exports.write_comparison(comparison, (before.path.name, after.path.name))
    for fault in faults:
        click.echo(f"tokenderby: {fault}", err=True)
    return int(comparison.regressed or bool(faults))

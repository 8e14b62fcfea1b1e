"""`tokenderby plans`."""

from __future__ import annotations

import json

import click

from servers.arguments import HELP


@click.command(context_settings=HELP)
@click.option("--schema", is_flag=True, help="Print the JSON Schema of a plan instead, for editors.")
def plans(schema: bool) -> None:
    """List the plans that come with the project, and how long each will take here.

    \b
    Examples:
      tokenderby plans
      tokenderby plans --schema > plan.schema.json    # editors complete from it: docs/machine-readable.md
    """
    from bench.plan_schema import plan_schema

    click.echo(json.dumps(plan_schema(), indent=1) if schema else "\n".join(_lines()))


def _lines() -> list[str]:
    """A line per plan."""
    from bench.plan import plan_names

    return [f"{name:<14} {_about(name)}" for name in plan_names()]


def _about(name: str) -> str:
    """What a plan does, and how long it takes on this machine; or what it lacks here."""
    from bench.plan import read_plan, with_control
    from bench.running.blocks import schedule
    from bench.running.expected import expected
    from bench.table_checks import PlanError

    try:
        plan = with_control(read_plan(name))
    except PlanError as error:  # a program that it needs is not installed
        return f"cannot run here: {error}"
    takes = expected(plan, schedule(plan)).text()
    return f"{plan.description} ({plan.blocks} x {len(plan.cells)} cells, {takes})"

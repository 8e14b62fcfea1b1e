"""A plan as command-line options change it (pure, but for the files that a plan names)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from bench import slo as slo_checks
from bench.plan import Plan, parse
from bench.table_checks import PlanError, as_option, unknown
from servers import stacks
from servers.transport import CONTESTANTS, ENDPOINTS

_OPTION_OF = {
    "client": "--clients",
    "profile": "--profiles",
    "recovery": "--recovery",
    "streams": "--streams",
    "blocks": "--blocks",
    "seed": "--seed",
    "time_scale": "--time-scale",
    "model": "--model",
}
"""By which option a key of a plan is changed."""


def with_options(
    plan: Plan,
    *,
    transports: Sequence[str] | None = None,
    clients: Sequence[str] | None = None,
    profiles: Sequence[str] | None = None,
    recoveries: Sequence[str] | None = None,
    streams: int | None = None,
    blocks: int | None = None,
    seed: int | None = None,
    time_scale: float | None = None,
    slo: Mapping[str, Any] | None = None,
    model: str | None = None,
) -> Plan:
    """`plan` as the options change it, checked like a file. Raises PlanError, which names the option.

    `transports` keeps their cells, and adds a plain one for a transport that had none; `clients`, `profiles`
    and `recoveries` run every cell once by, behind or with each; `streams` sets the messages per cell and block of
    every load; `slo` are limits as if they stood in `[slo]`; `model` is asked of an endpoint where its cell names none.
    A story loses the cells whose stack is not installed.
    """
    table = msgspec.to_builtins(plan)
    table["slo"] = slo_checks.joined(plan.slo, slo or {})
    numbers = {"blocks": blocks, "seed": seed, "time_scale": time_scale}
    table |= {key: value for key, value in numbers.items() if value is not None}
    if streams is not None:
        for load in (table["load"], *table["loads"].values()):
            load["streams"] = streams
    cells = _of_transports(table["cells"], transports)
    if model:
        cells = [{"model": model} | cell if cell["transport"] in ENDPOINTS else cell for cell in cells]
    spread = {"client": clients, "profile": profiles, "recovery": recoveries}
    spread = {key: list(values) for key, values in spread.items() if values is not None}
    unique = {msgspec.json.encode(cell | spread, order="sorted"): cell | spread for cell in _without(cells, spread)}
    table["cells"] = [cell for cell in unique.values() if not _is_left_out(plan, cell)]
    given = numbers | spread | {"streams": streams, "model": model}
    try:
        return parse(table)
    except PlanError as error:  # the plan itself was right, so it is the options that are not
        options = {key: option for key, option in _OPTION_OF.items() if given.get(key) is not None}
        raise as_option(error, options, otherwise=", ".join(options.values())) from None


def _of_transports(cells: list[dict[str, Any]], transports: Sequence[str] | None) -> list[dict[str, Any]]:
    """The cells of these transports, and a plain one for each that has none; all if none are named."""
    if transports is None:
        return cells
    for name in transports:
        if name not in CONTESTANTS:
            raise unknown("--transports", name, CONTESTANTS)
    kept = [cell for cell in cells if cell["transport"] in transports]
    present = {cell["transport"] for cell in kept}
    return kept + [{"transport": name} for name in transports if name not in present]


def _is_left_out(plan: Plan, cell: Mapping[str, Any]) -> bool:
    """Whether a story goes on without `cell`, whose stack is not installed here; any other plan is refused."""
    stack = cell.get("stack")
    return plan.story and bool(stack) and bool(stacks.find_stack(str(stack), cell["transport"]).missing)


def _without(cells: Iterable[dict[str, Any]], keys: Collection[str]) -> Iterable[dict[str, Any]]:
    return ({key: value for key, value in cell.items() if key not in keys} for cell in cells)

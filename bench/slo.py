"""What a plan demands of its numbers: the keys of `[slo]`, what they take, and which way is better (pure).

    [slo]                    # every cell, but for the A/A controls
    ttft_ms_p95 = 800        # any estimate or count of summary.csv
    completed_ratio = 0.99
    [slo.message]            # what a single message must keep to be a good one (goodput)
    ttft_ms = 800
    [slos.patient]           # for cells that say `slo = "patient"`; stands for itself, as a stream does
    ttft_ms_p95 = 3000

How a limit is judged: bench.analysis.findings.gates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from bench.table_checks import PlanError, to_struct
from clients import columns

OPTION = "--slo"
"""By which a command line gives limits, as KEY=VALUE."""

MESSAGE_LIMITS = "message"
"""The table of limits for single messages, inside an SLO."""

LARGER_IS_BETTER = frozenset({"completed_ratio", "goodput_ratio"})
"""Columns whose limit is a least value; of all others it is a most."""

_FACTS = frozenset({"transport", "variant", "profile", "recovery", "streams", "valid"})
LIMITED = tuple(column for column in columns.SUMMARY if column not in _FACTS)
"""The columns of summary.csv that a limit can be set to."""

Ceiling = Annotated[float, Meta(ge=0, le=1e9, description="the most that it may be")]
Share = Annotated[float, Meta(ge=0, le=1, description="the least that it may be; 1: every message of the run")]


class MessageLimits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a message must keep to be a good one: complete, and within each of these. Times are real ones."""

    ttft_ms: Ceiling | None = None  # first token, from the intended start
    ttft_overhead_ms: Ceiling | None = None  # the same without the model's own time
    tpot_ms: Ceiling | None = None  # mean time per output token behind the first
    e2e_ms: Ceiling | None = None  # the whole answer, from the intended start
    wait_s: Ceiling | None = None  # waiting beyond the model's own


Slo = msgspec.defstruct(
    "Slo",
    [
        *((column, (Share if column in LARGER_IS_BETTER else Ceiling) | None, None) for column in LIMITED),
        (MESSAGE_LIMITS, MessageLimits | None, None),
    ],
    namespace={"__doc__": "Limits on the numbers of a cell, by their names in summary.csv. Times are real ones."},
    frozen=True,
    kw_only=True,
)


def checked_slo(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`table` as an SLO: its limits as they were given. Raises PlanError, which names the key and what it takes."""
    given = dict(table)
    _check_keys(given, where)
    if given.get("goodput_ratio") is not None and not given.get(MESSAGE_LIMITS):
        raise PlanError(f"{where} goodput_ratio: takes beside it what makes a message good, as message.ttft_ms=800")
    return given


def _check_keys(table: Mapping[str, Any], where: str) -> None:
    if table.get(MESSAGE_LIMITS) is not None:
        to_struct(table[MESSAGE_LIMITS], MessageLimits, _inside(where))
    to_struct(table, Slo, where)


def _inside(where: str) -> str:
    """The place of the limits on single messages; `where` is a table's name, or the option."""
    return f"{where[:-1]}.{MESSAGE_LIMITS}]" if where.endswith("]") else f"{where} {MESSAGE_LIMITS}"


def cell_limits(table: Mapping[str, Any]) -> dict[str, float]:
    """The limits on a cell's numbers in a checked SLO, without those on single messages."""
    return {column: float(limit) for column, limit in table.items() if column != MESSAGE_LIMITS and limit is not None}


def message_limits(table: Mapping[str, Any]) -> dict[str, float]:
    """The limits on single messages in a checked SLO."""
    return {name: float(limit) for name, limit in (table.get(MESSAGE_LIMITS) or {}).items() if limit is not None}


def is_time(name: str) -> bool:
    """Whether a limit of that name is a time of the plan, so that the time scale divides it: its unit says so."""
    return not {"ms", "s"}.isdisjoint(name.split("_"))


def scaled(name: str, limit: float, time_scale: float) -> float:
    """A plan's limit as the clock of a run with `time_scale` has it."""
    return limit / time_scale if is_time(name) else limit


def from_options(given: Mapping[str, float]) -> dict[str, Any]:
    """Limits of a command line as a table; `message.ttft_ms` is one on single messages. Raises PlanError."""
    table: dict[str, Any] = {}
    for name, limit in given.items():
        inside = name.removeprefix(f"{MESSAGE_LIMITS}.")
        if inside == name:
            table[name] = limit
        else:
            table.setdefault(MESSAGE_LIMITS, {})[inside] = limit
    _check_keys(table, OPTION)
    return table


def joined(table: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """An SLO in which the limits of another stand in place of its own. Raises PlanError."""
    inside = (
        {MESSAGE_LIMITS: {**(table.get(MESSAGE_LIMITS) or {}), **more[MESSAGE_LIMITS]}}
        if more.get(MESSAGE_LIMITS)
        else {}
    )
    return checked_slo({**table, **more, **inside}, OPTION if more else "[slo]")

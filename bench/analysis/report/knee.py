"""Where the delay breaks: what a Locust run that climbed by steps has found (docs/locust.md).

The search writes into the plan, under `knee`, the users that were borne (none if it was ended before), why it ended,
and the p99 token delay of each step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from bench.analysis.measures.groups import Key, Measurements, transport_title
from bench.analysis.report.number_tables import Row, Table
from bench.analysis.report.theme import FAINT, WIDTH_INCHES, colour
from bench.analysis.statistics.wording import number
from bench.run_record import Run
from clients.locusts.knee_climb import sentence_of
from servers.transport import CONTESTANTS

_USERS = "users"


@dataclass(frozen=True)
class Step:
    """So many users, and the p99 token delay in ms by transport: infinite if so much never came, NaN if unknown."""

    users: int
    p99_delay_ms: Mapping[str, float]


@dataclass(frozen=True)
class Knee:
    """The result of a search. `users` is None if it was ended before anything broke; `limit_ms` if it is not known."""

    users: int | None
    why: str
    limit_ms: float | None
    steps: Sequence[Step]

    @property
    def sentence(self) -> str:
        """For people."""
        text = sentence_of(self.users, self.why)
        return f"{text[0].upper()}{text[1:]}."

    @property
    def transports(self) -> list[str]:
        """Those with a delay at any step, in the order of the registry."""
        seen = {name for step in self.steps for name in step.p99_delay_ms}
        return sorted(seen, key=lambda name: (name not in CONTESTANTS, [*CONTESTANTS, name].index(name)))


def knee_of(run: Run) -> Knee | None:
    """The search that a run was, if it was one; what is not understood of it is left out."""
    told = run.plan.get("knee")
    if not isinstance(told, Mapping):
        return None
    users, limit_ms, steps = told.get(_USERS), told.get("limit_ms"), told.get("p99_delay_ms")
    return Knee(
        users=users if isinstance(users, int) else None,
        why=str(told.get("why", "")),
        limit_ms=float(limit_ms) if isinstance(limit_ms, int | float) else None,
        steps=[_step(step) for step in steps if _is_step(step)] if isinstance(steps, Sequence) else [],
    )


def knee_curve(measured: Measurements) -> Figure | None:
    """The p99 token delay by the number of users, the limit and the knee; None if the run was no search."""
    knee = knee_of(measured.run)
    if knee is None or not knee.transports:
        return None
    figure = Figure(figsize=(WIDTH_INCHES, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=_USERS, ylabel="token delay, p99 [ms], logarithmic", yscale="log")
    finite = [ms for step in knee.steps for ms in step.p99_delay_ms.values() if math.isfinite(ms) and ms > 0]
    never_ms = 3 * max([*finite, knee.limit_ms or 0.0, 1.0])
    for transport in knee.transports:
        points = [(step.users, _drawn(step.p99_delay_ms.get(transport, math.nan), never_ms)) for step in knee.steps]
        axes.plot(*zip(*points, strict=True), "o-", color=colour(Key(transport)), label=transport_title(transport))
    if any(math.isinf(ms) for step in knee.steps for ms in step.p99_delay_ms.values()):
        axes.axhline(never_ms, color=FAINT, linestyle=":", label="never")
    if knee.limit_ms is not None:
        axes.axhline(knee.limit_ms, color=FAINT, linestyle="--", label=f"limit, {number(knee.limit_ms)} ms")
    if knee.users:
        axes.axvline(knee.users, color=FAINT, linewidth=1, label=f"knee, {knee.users} users")
    axes.legend(loc="upper left")
    return figure


def knee_data(measured: Measurements) -> list[Table]:
    """A row per step, a column per transport."""
    knee = knee_of(measured.run)
    if knee is None or not knee.transports:
        return []
    rows = [
        Row(str(step.users), "", [(number(step.p99_delay_ms.get(name, math.nan)), "") for name in knee.transports])
        for step in knee.steps
    ]
    headings = [(transport_title(name), "ms") for name in knee.transports]
    return [Table("Token delay, p99, at the end of each step", headings, rows, first=_USERS)]


def _drawn(delay_ms: float, never_ms: float) -> float:
    return never_ms if math.isinf(delay_ms) else delay_ms


def _is_step(told: object) -> bool:
    return isinstance(told, Mapping) and isinstance(told.get(_USERS), int)


def _step(told: Mapping[str, object]) -> Step:
    users = told[_USERS]
    assert isinstance(users, int)
    return Step(users, {str(name): _delay_ms(value) for name, value in told.items() if name != _USERS})


def _delay_ms(value: object) -> float:
    if value == "inf":
        return math.inf
    return float(value) if isinstance(value, int | float) else math.nan

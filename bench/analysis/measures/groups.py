"""A run's data by what was measured: cells (transport × variant × profile × recovery), and the groups that they form.

A cell runs once in every block. Only what is valid of it counts; void and failed records are listed beside it. A group
is the cells that race against each other, under equal conditions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.analysis.measures import harness_error, per_message
from bench.analysis.measures.common_blocks import common_blocks
from bench.analysis.measures.demands import message_limits_of
from bench.analysis.measures.harness_error import HarnessError
from bench.analysis.measures.reading import (
    MessageTokens,
    TokenCounts,
    count_tokens,
    has_due,
    read_messages,
    read_painted,
)
from bench.analysis.statistics.estimators import Estimator, Floats
from bench.analysis.statistics.intervals import Estimate
from bench.run_record import CellRecord, Run
from bench.slo import joined
from bench.store import RunFolder
from servers.pace import USUAL_PACE_US
from servers.transport import CONTESTANTS, TRANSPORTS

CONTROL = "copy=aa"  # the word of a variant that marks the A/A control
BASELINE = "blocking"  # the transport that does not stream
_SHARED_WORDS = ("client=", "load=", "stream=")  # of a variant: what all that race against each other have alike


def transport_title(transport: str) -> str:
    """A transport's name for people, its own if it is not in the registry."""
    return CONTESTANTS[transport].title if transport in CONTESTANTS else transport


class Key(NamedTuple):
    """What a row of the summary is about."""

    transport: str
    variant: str = ""
    profile: str = "direct"
    recovery: str = "none"

    @property
    def words(self) -> tuple[str, ...]:
        """The variant's `key=value` words."""
        return tuple(self.variant.split())

    @property
    def is_control(self) -> bool:
        """Whether this is a second copy, run to see how much two equal cells differ."""
        return CONTROL in self.words

    @property
    def is_baseline(self) -> bool:
        """Whether this is the transport that does not stream, with nothing set that another could not have."""
        return self.transport == BASELINE and all(word.startswith(_SHARED_WORDS) for word in self.words)

    @property
    def original(self) -> Key:
        """What a control is the copy of."""
        return self._replace(variant=" ".join(word for word in self.words if word != CONTROL))

    @property
    def group(self) -> tuple[str, ...]:
        """Cells race against each other only under the same load and stream, behind the same profile."""
        return (self.profile, self.recovery, *(w for w in self.words if w.startswith(_SHARED_WORDS)))

    @property
    def own_title(self) -> str:
        """The name for people without what its whole group has."""
        return Key(self.transport, " ".join(word for word in self.words if word not in self.group)).title

    @property
    def title(self) -> str:
        """The name for people, e.g. "Polling interval=0.1 · aws-alb · resume"."""
        transport = transport_title(self.transport)
        variant = self.variant.replace(CONTROL, "(A/A copy)")
        profile = self.profile if self.profile != "direct" else ""
        recovery = self.recovery if self.recovery != "none" else ""
        return " · ".join(filter(None, (f"{transport} {variant}".strip(), profile, recovery)))


@dataclass
class MeasuredCell:
    """Everything measured of one cell: its records, one per block, and the messages of the valid ones.

    `messages` are rows of streams.parquet with what measures.reading and measures.per_message add to them.
    `totals` has a row per valid block: sums of what costs are made of. Histograms of those blocks: `delays` from due to
    received, of which `lags` until sent, and `transits` from there; `gaps` from one token received to the next.
    """

    key: Key
    records: list[CellRecord]
    messages: pd.DataFrame
    totals: pd.DataFrame
    delays: dict[int, NDArray[np.int32]]
    lags: dict[int, NDArray[np.int32]] = field(default_factory=dict)
    transits: dict[int, NDArray[np.int32]] = field(default_factory=dict)
    gaps: dict[int, NDArray[np.int32]] = field(default_factory=dict)
    is_void: bool = False  # these are the void blocks, which count in nothing
    apart: str = ""  # why it takes no part in its group's race; then its blocks are not those of its rivals
    beside: pd.DataFrame | None = field(default=None, repr=False)  # messages of valid blocks that a rival lacks
    estimators: dict[str, Estimator] = field(default_factory=dict, repr=False)  # what measures.metrics has made
    estimates: dict[str, Estimate] = field(default_factory=dict, repr=False)

    @property
    def blocks(self) -> tuple[int, ...]:
        """The blocks that count, ascending: the valid ones that all its rivals have too."""
        return tuple(int(b) for b in self.totals.index)

    @property
    def is_valid(self) -> bool:
        """Whether at least half of the cells that ended are valid, and its blocks are those of its rivals."""
        return bool(self.blocks) and not self.apart and self.is_mostly_valid

    @property
    def is_mostly_valid(self) -> bool:
        """Whether at least half of the cells that ended are valid: enough to tell which messages arrived."""
        ended = [c for c in self.records if c.status != "pending"]
        valid = [c for c in ended if c.status == "ok"]
        return bool(valid) and not self.is_void and 2 * len(valid) >= len(ended)

    @property
    def has_due(self) -> bool:
        """Whether it tells when its model made a token."""
        return has_due(self.key.transport)

    @property
    def valid_messages(self) -> pd.DataFrame:
        """The messages of all valid blocks, those in which a rival was void too: for what is counted, not estimated."""
        return self.messages if self.beside is None else pd.concat([self.messages, self.beside])

    def on(self, blocks: tuple[int, ...]) -> MeasuredCell:
        """The same from some of its blocks only."""
        changes: dict[str, Any] = {
            name: {block: counts for block, counts in by_block.items() if block in blocks}
            for name, by_block in vars(self).items()
            if isinstance(by_block, dict)  # the histograms
        }
        changes |= {"estimators": {}, "estimates": {}}
        chosen = self.messages["block"].isin(blocks)
        changes["messages"], changes["beside"] = self.messages[chosen], self.messages[~chosen]
        changes["totals"] = self.totals.loc[[block for block in self.blocks if block in blocks]]
        return replace(self, **changes)

    def values(self, column: str) -> dict[int, Floats]:
        """A column of the messages, by block."""
        return {int(str(b)): part.to_numpy(float) for b, part in self.messages.groupby("block")[column]}


@dataclass
class Measurements:
    """A run, measured: its cells in the order of the transports' registry, and some messages token by token."""

    run: Run
    cells: list[MeasuredCell]
    samples: dict[Key, MessageTokens]
    ledger_errors: int  # messages whose token rows do not add up to what the load process said
    early_tokens: int  # tokens that came before they were due
    void_cells: list[MeasuredCell] = field(default_factory=list)  # the same of void blocks: to be shown, never counted
    answers: list[Any] = field(
        default_factory=list, repr=False
    )  # what bench.analysis.findings.scoreboard has worked out
    recommended: list[Any] = field(
        default_factory=list, repr=False
    )  # the same of bench.analysis.findings.recommendation
    painted: pd.DataFrame | None = field(default=None, repr=False)  # by stream_id: what a browser has painted
    harness_error: HarnessError | None = None  # of this machine, where `tokenderby calibrate` has measured it

    def cell(self, transport: str, variant: str = "", profile: str = "direct", recovery: str = "none") -> MeasuredCell:
        """One cell. Raises KeyError if the run has none of that kind."""
        wanted = Key(transport, variant, profile, recovery)
        for cell in self.cells:
            if cell.key == wanted:
                return cell
        raise KeyError(f"no {wanted.title} in this run")

    @property
    def cells_at_once(self) -> int:
        """How many cells ran side by side. If more than one, the run tells what survives, but not what it costs."""
        at_once = self.run.plan.get("parallel", 1)
        return at_once if isinstance(at_once, int) else 1

    @property
    def unfit(self) -> str:
        """Why nothing can be claimed of the whole run; empty for a run in blocks. A Locust test has none."""
        randomised = self.run.plan.get("randomised", self.run.name != "locust")
        return "" if randomised else "its blocks are slices of one test, not rounds in random order"

    @property
    def excluded(self) -> list[CellRecord]:
        """The cells that count in no number: void, or failed."""
        return [cell for cell in self.run.cells if cell.status in ("void", "failed")]

    @property
    def uncounted(self) -> list[CellRecord]:
        """Valid cells that count in no number either, since a rival has no valid cell in their block."""
        return [
            record
            for cell in self.cells
            for record in cell.records
            if record.status == "ok" and record.messages and record.block not in cell.blocks
        ]


def measure(folder: RunFolder, more_limits: Mapping[str, Any] | None = None) -> Measurements:
    """Read a run and prepare all its numbers; `more_limits` stand as if the plan's `[slo]` had them.

    Raises StoreError if there is nothing to read, PlanError if the limits do not go with the plan's.
    """
    run = folder.load()
    if more_limits:
        own = run.plan.get("slo")
        run.plan["slo"] = joined(own if isinstance(own, dict) else {}, more_limits)
    messages = read_messages(folder, run)
    chosen = _one_message_each(run, messages)
    counts = count_tokens(folder, run, messages, chosen.values())
    keys = sorted({_key(cell) for cell in run.cells}, key=_display_order)
    per_message.add_counts(messages, counts, message_limits_of(run))
    valid, void = messages[_in_cells(run, messages, "ok")], messages[_in_cells(run, messages, "void")]
    # An answer asked for again starts from nothing, but the tokens thrown away then were received all the same:
    # after a drop with `restart`, and with `resume` where the server had lost the stream.
    surplus = counts.received[valid.index.to_numpy()] - valid["delivered"].to_numpy()
    wrong = (surplus < 0) | (surplus > valid["tokens_discarded"].to_numpy())
    cells = _with_baselines([_measured(key, run, valid, counts) for key in keys])
    voids = _with_baselines([_measured(key, run, void, counts, "void") for key in keys])
    return Measurements(
        run=run,
        cells=on_common_blocks(cells),
        samples={key: counts.samples[row] for key, row in chosen.items() if row in counts.samples},
        ledger_errors=int(wrong.sum()),
        early_tokens=int(counts.early.sum()),
        void_cells=[cell for cell in voids if cell.blocks],
        painted=read_painted(folder),
        harness_error=harness_error.read_calibration(folder.path, run.machine),
    )


def on_common_blocks(cells: list[MeasuredCell]) -> list[MeasuredCell]:
    """The cells with only those blocks that all rivals of their group have; see measures.common_blocks."""
    groups: dict[tuple[str, ...], dict[Key, tuple[int, ...]]] = {}
    for cell in cells:
        groups.setdefault(cell.key.group, {})[cell.key] = cell.blocks
    chosen = {group: common_blocks(valid) for group, valid in groups.items()}
    found = []
    for cell in cells:
        common, apart = chosen[cell.key.group]
        why = apart.get(cell.key, "")
        found.append(replace(cell, apart=why) if why else cell.on(common))
    return found


def _in_cells(run: Run, messages: pd.DataFrame, status: str) -> NDArray[np.bool_]:
    valid = np.array([cell.status == status for cell in run.cells], dtype=bool)
    chosen: NDArray[np.bool_] = valid[messages["cell_index"].to_numpy()]
    return chosen


def _key(cell: CellRecord) -> Key:
    return Key(cell.transport, cell.variant, cell.profile, cell.recovery)


def _display_order(key: Key) -> tuple[object, ...]:
    order = list(CONTESTANTS)
    place = order.index(key.transport) if key.transport in order else len(order)
    return (key.profile != "direct", key.profile, place, key.transport, key.variant, key.recovery)


def _measured(key: Key, run: Run, chosen: pd.DataFrame, counts: TokenCounts, status: str = "ok") -> MeasuredCell:
    positions = [p for p, cell in enumerate(run.cells) if _key(cell) == key]
    messages = chosen[chosen["cell_index"].isin(positions)]
    usable = [p for p in positions if run.cells[p].status == status]
    rows = [_totals(run.cells[p], messages[messages["cell_index"] == p], counts, p) for p in usable]
    totals = pd.DataFrame(rows, columns=list(_TOTALS)).set_index("block").sort_index()
    return MeasuredCell(
        key=key,
        records=[run.cells[p] for p in positions],
        messages=messages,
        totals=totals[totals["messages"] > 0],
        delays={run.cells[p].block: counts.delays[p] for p in usable},
        lags={run.cells[p].block: counts.lags[p] for p in usable},
        transits={run.cells[p].block: counts.transits[p] for p in usable},
        gaps={run.cells[p].block: counts.gaps[p] for p in usable},
        is_void=status == "void",
    )


_TOTALS = (
    *("block", "messages", "completed", "expected", "delivered", "requests", "connections"),
    *("bytes", "bytes_messages", "bytes_delivered", "client_cpu_us", "server_only_cpu_us", "redis_cpu_us"),
    *("server_cpu_us", "paced_server_cpu_us", "cpu_us", "rows", "reads", "tokens", "emissions", "stalls"),
    *(
        "stamp_bytes",
        "unstamped_bytes",
        "unstamped_wire_bytes",
        "packets",
        "wire_bytes",
        "wire_delivered",
        "wait_s",
        "within_slo",
        "span_s",
        "requests_worst_second",
        "cells",
        "memory_bytes",
        "open_most",
    ),
)


def _with_baselines(cells: list[MeasuredCell]) -> list[MeasuredCell]:
    """The cells, with `over_baseline_cpu_us` in their totals: what of `cpu_us` the baseline would not have spent.

    The baseline (`blocking`, of the same group) pays for the same model, clock and messages in the same block; NaN
    where there is none.
    """
    baselines = {cell.key.group: cell for cell in reversed(cells) if cell.key.is_baseline}
    for cell in cells:
        totals, baseline = cell.totals, baselines.get(cell.key.group)
        if baseline is None:
            totals["over_baseline_cpu_us"] = math.nan
            continue
        per_token = baseline.totals["cpu_us"] / baseline.totals["delivered"]  # of each block
        totals["over_baseline_cpu_us"] = totals["cpu_us"] - per_token.reindex(totals.index) * totals["delivered"]
    return cells


def _totals(cell: CellRecord, messages: pd.DataFrame, counts: TokenCounts, position: int) -> dict[str, float]:
    """Sums over one cell in one block; NaN for what was not measured."""
    sizes = messages["bytes_in"].astype(float) + messages["bytes_out"].astype(float)
    packets = messages["packets_in"].astype(float) + messages["packets_out"].astype(float)
    on_the_wire, stamps = messages["wire_bytes"].astype(float), messages["stamp_bytes"]
    return {
        "block": cell.block,
        "messages": len(messages),
        "completed": float(messages["completed"].sum()),
        "expected": float(messages["tokens_expected"].sum()),
        "delivered": float(messages["delivered"].sum()),
        "requests": float(messages["requests"].sum()),
        "connections": float(messages["connections"].sum()),
        "bytes": float(sizes.sum()),
        "bytes_messages": float(sizes.notna().sum()),
        "bytes_delivered": float(messages["delivered"][sizes.notna()].sum()),
        **_cpu_us(cell),
        **{name: float(getattr(counts, name)[position]) for name in ("rows", "reads", "tokens", "stalls")},
        "emissions": float(counts.emissions[position]) if has_due(cell.transport) else math.nan,
        "stamp_bytes": float(stamps[sizes.notna()].sum()),
        "unstamped_bytes": float((sizes - stamps).sum()),
        "unstamped_wire_bytes": float((on_the_wire - stamps).sum()),
        "packets": float(packets.sum()),
        "wire_bytes": float(on_the_wire.sum()),
        "wire_delivered": float(messages["delivered"][on_the_wire.notna()].sum()),
        "wait_s": float(messages["wait_s"].sum(skipna=False)),
        "within_slo": float(messages["within_slo"].sum(skipna=False)),
        "span_s": per_message.span_s(messages),
        "requests_worst_second": math.nan if cell.requests_worst_second is None else float(cell.requests_worst_second),
        "cells": 1.0,
        "memory_bytes": math.nan if cell.server_memory_bytes is None else float(cell.server_memory_bytes),
        "open_most": float(per_message.open_most(messages)),
    }


def _cpu_us(cell: CellRecord) -> dict[str, float]:
    """What one cell cost in one block, part by part."""
    needs_redis = cell.transport in TRANSPORTS and TRANSPORTS[cell.transport].needs_redis
    needs_redis = needs_redis or (cell.recovery == "fallback" and cell.redis_cpu_s is not None)
    client, server_only = _micro(cell.client_cpu_s), _micro(cell.server_cpu_s)
    # Leaving an unmeasured Redis out would make polling look cheap, so then there is no number.
    redis = _micro(cell.redis_cpu_s) if needs_redis else 0.0
    server = server_only + redis
    return {
        "client_cpu_us": client,
        "server_only_cpu_us": server_only,
        "redis_cpu_us": redis,
        "server_cpu_us": server,
        "paced_server_cpu_us": server * _usual_pace(cell.server_pace_us),
        "cpu_us": client + server,
    }


def _usual_pace(pace_us: float | None) -> float:
    """What to multiply processor time by for what it would have been at USUAL_PACE_US; NaN where nobody knows."""
    return USUAL_PACE_US / pace_us if pace_us else math.nan


def _micro(seconds: float | None) -> float:
    return math.nan if seconds is None else seconds * 1e6


def _one_message_each(run: Run, messages: pd.DataFrame) -> dict[Key, int]:
    """For the staircase: the same message (block and number) of every cell, as a row of `messages`.

    Of the block where most cells are valid, the message with the median number of tokens among those that most
    cells have got whole.
    """
    usable = messages[messages["completed"] & _in_cells(run, messages, "ok")]
    if usable.empty:
        return {}
    block = usable.groupby("block")["cell_index"].nunique().idxmax()
    usable = usable[usable["block"] == block]
    everyone = messages[messages["block"] == block]
    number = everyone.groupby("cell_index")["intended_start_ns"].rank(method="first").astype(int)
    usable = usable.assign(number=number[usable.index])
    known = usable.groupby("number").agg(wide=("cell_index", "nunique"), tokens=("tokens_expected", "first"))
    best = known[known["wide"] == known["wide"].max()].sort_values("tokens", kind="stable")
    chosen = usable[usable["number"] == best.index[len(best) // 2]]
    return {_key(run.cells[int(cell)]): int(row) for row, cell in chosen["cell_index"].items()}

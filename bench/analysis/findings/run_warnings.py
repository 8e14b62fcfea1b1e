"""Warnings as data: what a reader must know before believing a number.

Each check looks at one thing and returns warnings; the report prints them beside the verdicts. The limits are choices,
made before any run (docs/metrics.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from bench.analysis.findings.failures import SILENCES
from bench.analysis.findings.noise import control_findings, lateness_ms, uneven_blocks
from bench.analysis.findings.races import control_pairs
from bench.analysis.measures.groups import MeasuredCell, Measurements
from bench.analysis.measures.metrics import METRICS, estimate
from bench.analysis.statistics import intervals, student
from bench.analysis.statistics.claims import MIN_BLOCKS
from bench.analysis.statistics.wording import count, counted, listed, number, times
from bench.proxy.real import PREFIX
from bench.run_record import CellRecord
from clients.minima import MESSAGES_NEEDED
from servers.transport import TRANSPORTS

MAX_CPU_SHARE = 0.5  # of all cores; above, cells wait for the processor and not only for their transport
DRIFT_MS = 0.2  # a shift within a cell that is smaller than this and than DRIFT_SHARE is let pass
DRIFT_SHARE = 0.1

Severity = Literal["warning", "note"]


@dataclass(frozen=True)
class RunWarning:
    """One reason to believe less. `code` is a word for programs; a warning may change a conclusion, a note explains."""

    code: str
    severity: Severity
    text: str


WarningCheck = Callable[[Measurements], Iterator[RunWarning]]


def run_warnings(measured: Measurements) -> list[RunWarning]:
    """All that is to be said about a run, what may change a conclusion first."""
    checks = CHECKS if measured.cells_at_once == 1 else SURVIVAL_CHECKS
    found = [warning for check in checks for warning in check(measured)]
    return sorted(found, key=lambda warning: warning.severity != "warning")


def _unfinished(measured: Measurements) -> Iterator[RunWarning]:
    run = measured.run
    without = sum(cell.status in ("pending", "failed") for cell in run.cells)
    if run.status != "complete":
        is_so = "has failed" if run.status == "failed" else f"is {run.status}"
        yield RunWarning("unfinished", "warning", f"The run {is_so}; {counted(without, 'cell')} not measured.")
    for text in run.warnings:
        yield RunWarning("run", "warning", text)


def _excluded(measured: Measurements) -> Iterator[RunWarning]:
    ended = sum(cell.status != "pending" for cell in measured.run.cells)
    void, failed = (sum(cell.status == status for cell in measured.run.cells) for status in ("void", "failed"))
    if void or failed:
        severity: Severity = "warning" if 5 * (void + failed) > ended else "note"
        became = listed([f"{count(many)} {fate}" for many, fate in ((void, "void"), (failed, "failed")) if many])
        text = f"In no number: {became} of {counted(ended, 'cell')}."
        yield RunWarning("excluded", severity, text)
    empty = [g.key.title for g in measured.cells if not g.blocks]
    if empty:
        yield RunWarning("nothing valid", "warning", f"No valid cell at all: {listed(empty)}.")


def _common_blocks(measured: Measurements) -> Iterator[RunWarning]:
    """Which blocks count, and which rows have others (bench.analysis.measures.common_blocks)."""
    taking_part = [cell for cell in measured.cells if cell.blocks and not cell.apart]
    apart = [f"{cell.key.title} ({cell.apart})" for cell in measured.cells if cell.blocks and cell.apart]
    if measured.uncounted and taking_part:
        groups = {cell.key.group: cell.blocks for cell in taking_part}
        blocks = "; ".join(dict.fromkeys(listed([str(block) for block in each]) for each in groups.values()))
        text = f"Rows that race rest on the blocks in which all of them are valid: {blocks}."
        yield RunWarning("common blocks", "note", text)
    if apart:
        text = f"Rows that take no part, and rest on other blocks than the others: {listed(apart)}."
        yield RunWarning("takes no part", "warning", text)


def _few_blocks(measured: Measurements) -> Iterator[RunWarning]:
    counts = [len(g.blocks) for g in measured.cells if g.blocks]
    fewest = min(counts, default=0)
    if 0 < fewest < 2:
        yield RunWarning(
            "one block", "warning", "Rows with a single valid block have no intervals: nothing says how sure they are."
        )
    elif 0 < fewest < MIN_BLOCKS:
        text = f"Some rows have {fewest} valid blocks: intervals are rough, and below {MIN_BLOCKS} nothing is claimed."
        yield RunWarning("few blocks", "warning", text)


def _few_messages(measured: Measurements) -> Iterator[RunWarning]:
    for p, needed in MESSAGES_NEEDED.items():
        few = [g for g in measured.cells if 0 < len(g.messages) < needed]
        if few:
            whose = "every row" if len(few) == len(measured.cells) else listed([g.key.title for g in few])
            text = f"p{100 * p:g} is empty for {whose}: fewer than {needed} messages."
            yield RunWarning("few messages", "note", text)


def _told(measured: Measurements) -> Iterator[RunWarning]:
    told = [g for g in measured.cells if g.has_due and (g.messages["ttft_scheduled_ns"] < 0).any()]
    if told:
        text = (
            f"The answers of {listed([g.key.title for g in told])} came from a source: their end messages say what "
            "should have come, a token is due when it reached the server, and the overhead of the first token is "
            "empty, since nobody knows when the model meant to begin."
        )
        yield RunWarning("answers told", "note", text)


def _without_due(measured: Measurements) -> Iterator[RunWarning]:
    blind = [g for g in measured.cells if len(g.messages) and not g.has_due]
    if blind:
        text = (
            f"{listed([g.key.title for g in blind])}: nobody tells when the model made a token, so the delay, the "
            "overhead of the first token and the waiting are empty. An answer counts as whole when the endpoint says "
            "that it has ended; what its text should be is not known. A piece of text counts as a token."
        )
        yield RunWarning("no due times", "note", text)


def _control(measured: Measurements) -> Iterator[RunWarning]:
    if not control_pairs(measured) and any(g.blocks for g in measured.cells):
        text = "No A/A control (the same cell twice): nothing checks that two equal cells come out equal here."
        yield RunWarning("no control", "warning", text)
    for original, column, finding in control_findings(measured):
        if finding.claimed:
            text = (
                f"Two identical setups ({original.key.title} and its A/A copy) differ by more than chance in "
                f"{METRICS[column].title}: {times(finding.contrast.ratio)}. Smaller differences prove nothing here."
            )
            yield RunWarning("control differs", "warning", text)


def _uneven_blocks(measured: Measurements) -> Iterator[RunWarning]:
    found = [
        f"{cell.key.title} ({METRICS[column].title}: block {block} {number(factor)}×)"
        for cell, column, block, factor in uneven_blocks(measured)
    ]
    if found:
        text = (
            f"Uneven blocks: a tail that rests on one bad block, which was so many times worse than the middle one: "
            f"{listed(found)}. Such an interval is too narrow, since other blocks may be worse still."
        )
        yield RunWarning("uneven blocks", "note", text)


def _drift(measured: Measurements) -> Iterator[RunWarning]:
    """Last third against first third of each cell's messages; Bonferroni over the cells."""
    cells = [g for g in measured.cells if len(g.blocks) >= 3]
    for cell in cells:
        shifts = _shifts_ms(cell)
        if len(shifts) < 3:
            continue
        mean, error = float(np.mean(shifts)), float(np.std(shifts, ddof=1)) / math.sqrt(len(shifts))
        p = student.two_sided_p(mean / error, len(shifts) - 1) if error else 1.0
        median = estimate(cell, "ttft_overhead_ms_p50").value
        if p * len(cells) < 1 - intervals.LEVEL and abs(mean) > max(DRIFT_MS, DRIFT_SHARE * median):
            text = (
                f"{cell.key.title} drifts: within its cells the first-token overhead moves by {number(mean)} ms "
                "from the first third of the messages to the last."
            )
            yield RunWarning("drift", "warning", text)


def _shifts_ms(cell: MeasuredCell) -> list[float]:
    """Per block: median first-token overhead of the last third of the messages minus that of the first third."""
    shifts = []
    for _, messages in cell.messages.groupby("block"):
        overhead = messages[messages["completed"]].sort_values("intended_start_ns")["ttft_overhead_ms"]
        third = len(overhead) // 3
        if third:
            shifts.append(float(overhead.iloc[-third:].median() - overhead.iloc[:third].median()))
    return [shift for shift in shifts if math.isfinite(shift)]


def _busy(measured: Measurements) -> Iterator[RunWarning]:
    cores = measured.run.machine.get("cores")
    if not isinstance(cores, int) or cores < 1:
        return
    busy = {g.key.title: share for g in measured.cells if (share := _cpu_share(g, cores)) > MAX_CPU_SHARE}
    if busy:
        rows = listed([f"{title} ({100 * share:.0f} %)" for title, share in busy.items()])
        text = f"More than half of the {cores} cores was in use: {rows}. Delays contain waiting for the processor."
        yield RunWarning("busy", "warning", text)


def _cpu_share(cell: MeasuredCell, cores: int) -> float:
    """The share of all cores that the known processes used while messages were under way; 0 if unknown."""
    spans = cell.messages.groupby("block").agg(begin=("intended_start_ns", "min"), end=("end_ns", "max"))
    lasted_s = pd.Series((spans["end"] - spans["begin"]) / 1e9)
    used_s = sum(
        sum(cell_s or 0.0 for cell_s in (c.client_cpu_s, c.server_cpu_s, c.redis_cpu_s, c.proxy_cpu_s))
        for c in cell.records
        if c.status == "ok"
    )
    total_s = float(lasted_s.sum())
    return used_s / (total_s * cores) if total_s > 0 else 0.0


def _clocks(measured: Measurements) -> Iterator[RunWarning]:
    offsets = [abs(c.clock_offset_ns) / 1e6 for c in measured.run.cells if c.status == "ok" and c.clock_offset_ns]
    if offsets:
        text = (
            f"Servers and clients had different clocks, up to {number(max(offsets))} ms apart. Delays are corrected by "
            "an offset measured over the network, which is sure only to half a round trip."
        )
        yield RunWarning("clocks", "warning", text)
    if measured.early_tokens:
        early = count(measured.early_tokens)
        text = f"{early} tokens came before they were due: the clocks do not agree, or the server is early."
        yield RunWarning("early tokens", "warning", text)


def _scaled(measured: Measurements) -> Iterator[RunWarning]:
    scale = measured.run.time_scale
    if scale != 1:
        text = (
            f"Time-scaled run: every time of the plan and of the intermediaries was divided by {scale:g}. They "
            f"are named by their real lengths; durations are as measured, so {scale:g} times as long in reality."
        )
        yield RunWarning("time scale", "warning", text)


def _books(measured: Measurements) -> Iterator[RunWarning]:
    if measured.ledger_errors:
        text = (
            f"{measured.ledger_errors} messages have other tokens in tokens.parquet than streams.parquet counts: the "
            "tables do not belong together, or the harness has a fault."
        )
        yield RunWarning("books", "warning", text)


def _redis(measured: Measurements) -> Iterator[RunWarning]:
    unknown = [
        g.key.title
        for g in measured.cells
        if g.key.transport in TRANSPORTS
        and TRANSPORTS[g.key.transport].needs_redis
        and len(g.totals)
        and g.totals["redis_cpu_us"].isna().any()
        and g.totals["server_only_cpu_us"].notna().any()  # else it is not Redis's that is missing
    ]
    if unknown:
        yield RunWarning(
            "redis", "note", f"Redis's CPU was not measured, so there is no server CPU for {listed(unknown)}."
        )


def _side_by_side(measured: Measurements) -> Iterator[RunWarning]:
    text = (
        f"{measured.cells_at_once} cells ran at once: the run tells which messages arrive and what a drop costs in "
        "seconds, and nothing of speed, CPU or small delays."
    )
    yield RunWarning("side by side", "note", text)


def _never_struck(measured: Measurements) -> Iterator[RunWarning]:
    """Behaviours of the proxy that were in a profile and did nothing: the run is no test of them."""
    idle = {
        profile: [behaviour for behaviour, connections in counts.items() if connections == 0]
        for profile, counts in measured.run.behaviours_struck.items()
    }
    listing = "; ".join(f"{profile}: {', '.join(behaviours)}" for profile, behaviours in idle.items() if behaviours)
    if listing:
        text = f"Behaviours of the proxy that never struck in this run, which says nothing of them: {listing}."
        yield RunWarning("never struck", "note", text)


def _false_alarms(measured: Measurements) -> Iterator[RunWarning]:
    """A client that gave a connection up as silent, with nothing in between that could have cut it."""
    direct = [g for g in measured.cells if g.key.profile == "direct"]
    alarms = {g.key.title: _silences(g) for g in direct if _silences(g)}
    if alarms:
        which = listed([f"{title} {times}" for title, times in alarms.items()])
        text = f"False alarms: with nothing in between, the clients' silence limit gave up living connections: {which}."
        yield RunWarning("false alarms", "note", text)


def _silences(cell: MeasuredCell) -> int:
    return sum(how in SILENCES for text in cell.messages["noticed_by"] for how in text.split("; "))


def _harness(measured: Measurements) -> Iterator[RunWarning]:
    """The harness's own floor, shown with every run."""
    late = [f"{what} {number(late_ms)} ms" for what, late_ms in lateness_ms(measured).items()]
    if late:
        text = f"Measurement error (p99, median of the valid cells): {', '.join(late)}."
        yield RunWarning("floor", "note", text)


def _unwatched(measured: Measurements) -> Iterator[RunWarning]:
    """Real intermediaries have no loop of ours to look at: a TLS front too, which is a real nginx."""
    unwatched = [cell.key.title for cell in measured.cells if any(map(_is_unwatched, cell.records))]
    if unwatched:
        text = (
            f"How late the intermediary itself was is not known of {listed(unwatched)}, since a real one does not "
            "tell. Where it stood still, that counts as the transport's delay, and makes no cell void."
        )
        yield RunWarning("unwatched", "note", text)


def _is_unwatched(record: CellRecord) -> bool:
    """Whether a valid cell had a proxy that wrote no log."""
    has_proxy = record.proxy_cpu_s is not None or record.profile.startswith(PREFIX)
    return record.status == "ok" and has_proxy and record.proxy_loop_lag_ms_max is None


def _run_again(measured: Measurements) -> Iterator[RunWarning]:
    """Cells that were void first: their numbers stand in run.json, and are in no other."""
    repeated = [cell for cell in measured.run.cells if cell.earlier]
    if repeated:
        valid = sum(cell.status == "ok" for cell in repeated)
        text = f"{counted(len(repeated), 'cell')} ran again, the first attempt being void; {valid} of them valid now."
        yield RunWarning("run again", "note", text)


def _foreign(measured: Measurements) -> Iterator[RunWarning]:
    ratios = [c.foreign_cpu_ratio for c in measured.run.cells if c.status == "ok" and c.foreign_cpu_ratio is not None]
    if ratios:
        text = f"Other programs took up to {100 * max(ratios):.0f} % of a core while valid cells ran."
        yield RunWarning("other programs", "note", text)


CHECKS: tuple[WarningCheck, ...] = (
    *(_unfinished, _scaled, _excluded, _common_blocks, _told, _without_due, _control),
    *(_few_blocks, _few_messages, _uneven_blocks),
    *(_drift, _busy, _clocks, _books, _redis, _never_struck, _false_alarms),
    *(_harness, _unwatched, _foreign, _run_again),
)
SURVIVAL_CHECKS: tuple[WarningCheck, ...] = (
    *(_unfinished, _scaled, _side_by_side, _excluded, _common_blocks, _told, _without_due, _clocks, _books),
    *(_never_struck, _false_alarms, _harness, _unwatched, _foreign, _run_again),
)
"""Of a run whose cells shared the machine."""

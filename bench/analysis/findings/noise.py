"""What equal cells of a run differ by, what the run could have found, and how late the harness itself was.

The A/A control (the same cell twice) checks the method: judged like any other pair, two equal cells should not differ.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.analysis.findings.races import control_pairs
from bench.analysis.findings.topics import COMPLETED, TOPICS
from bench.analysis.measures.groups import MeasuredCell, Measurements
from bench.analysis.measures.metrics import METRICS, estimator
from bench.analysis.statistics.claims import MIN_BLOCKS, JudgedContrast, judged, scale
from bench.analysis.statistics.resolution import blocks_needed, smallest_ratio
from bench.analysis.statistics.wording import count, counted, number, times, with_unit
from bench.run_record import CellRecord

_TAILS = ("ttft_overhead_ms_p99", "delay_ms_p99")
UNEVEN = 3.0  # times the middle block's percentile, from which on a block is called out; a choice
WANTED_RATIO = 1.1  # how many blocks it takes to find this, calibrate says as well

_LATENESS: tuple[tuple[str, Callable[[CellRecord], float | None]], ...] = (
    ("start", lambda cell: cell.generator_lag_ms_p99),
    ("request", lambda cell: cell.request_lag_ms_p99),
    ("emit", lambda cell: cell.emit_lag_ms_p99),
    ("client loop", lambda cell: cell.loop_lag_ms_p99),
    ("server loop", lambda cell: cell.server_loop_lag_ms_p99),
)


def control_findings(measured: Measurements) -> Iterator[tuple[MeasuredCell, str, JudgedContrast]]:
    """Each A/A control against its original at each number of the questions, as one family.

    Yields the original, the column and what was found. A claimed difference says that the method, or the machine, is
    not to be trusted in this run.
    """
    columns = [c for topic in TOPICS for c in topic.columns if c in METRICS and c != COMPLETED]
    tested = [
        (original, column, race.contrast(column, copy, original))
        for race, copy, original in control_pairs(measured)
        for column in columns
        if estimator(copy, column).blocks and estimator(original, column).blocks
    ]
    findings = judged([(contrast, scale(column, METRICS[column].unit)) for _, column, contrast in tested])
    yield from ((original, column, found) for (original, column, _), found in zip(tested, findings, strict=True))


def uneven_blocks(measured: Measurements) -> Iterator[tuple[MeasuredCell, str, int, float]]:
    """Percentiles of the tail that rest on one bad block: cell, column, block, how many times the middle block's.

    An interval knows only the blocks that were seen; where these are uneven, others may be worse (docs/statistics.md).
    Blocks with lost messages, and so infinite, are told of otherwise.
    """
    for cell in measured.cells:
        for column in _TAILS:
            of = estimator(cell, column)
            if len(of.blocks) >= 3:
                by_block = of.at(np.eye(len(of.blocks), dtype=np.int64))
                middle = float(np.median(by_block))
                worst = int(np.argmax(np.where(np.isfinite(by_block), by_block, 0.0)))
                if 0 < UNEVEN * middle <= by_block[worst] < math.inf:
                    yield cell, column, of.blocks[worst], float(by_block[worst]) / middle


def lateness_ms(measured: Measurements) -> dict[str, float]:
    """How late the harness was itself, in words: medians over the valid cells of each cell's p99, in ms."""
    found = {}
    for what, of in _LATENESS:
        values = [late for cell in measured.run.cells if cell.status == "ok" and (late := of(cell)) is not None]
        if values:
            found[what] = statistics.median(values)
    return found


def print_noise(measured: Measurements, console: Console) -> None:
    """Per number of the report's questions, what a run of this size can find here; then the harness's own lateness."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("two equal cells", overflow="fold")
    for heading in ("both", "their ratio", "4 of 5 runs\nfind", f"blocks\nfor {WANTED_RATIO}×"):
        table.add_column(heading, justify="right", no_wrap=True)
    shown: MeasuredCell | None = None
    for original, column, finding in control_findings(measured):
        contrast = finding.contrast
        if math.isfinite(contrast.error):
            unit = METRICS[column].unit
            both = f"{number(contrast.a)}, {number(contrast.b)}"
            found = f"{number(smallest_ratio(contrast.spread, contrast.blocks))}×"
            needed = blocks_needed(contrast.spread, WANTED_RATIO)
            wanted = "over 1,000" if needed is None else count(needed)
            if original is not shown:
                table.add_row(Text(f"{original.key.title}, twice", style="bold"))
                shown = original
            unit = f", {unit}" if unit in ("ms", "µs/token") else ""
            row = (f"{METRICS[column].title}{unit}", both, times(contrast.ratio), found, wanted)
            table.add_row(*map(Text, row))
    console.print(table if table.row_count else "No two equal cells are valid, so nothing is known of the noise.")
    for what, late_ms in lateness_ms(measured).items():
        console.print(f"measurement error, {what}: {with_unit(late_ms, 'ms')} (p99, median of the cells)")
    valid = min((len(g.blocks) for g in measured.cells), default=0)
    if valid < MIN_BLOCKS:
        few = f"Only {counted(valid, 'valid block')}"
        console.print(f"{few}: below {MIN_BLOCKS} nothing is claimed. `tokenderby doctor` may say why.")

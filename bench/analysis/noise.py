"""The noise floor: by how much two equal cells of a run differ, and how late the harness itself was.

No difference smaller than the first is claimed, and no delay smaller than the second is the transport's.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.analysis import intervals
from bench.analysis.claims import MIN_BLOCKS, control_pairs, noise_of, smallest_claim
from bench.analysis.groups import MeasuredCell, Measurements
from bench.analysis.metrics import METRICS, estimator
from bench.analysis.verdicts import TOPICS
from bench.analysis.wording import counted, number, percent, with_unit
from bench.store import CellRecord

_LATENESS: tuple[tuple[str, Callable[[CellRecord], float | None]], ...] = (
    ("messages started late", lambda cell: cell.generator_lag_ms_p99),
    ("requests were late at the server", lambda cell: cell.request_lag_ms_p99),
    ("the model emitted late", lambda cell: cell.emit_lag_ms_p99),
    ("the clients' event loop was late", lambda cell: cell.loop_lag_ms_p99),
    ("the servers' event loop was late", lambda cell: cell.server_loop_lag_ms_p99),
)


def noise(measured: Measurements, column: str) -> float:
    """The largest |ln ratio| that two equal cells of this run may have; infinite without an A/A control."""
    return noise_of(_contrast(pair, column) for pair in control_pairs(measured.cells))


def _contrast(pair: tuple[MeasuredCell, MeasuredCell], column: str) -> intervals.Contrast:
    copy, original = pair
    return intervals.paired(estimator(copy, column), estimator(original, column))


def lateness_ms(measured: Measurements) -> dict[str, float]:
    """How late the harness was itself, in words: medians over the valid cells of each cell's p99, in ms."""
    found = {}
    for what, of in _LATENESS:
        values = [late for cell in measured.run.cells if cell.status == "ok" and (late := of(cell)) is not None]
        if values:
            found[what] = statistics.median(values)
    return found


def print_noise(measured: Measurements, console: Console) -> None:
    """Per number of the report's questions, what this machine cannot tell apart; then the harness's own lateness."""
    table = Table("two equal cells", "number", "both", "smallest difference that can be claimed", box=SIMPLE_HEAD)
    for pair in control_pairs(measured.cells):
        for column in (column for topic in TOPICS for column in topic.columns):
            contrast = _contrast(pair, column)
            if not math.isnan(contrast.a + contrast.b):
                both = f"{number(contrast.a)} and {with_unit(contrast.b, METRICS[column].unit)}"
                smallest = percent(smallest_claim(contrast.half_width))
                table.add_row(*map(Text, (pair[1].key.title, METRICS[column].title, both, smallest)))
    console.print(table if table.row_count else "No two equal cells are valid, so nothing is known of the noise.")
    for what, late_ms in lateness_ms(measured).items():
        console.print(f"{what}: {with_unit(late_ms, 'ms')} (p99, median of the cells)")
    valid = min((len(g.blocks) for g in measured.cells), default=0)
    if valid < MIN_BLOCKS:
        few = f"Only {counted(valid, 'valid block')}"
        console.print(f"{few}: below {MIN_BLOCKS} nothing is claimed. `tokenderby doctor` may say why.")

"""The tables of numbers, as text: for the page, for the charts' data, for the notebook.

`NUMBERS` is the registry: a new number of bench.analysis.measures.metrics is shown by naming it there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.analysis.findings.survival import how_noticed
from bench.analysis.measures.groups import MeasuredCell, Measurements, transport_title
from bench.analysis.measures.metrics import METRICS, estimate, estimator
from bench.analysis.measures.quantities import as_shown, unit_of
from bench.analysis.report.theme import colour
from bench.analysis.statistics.contrasts import paired
from bench.analysis.statistics.wording import count, counted, interval, number

DASH = "–"
_TRANSIT = "transit_ms_p50"
_DROP = ("detection_ms_p50", "recovery_ms_p50", "catch_up_ms_p50", "stop_s_p50", "requests_worst_second")
_DROP_MEANS = ("drops", "attempts", "requests", "connections", "tokens_discarded", "tokens_wasted")  # per message


@dataclass(frozen=True)
class Row:
    """A row of a table: the swatch's colour, and per column the value and its interval as text.

    `standing` says what is wrong with a row whose numbers do not count, which is then greyed.
    """

    title: str
    colour: str
    cells: list[tuple[str, str]]
    standing: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the report; headings are a name and a unit each, and `first` is that of the rows' names."""

    title: str
    headings: list[tuple[str, str]]
    rows: list[Row]
    first: str = "cell"


@dataclass(frozen=True)
class Numbers:
    """A table of METRICS, a row per cell. `events` are sums over messages; those of `speed` need a machine alone."""

    title: str
    columns: tuple[str, ...]
    events: tuple[str, ...] = ()
    speed: bool = True


NUMBERS = (
    Numbers(
        "Speed",
        (
            *("ttft_ms_p50", "ttft_ms_p95", "ttft_ms_p99", "ttft_overhead_ms_p50", "ttft_overhead_ms_p99"),
            *("delay_ms_p50", "delay_ms_p95", "delay_ms_p99"),
        ),
    ),
    Numbers(
        "Smoothness",
        (
            *("itl_ms_p50", "itl_ms_p95", "itl_ms_p99", "tpot_ms_p50", "wait_s_per_answer"),
            *("burst_tokens_mean", "burst_emitted_mean", "stalls_per_1k_tokens"),
        ),
    ),
    Numbers(
        "Whole answers",
        (
            *("e2e_ms_p50", "e2e_ms_p95", "goodput_ratio", "head_ms_p50", "stop_s_p50"),
            *("tokens_per_s_per_user_p50", "tokens_per_s"),
        ),
    ),
    Numbers(
        "Cost and completeness",
        (
            *("completed_ratio", "requests_per_message", "connections_per_message"),
            *("client_cpu_us_per_token", "server_cpu_us_per_token", "cpu_us_per_token_over_baseline"),
            "server_memory_kb_per_open_stream",
        ),
        events=("tokens_lost", "tokens_duplicated", "drops"),
        speed=False,
    ),
    Numbers(
        "Traffic",
        (
            *("bytes_per_token", "wire_bytes_per_token", "packets_per_token", "stamp_bytes_per_token"),
            *("bytes_per_token_without_stamps", "wire_bytes_per_token_without_stamps"),
        ),
        speed=False,
    ),
)
_STAGES = Numbers("Where the delay comes from", ("lag_ms_p50", "lag_ms_p99", _TRANSIT, "transit_ms_p99"))


def number_tables(measured: Measurements) -> list[Table]:
    """Those that have something to say, without columns of dashes; speed and CPU only of cells that ran alone."""
    alone = measured.cells_at_once == 1
    found = [_numbers(measured, numbers, alone=alone) for numbers in NUMBERS if alone or not numbers.speed]
    if alone:
        found.append(stage_table(measured.cells))
    found.append(drops_table(measured.cells))
    return [without_dashes(table) for table in found if table.rows]


def without_dashes(table: Table) -> Table:
    """The same without the columns in which nothing was measured."""
    kept = [k for k in range(len(table.headings)) if any(row.cells[k][0] != DASH for row in table.rows)]
    rows = [replace(row, cells=[row.cells[k] for k in kept]) for row in table.rows]
    return replace(table, headings=[table.headings[k] for k in kept], rows=rows)


def _numbers(measured: Measurements, numbers: Numbers, *, alone: bool) -> Table:
    columns = [column for column in numbers.columns if column in METRICS and (alone or "cpu" not in column)]
    voids = {cell.key: cell for cell in measured.void_cells}
    rows = []
    for cell in measured.cells:
        if cell.blocks or cell.key not in voids:
            rows.append(_row(cell, numbers.events, columns, _standing(cell)))
        if cell.key in voids:
            void = voids[cell.key]
            rows.append(_row(void, numbers.events, columns, f"void, {counted(len(void.blocks), 'block')}"))
    counts = [("messages", ""), *((event.replace("_", " "), "") for event in numbers.events)]
    return Table(numbers.title, [*counts, *headings(columns)], rows)


def _standing(cell: MeasuredCell) -> str:
    return "" if cell.is_valid else cell.apart or "not valid"


def _row(cell: MeasuredCell, events: Sequence[str], columns: Sequence[str], standing: str) -> Row:
    counts = [(count(len(cell.messages)), ""), *((count(int(cell.messages[event].sum())), "") for event in events)]
    return Row(cell.key.title, colour(cell.key), [*counts, *values(cell, columns)], standing)


def values(cell: MeasuredCell, columns: Sequence[str]) -> list[tuple[str, str]]:
    """A cell's numbers, each with its interval where that says more."""
    found = [as_shown(estimate(cell, column), column) for column in columns]
    return [(number(each.value), "" if each.lo == each.hi else interval(each)) for each in found]


def headings(columns: Sequence[str]) -> list[tuple[str, str]]:
    """Names and units; a unit such as "tokens/read" would only repeat the name."""
    units = {column: unit_of(column) for column in columns}
    return [(METRICS[column].title, "" if "/" in unit else unit) for column, unit in units.items()]


def stage_table(cells: Sequence[MeasuredCell]) -> Table:
    """Where a token's delay comes from, stage by stage; the proxy's is what it adds to the same cell without it."""
    direct = {cell.key: cell for cell in cells if cell.key.profile == "direct" and cell.blocks}
    rows = []
    for cell in cells:
        bare = direct.get(cell.key._replace(profile="direct"))
        added = paired(estimator(cell, _TRANSIT), estimator(bare, _TRANSIT)) if bare else None
        through = number(added.a - added.b) if added and cell.key.profile != "direct" else DASH
        shown = [*values(cell, _STAGES.columns), (through, "")]
        rows.append(Row(cell.key.title, colour(cell.key), shown, _standing(cell)))
    return Table(_STAGES.title, [*headings(_STAGES.columns), ("of that, the proxy p50", "ms")], rows)


def drops_table(cells: Sequence[MeasuredCell]) -> Table:
    """Of the cells that tried again: what had gone wrong, what it cost. Means are per message of the cell."""
    rows = []
    for cell in cells:
        if ((cell.messages["drops"] > 0) | (cell.messages["attempts"] > 1)).any():
            means = [(number(float(cell.messages[column].mean())), "") for column in _DROP_MEANS]
            words = [(text or DASH, "") for text in (how_noticed(cell.messages), _finished_by(cell))]
            shown = [*words, *means, *values(cell, _DROP)]
            rows.append(Row(cell.key.title, colour(cell.key), shown, _standing(cell)))
    means_of = ((f"{column.replace('_', ' ')} per message", "") for column in _DROP_MEANS)
    return Table("Drops, and coming back", [("noticed by", ""), ("finished by", ""), *means_of, *headings(_DROP)], rows)


def _finished_by(cell: MeasuredCell) -> str:
    """Which other transports brought the end of a cell's messages (recovery `fallback`): "SSE 3×, Polling 1×"."""
    names = Counter(name for name in cell.messages["finished_by"] if name not in ("", cell.key.transport))
    return ", ".join(f"{transport_title(name)} {times}×" for name, times in names.most_common())

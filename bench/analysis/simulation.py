"""How often the rule for claims errs, and what it finds: `python -m bench.analysis.simulation`, a few minutes, seeded.

Runs are made up as ln(value) = block + cell + error, shape (runs, blocks, cells) for each number of the questions, with
the spreads that a real run has (`spreads_of`; default: results/reference), and judged by the functions that judge real
runs: `contrasts.fit`, `comparison.independent_errors`, Holm's adjustment. docs/statistics.md has the table.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from bench.analysis.findings.comparison import COSTS, independent_errors, own_error
from bench.analysis.statistics.claims import Bools, claimed_at_once
from bench.analysis.statistics.contrasts import contrast, fit, log_values, prior_df_of_two_runs
from bench.analysis.statistics.estimators import Floats, quantile_of_values
from bench.analysis.statistics.resolution import MOST_BLOCKS, blocks_of_two_runs
from clients.minima import MESSAGES_NEEDED

RUNS = 2000
BLOCKS = (5, 9)
RATIOS = (1.2, 1.3, 1.5, 2.0)
SEED = 20_251_126
CELLS = ("websocket", "chunked", "sse", "sse copy=aa", "polling", "blocking")
KINDS = ("pushed", "pushed", "pushed", "pushed", "pulled", "at once")
PUSHED = np.array([kind == "pushed" for kind in KINDS])
RIVALS, SLOWED, CONTROL = (0, 1), 2, 3  # the copy takes part in the error, not in the family; SSE is made slower
PAIRS = [pair for pair in combinations(range(len(CELLS)), 2) if CONTROL not in pair]
COLUMNS = (
    *("ttft_overhead_ms_p50", "ttft_overhead_ms_p99", "delay_ms_p99", "burst_tokens_mean"),
    *("requests_per_message", "bytes_per_token", "cpu_us_per_token"),
)
CPU = COLUMNS.index("cpu_us_per_token")
COMPARED = 11  # numbers per cell that two runs are compared by, ties left out
_HEADINGS = " | ".join(f"{blocks} blocks" for blocks in BLOCKS)
QUIET, MIDDLING = (0.03, 0.03), (0.05, 0.03)  # of CPU per token: a cell's own spread, and the mood of its block
WANTED = 1.1  # how many blocks it takes to find this change of CPU in one cell, the last table says
MESSAGES = 80  # per cell and block, as in the plan quick

MakeSamples = Callable[[np.random.Generator, tuple[int, ...]], Floats]


@dataclass(frozen=True)
class Spreads:
    """What blocks of a real run differ by: standard deviations of ln(value), by column and cell.

    `errors` are what is left without block and cell, `moods` what the blocks share, `levels` the cells' means.
    """

    errors: Floats  # (columns, cells)
    moods: Floats  # (columns,)
    levels: Floats  # (columns, cells)


def spreads_of(path: Path) -> Spreads:
    """The spreads of a run with the cells of the plan quick. Raises StoreError, KeyError."""
    from bench.analysis.measures.groups import measure  # pandas and pyarrow: only where a run is read
    from bench.analysis.measures.metrics import estimator
    from bench.store import open_run

    measured = measure(open_run(path))
    cells = [measured.cell(*name.split(" ")) for name in CELLS]
    errors, moods, levels = [], [], []
    for column in COLUMNS:
        logs = np.stack([log_values(estimator(cell, column)) for cell in cells], axis=1)
        pushed = logs[:, PUSHED].mean(1, keepdims=True)
        left = (logs - pushed).var(0, ddof=1)
        of_pushed = left[PUSHED].mean() / (1 - 1 / PUSHED.sum())  # their mean has a share of each one's error
        own = np.where(PUSHED, left / (1 - 1 / PUSHED.sum()), np.maximum(left - of_pushed / PUSHED.sum(), 0.0))
        errors.append(np.sqrt(own))
        moods.append(math.sqrt(max(float(pushed.var(ddof=1)) - of_pushed / PUSHED.sum(), 0.0)))
        levels.append(logs.mean(0))
    return Spreads(np.array(errors), np.array(moods), np.array(levels))


def claimed(logs: Sequence[Floats]) -> Bools:
    """Which PAIRS are claimed, shape (runs, columns, pairs); `logs` has (runs, blocks, cells) for each column."""
    first, second = zip(*PAIRS, strict=True)
    found = [fit(each, KINDS).compared(first, second) for each in logs]
    differences, errors, df = (np.stack(each, axis=1) for each in zip(*found, strict=True))
    return claimed_at_once(differences, errors, df)


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Errors as the model has them."""
    return rng.standard_normal(shape)


def heavy_tails(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Student's t with 2.5 degrees of freedom: outliers of ten standard deviations are no wonder."""
    return np.asarray(rng.standard_t(2.5, shape) / math.sqrt(5))


def bad_blocks(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """In one block of five all cells are six times as noisy."""
    bad = rng.random((shape[0], shape[1], 1)) < 0.2
    return np.asarray(rng.standard_normal(shape) * np.where(bad, 6.0, 1.0))


def bad_cells(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """One cell in twelve is hit, and only ever gets slower: by eight standard deviations on average."""
    hit = rng.random(shape) < 1 / 12
    return rng.standard_normal(shape) + np.where(hit, rng.exponential(8, shape), 0.0)


def order_effects(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """The first cell of a block is slower by four standard deviations, the second by 1.5, the third by half of one."""
    order = np.argsort(rng.random(shape), axis=-1)
    return np.asarray(rng.standard_normal(shape) + 4 * np.exp(-1.0 * order))


def uneven(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """One of the cells that push is twice as noisy as all others, in every number."""
    return np.asarray(rng.standard_normal(shape) * np.where(np.arange(shape[-1]) == 0, 2.0, 1.0))


NULLS: dict[str, MakeSamples] = {
    "equal, normal errors": normal,
    "heavy tails": heavy_tails,
    "bad blocks": bad_blocks,
    "bad cells": bad_cells,
    "order effects": order_effects,
    "one cell twice as noisy": uneven,
}


def made(
    rng: np.random.Generator, runs: int, blocks: int, spreads: Spreads, errors: MakeSamples = normal
) -> list[Floats]:
    """Runs whose cells are all equal, with the spreads of each column's cells."""
    shape = (runs, blocks, len(CELLS))
    return [
        errors(rng, shape) * spread + mood * rng.standard_normal((runs, blocks, 1))
        for spread, mood in zip(spreads.errors, spreads.moods, strict=True)
    ]


def even(spreads: Spreads) -> Spreads:
    """The same with one spread for all cells of a column, that of its noisiest kind: then only `errors` differ."""
    pushed = np.sqrt((spreads.errors[:, PUSHED] ** 2).mean(1, keepdims=True))
    return Spreads(np.repeat(np.maximum(pushed, 1e-3), len(CELLS), axis=1), spreads.moods, spreads.levels)


def false_runs(
    rng: np.random.Generator, runs: int, blocks: int, spreads: Spreads, errors: MakeSamples = normal
) -> float:
    """The share of runs that claim anything, where nothing differs."""
    return float(claimed(made(rng, runs, blocks, spreads, errors)).any((1, 2)).mean())


def false_runs_of_messages(rng: np.random.Generator, runs: int, blocks: int) -> float:
    """The same from messages, with quantiles as real runs have them: p50 and p99 of lognormal latencies with moods."""
    logs = np.empty((2, runs, blocks, len(CELLS)))
    for run in range(runs):
        mood = rng.normal(0, 0.1, blocks)
        for cell in range(len(CELLS)):
            own = rng.normal(mood, 0.08)
            values = {block: rng.lognormal(own[block], 0.5, MESSAGES) for block in range(blocks)}
            for place, p in enumerate((0.5, 0.99)):
                messages = dict.fromkeys(values, MESSAGES_NEEDED[p]) if p > 0.5 else None  # as if there were enough
                logs[place, run, :, cell] = log_values(quantile_of_values(p, values, messages))
    return float(claimed(list(logs)).any((1, 2)).mean())


def found(rng: np.random.Generator, runs: int, blocks: int, spreads: Spreads, ratio: float) -> float:
    """How often SSE is claimed to be behind the better one of WebSocket and chunked, whose CPU it has `ratio` times."""
    logs = [
        made_of_it + (levels - levels[PUSHED].mean()) * ~PUSHED
        for made_of_it, levels in zip(made(rng, runs, blocks, spreads), spreads.levels, strict=True)
    ]
    logs[CPU][..., SLOWED] += math.log(ratio)
    better = logs[CPU].mean(1)[:, RIVALS].argmin(1)
    against = np.array([PAIRS.index((rival, SLOWED)) for rival in RIVALS])[better]
    return float(claimed(logs)[np.arange(runs), CPU, against].mean())


@dataclass(frozen=True)
class SimulatedChange:
    """What the second of two runs does otherwise: `ratio` times the CPU in some cells."""

    name: str
    ratio: float = 1.0
    cells: tuple[int, ...] = ()


CHANGES = (
    SimulatedChange("equal"),
    SimulatedChange("+10 % in SSE alone", WANTED, (SLOWED,)),
    SimulatedChange("+10 % in SSE and its copy", WANTED, (SLOWED, CONTROL)),
    SimulatedChange("+10 % in all cells", WANTED, tuple(range(len(CELLS)))),
)


def compared(
    rng: np.random.Generator,
    runs: int,
    blocks: int,
    spread: tuple[float, float],
    change: SimulatedChange,
    *,
    numbers: int = COMPARED,
) -> tuple[float, float]:
    """Two runs: the share of trials in which the change is claimed, of a cell or of all, and anything else.

    `spread` is the standard deviation of a cell's own error and of the mood that its block's cells share. Each cell is
    compared by so many `numbers`, and all together by those that are COSTS; the first of these has changed.
    """
    shape = (runs, numbers, blocks, len(CELLS))
    before, after = (
        spread[0] * rng.standard_normal(shape) + spread[1] * rng.standard_normal((*shape[:3], 1)) for _ in range(2)
    )
    after[:, 0, :, list(change.cells)] += math.log(change.ratio)
    pairs = [(before[..., cell], after[..., cell]) for cell in range(len(CELLS))]
    together = before[:, : len(COSTS)].mean(-1), after[:, : len(COSTS)].mean(-1)
    found = [*independent_errors(pairs), own_error(*together)]
    differences = [new.mean(-1) - old.mean(-1) for old, new in (*pairs, together)]  # (runs, numbers) each
    df = [np.full(each.shape[1], df) for each, (_, df) in zip(differences, found, strict=True)]
    hits = claimed_at_once(*(np.concatenate(part, -1) for part in (differences, [error for error, _ in found], df)))
    is_first = [np.arange(each.shape[1]) == 0 for each in differences]
    is_meant = [*(cell in change.cells for cell in range(len(CELLS))), bool(change.cells)]
    changed = np.concatenate([first & meant for first, meant in zip(is_first, is_meant, strict=True)])
    return float(hits[:, changed].any(1).mean()), float(hits[:, ~changed].any(1).mean())


def table(runs: int, spreads: Spreads, seed: int = SEED) -> Iterator[str]:
    """The lines of docs/statistics.md's tables, each as soon as it is known."""
    rng = np.random.default_rng(seed)
    yield f"| runs that claim a difference, though nothing differs | {_HEADINGS} |"
    yield "|---|---|---|"
    for name, errors in NULLS.items():
        yield _line(name, [false_runs(rng, runs, blocks, even(spreads), errors) for blocks in BLOCKS])
    yield _line("spreads of each cell as measured", [false_runs(rng, runs, b, spreads) for b in BLOCKS])
    yield _line("quantiles of messages", [false_runs_of_messages(rng, runs, blocks) for blocks in BLOCKS])
    yield ""
    yield f"| SSE, whose CPU is so many times its rivals', is said to be behind | {_HEADINGS} |"
    yield "|---|---|---|"
    level = replace(spreads, levels=np.zeros_like(spreads.levels))
    for name, where in (("polling and blocking as far off as measured", spreads), ("all others equal", level)):
        for ratio in RATIOS:
            yield _line(f"{ratio}×, {name}", [found(rng, runs, blocks, where, ratio) for blocks in BLOCKS])
    yield ""
    yield from _compared_lines(rng, runs, spreads)


def _compared_lines(rng: np.random.Generator, runs: int, spreads: Spreads) -> Iterator[str]:
    measured = (float(spreads.errors[CPU].mean()), float(spreads.moods[CPU]))
    yield "| two runs; spread of a cell, of its block | blocks of each | +10 % CPU found | other changes claimed |"
    yield "|---|---|---|---|"
    for name, spread in (("quiet", QUIET), ("middling", MIDDLING), ("as measured", measured)):
        shares = f"{name} ({100 * spread[0]:.1f} %, {100 * spread[1]:.1f} %)"
        for blocks, numbers in ((9, COMPARED), (9, 1), (blocks_for(math.hypot(*spread)), COMPARED)):
            for change in CHANGES:
                hit, false = compared(rng, runs, blocks, spread, change, numbers=numbers)
                found_it = f"{100 * hit:.0f} %" if change.cells else ""
                alone = f"{change.name}; asked for alone" if numbers == 1 else change.name
                yield f"| {shares}, {alone} | {blocks} | {found_it} | {100 * false:.1f} % |"


def blocks_for(spread: float) -> int:
    """The blocks that each of two runs takes for WANTED, as `compare` says it; `spread` of a block's ln(value)."""
    pair = contrast(1.0, 1.0, spread * math.sqrt(2 / 9), prior_df_of_two_runs(16) + 16, 9)
    return blocks_of_two_runs([pair], COMPARED * len(CELLS) + len(COSTS), WANTED) or MOST_BLOCKS


def _line(name: str, shares: Sequence[float]) -> str:
    return f"| {name} | {' | '.join(f'{100 * share:.1f} %' for share in shares)} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="How often the rule for claims errs, and what it finds.")
    parser.add_argument("--runs", type=int, default=RUNS, help="made-up runs per line (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--run", default="results/reference", help="the measured run whose spreads are taken")
    options = parser.parse_args()
    if not 1 <= options.runs <= 100_000:
        parser.error("--runs takes 1 to 100000")
    spreads = spreads_of(Path(options.run))
    for line in table(options.runs, spreads, options.seed):
        print(line, flush=True)


if __name__ == "__main__":
    main()

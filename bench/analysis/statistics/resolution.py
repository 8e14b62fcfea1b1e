"""What a run can find: the smallest ratio claimed in 4 of 5 runs, and how many blocks a wanted one takes (pure).

The claim is a t test with Holm's adjustment; with `tests` comparisons that are not settled already, a difference must
pass the first, hardest step. It does so in POWER of all runs if it lies beyond that step by the POWER quantile of t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import median

from bench.analysis.statistics import student
from bench.analysis.statistics.claims import MAX_P, MIN_BLOCKS, SMALLEST_EFFECT
from bench.analysis.statistics.contrasts import PRIOR_DF, Contrast, prior_df_of_two_runs

POWER = 0.8
CELLS, TESTS = 6, 40  # of the plan quick: its cells, and the comparisons that no glance settles
MOST_BLOCKS = 1000


def smallest_ratio(spread: float, blocks: int, *, cells: int = CELLS, tests: int = TESTS) -> float:
    """The smallest ratio of two cells found in 4 of 5 runs; infinite below MIN_BLOCKS.

    `spread` is the standard deviation of one block's error of ln(value), of one cell (`Contrast.spread`).
    """
    if blocks < MIN_BLOCKS or cells < 2:
        return math.inf
    most = (blocks - 1) * (cells - 1)
    df = min(2 * (PRIOR_DF + most / cells), most)
    return _ratio(spread * math.sqrt(2 / blocks), df, tests)


def blocks_needed(spread: float, ratio: float, *, cells: int = CELLS, tests: int = TESTS) -> int | None:
    """How many blocks it takes to find `ratio` > 1 in 4 of 5 runs; None if more than MOST_BLOCKS."""
    return _least_blocks(lambda blocks: smallest_ratio(spread, blocks, cells=cells, tests=tests) <= ratio)


def of_pairs(pairs: Sequence[Contrast], tests: int) -> float:
    """The same from the pairs of one number as they were measured, at the median of them; infinite if none was tested.

    `tests` is how many comparisons of the family are still open: what is claimed costs the others nothing any more.
    """
    tested = [pair for pair in pairs if pair.blocks >= MIN_BLOCKS and pair.ratio.has_interval and not pair.is_tie]
    ratios = [_ratio(pair.error, pair.df, max(tests, 1)) for pair in tested]
    return median(ratios) if ratios else math.inf


def blocks_of_two_runs(pairs: Sequence[Contrast], tests: int, ratio: float) -> int | None:
    """How many blocks two runs each take to find a change by `ratio` 4 times in 5, at the median of `pairs`.

    A cell's error is that of its blocks (findings.comparison). None if that is unknown, or more than MOST_BLOCKS.
    """
    spreads = [pair.spread for pair in pairs if pair.blocks >= MIN_BLOCKS and 0 < pair.error < math.inf]
    if not spreads:
        return None

    def found(blocks: int) -> float:
        own_df = 2 * (blocks - 1)
        return _ratio(median(spreads) * math.sqrt(2 / blocks), prior_df_of_two_runs(own_df) + own_df, max(tests, 1))

    return _least_blocks(lambda blocks: found(blocks) <= ratio)


def _least_blocks(is_enough: Callable[[int], bool]) -> int | None:
    """The least number of blocks from MIN_BLOCKS on that is enough, as every larger one; None above MOST_BLOCKS."""
    low, high = MIN_BLOCKS, MOST_BLOCKS
    if not is_enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _ratio(error: float, df: float, tests: int) -> float:
    freedom = max(int(df), 1)
    reach = _quantile(1 - MAX_P / tests, freedom) + _quantile(2 * POWER - 1, freedom)
    return math.exp(min(max(reach * error, SMALLEST_EFFECT), 700))


@lru_cache(maxsize=4096)
def _quantile(level: float, df: int) -> float:
    return student.quantile(level, df)

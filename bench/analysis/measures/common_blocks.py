"""Which blocks count: cells that race each other are judged, and shown, by the same blocks (pure).

A void cell takes its block from its rivals too, since a row must not cover other blocks than theirs. But a cell that
has hardly any valid block must not take everybody's: it takes no part, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

from bench.analysis.statistics.claims import MIN_BLOCKS
from bench.analysis.statistics.wording import counted, listed

LEAST_SHARE = 2 / 3  # of the best cell's blocks; below, a cell costs its rivals more than it is worth. A choice.

NameT = TypeVar("NameT", bound=Hashable)


def blocks_needed(valid: Mapping[NameT, Collection[int]]) -> int:
    """How many valid blocks a cell takes part with: MIN_BLOCKS, and LEAST_SHARE of what the best one has."""
    most = max((len(blocks) for blocks in valid.values()), default=0)
    share = math.ceil(LEAST_SHARE * most)
    return share if most < MIN_BLOCKS else max(MIN_BLOCKS, share)


def common_blocks(valid: Mapping[NameT, Collection[int]]) -> tuple[tuple[int, ...], dict[NameT, str]]:
    """The blocks that count, ascending, and the cells that take no part with the reason in words.

    Of cells that cost the others equally much the last goes: copies and the baseline stand behind the contestants.
    """
    needed = blocks_needed(valid)
    apart = {name: too_few(len(blocks), needed) for name, blocks in valid.items() if not 0 < len(blocks) >= needed}
    kept = [name for name in valid if name not in apart]
    while len(common := _shared(valid, kept)) < needed and len(kept) > 1:
        worst = max(reversed(kept), key=lambda name: len(_shared(valid, [other for other in kept if other != name])))
        kept.remove(worst)
        apart[worst] = f"valid in other blocks than its rivals ({listed(list(map(str, sorted(valid[worst]))))})"
    return tuple(sorted(common)), apart


def too_few(valid: int, needed: int) -> str:
    """Why a cell with so few valid blocks takes no part: "1 valid block, 5 needed"."""
    return f"{counted(valid, 'valid block')}, {max(needed, MIN_BLOCKS)} needed"


def _shared(valid: Mapping[NameT, Collection[int]], kept: Collection[NameT]) -> set[int]:
    sets = [set(valid[name]) for name in kept]
    return set.intersection(*sets) if sets else set()

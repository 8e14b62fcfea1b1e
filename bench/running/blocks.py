"""Which cell runs when: every cell once a block, in an order drawn from the seed (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain, count
from random import Random

from bench.plan import Cell, Plan
from bench.run_record import CellRecord

_MAX_SLUG = 160  # a file name has 255 bytes, and endings follow


def schedule(plan: Plan) -> list[CellRecord]:
    """A pending record for every cell in every block, in the order in which they run. Blocks count from 1."""
    names = _file_names(cell.key for cell in plan.cells)
    return [
        _pending(cell, block, order, names[cell.key])
        for block in range(1, plan.blocks + 1)
        for order, cell in _order(plan, block)
    ]


def _order(plan: Plan, block: int) -> list[tuple[int, Cell]]:
    cells = list(plan.cells)
    Random(f"tokenderby/{plan.seed}/{block}/order").shuffle(cells)
    return list(enumerate(cells))


def _pending(cell: Cell, block: int, order: int, name: str) -> CellRecord:
    return CellRecord(
        id=f"b{block:02d}-{name}",
        block=block,
        cell=cell.key,
        transport=cell.transport,
        variant=cell.variant_text,
        profile=cell.profile_name,
        recovery=cell.recovery,
        order=order,
    )


def _file_names(keys: Iterable[str]) -> dict[str, str]:
    """A file name for each cell: its slug, and a number where two have the same."""
    names: dict[str, str] = {}
    for key in keys:
        name, taken = slug(key), set(names.values())
        names[key] = next(each for each in chain([name], (f"{name}-{n}" for n in count(2))) if each not in taken)
    return names


def slug(key: str) -> str:
    """A cell's key as a file name, cut short: "sse copy=aa" becomes "sse-copy_aa"."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", key.replace(" ", "-"))[:_MAX_SLUG]

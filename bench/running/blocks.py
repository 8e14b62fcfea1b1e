"""Which cell runs when: every cell once a block, in an order drawn from the seed (pure)."""

from __future__ import annotations

import re
from random import Random

from bench.plan import Cell, Plan
from bench.store import CellRecord


def schedule(plan: Plan) -> list[CellRecord]:
    """A pending record for every cell in every block, in the order in which they run. Blocks count from 1."""
    return [_pending(cell, block, order) for block in range(1, plan.blocks + 1) for order, cell in _order(plan, block)]


def _order(plan: Plan, block: int) -> list[tuple[int, Cell]]:
    cells = list(plan.cells)
    Random(f"tokenderby/{plan.seed}/{block}/order").shuffle(cells)
    return list(enumerate(cells))


def _pending(cell: Cell, block: int, order: int) -> CellRecord:
    return CellRecord(
        id=f"b{block:02d}-{slug(cell.key)}",
        block=block,
        cell=cell.key,
        transport=cell.transport,
        variant=cell.variant_text,
        profile=cell.profile_name,
        recovery=cell.recovery,
        order=order,
    )


def slug(key: str) -> str:
    """A cell's key as a file name: "sse copy=aa" becomes "sse-copy_aa"."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", key.replace(" ", "-"))

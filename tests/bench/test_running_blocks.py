"""The order of cells: every cell once a block, the same for the same seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bench.plan import parse
from bench.plan_options import with_options
from bench.running.blocks import schedule, slug

PLAN = parse({"name": "p", "blocks": 6, "cells": [{"transport": ["sse", "chunked", "websocket", "polling"]}]})


def order(seed: int) -> list[tuple[int, str]]:
    return [(record.block, record.cell) for record in schedule(with_options(PLAN, seed=seed))]


def test_every_cell_once_a_block() -> None:
    assert Counter(order(1)) == {(block, cell.key): 1 for block in range(1, 7) for cell in PLAN.cells}


def test_order_follows_from_the_seed() -> None:
    assert order(1) == order(1)
    assert order(1) != order(2)
    assert len({tuple(cell for b, cell in order(1) if b == block) for block in range(1, 7)}) > 1


def test_order_is_the_same_in_every_python() -> None:
    assert [cell for _, cell in order(1)[:4]] == ["polling", "websocket", "sse", "chunked"]


def names_of_files(folder: Path) -> list[str]:
    """Profiles of one's own, whose names are the same file name, or too long for one with an ending."""
    names = ["a b", "a-b", "x" * 230, "x" * 231]
    for name in names:
        (folder / f"{name}.toml").write_text('title = "t"\n')
    return [str(folder / f"{name}.toml") for name in names]


def test_ids_are_unique_and_safe_as_file_names(tmp_path: Path) -> None:
    records = schedule(PLAN)
    assert len({record.id for record in records}) == len(records)
    assert slug("sse copy=aa") == "sse-copy_aa"
    alike = parse({"name": "p", "cells": [{"transport": "sse", "profile": names_of_files(tmp_path)}]})
    records = schedule(with_options(alike, blocks=2))
    assert len({record.id for record in records}) == len(records)
    assert all(len(record.id) < 200 for record in records)
    assert slug("polling interval=0.1 my/own.toml") == "polling-interval_0.1-my_own.toml"

"""Which blocks count: those of all rivals, without anybody who would leave the others none."""

from __future__ import annotations

import pytest

from bench.analysis.measures.common_blocks import common_blocks

ALL = tuple(range(1, 10))


def without(*blocks: int) -> tuple[int, ...]:
    return tuple(block for block in ALL if block not in blocks)


@pytest.mark.parametrize(
    ("valid", "blocks", "apart"),
    [
        ({"a": ALL, "b": ALL}, ALL, {}),
        ({"a": ALL, "b": without(3), "c": without(8)}, without(3, 8), {}),
        ({"a": ALL, "b": ALL, "c": (4,)}, ALL, {"c": "1 valid block, 6 needed"}),
        ({"a": (1, 2, 3, 4, 5), "b": (1, 2, 3, 4)}, (1, 2, 3, 4, 5), {"b": "4 valid blocks, 5 needed"}),
        ({"a": ALL, "b": ()}, ALL, {"b": "0 valid blocks, 6 needed"}),
        (
            {"a": without(1, 2), "b": without(1, 2), "c": (1, 2, 3, 4, 5, 6)},
            without(1, 2),
            {"c": "valid in other blocks than its rivals (1, 2, 3, 4, 5 and 6)"},
        ),
        # One void cell in each block: only two can keep 5 blocks. They are contestants, not the copy and the baseline.
        (
            {name: tuple(b for b in range(1, 8) if b != n) for n, name in enumerate(("ws", "sse", "copy", "whole"), 1)},
            (3, 4, 5, 6, 7),
            {
                "whole": "valid in other blocks than its rivals (1, 2, 3, 5, 6 and 7)",
                "copy": "valid in other blocks than its rivals (1, 2, 4, 5, 6 and 7)",
            },
        ),
        ({"a": (1, 2, 3), "b": (1, 2, 3), "c": (2, 3)}, (2, 3), {}),  # too few for a claim, but the rows are alike
        ({"a": (), "b": ()}, (), {"a": "0 valid blocks, 5 needed", "b": "0 valid blocks, 5 needed"}),
        ({}, (), {}),
    ],
)
def test_which_blocks_count(valid: dict[str, tuple[int, ...]], blocks: tuple[int, ...], apart: dict[str, str]) -> None:
    assert common_blocks(valid) == (blocks, apart)

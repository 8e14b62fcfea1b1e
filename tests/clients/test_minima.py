"""The sample that a percentile takes, and that it is said in one place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clients.minima import MESSAGES_NEEDED, values_needed


@pytest.mark.parametrize("p", [0.5, 0.9, 0.95, 0.99])
def test_fewer_values_than_needed_may_all_lie_below_the_percentile(p: float) -> None:
    n = values_needed(p)
    assert p**n <= 0.025 < p ** (n - 1)


def test_no_other_module_has_numbers_of_its_own() -> None:
    number = re.compile(rf"\b(367|{MESSAGES_NEEDED[0.99]}|{MESSAGES_NEEDED[0.95]})\b")
    root = Path(__file__).parents[2]
    places = ("bench/analysis", "clients")
    files = [path for place in places for path in (root / place).rglob("*")]
    files = [path for path in files if path.suffix in (".py", ".js", ".j2") and "node_modules" not in path.parts]
    assert len(files) > 20
    assert not [plan.name for plan in (root / "bench" / "plans").glob("*.toml") if "367" in plan.read_text("utf-8")]
    found = [path.name for path in files if path.name != "minima.py" and number.search(path.read_text("utf-8"))]
    assert not found

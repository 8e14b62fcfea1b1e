"""Numbers as people read them: one style everywhere, and words that fit them."""

from __future__ import annotations

import pytest

from bench.analysis.statistics.wording import count, counted, number


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.4534, "0.453"), (1.1, "1.10"), (414, "414"), (1000, "1,000"), (29_300, "29,300"), (float("inf"), "∞")],
)
def test_three_digits_and_thousands_with_commas(value: float, text: str) -> None:
    assert number(value) == text


def test_counts() -> None:
    assert count(12_345) == "12,345"
    assert [counted(n, "valid block") for n in (0, 1, 2, 1200)] == [
        "0 valid blocks",
        "1 valid block",
        "2 valid blocks",
        "1,200 valid blocks",
    ]

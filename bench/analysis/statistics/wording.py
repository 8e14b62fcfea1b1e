"""Numbers as people read them (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.analysis.statistics.intervals import Estimate


def number(value: float) -> str:
    """Three significant digits, thousands apart: 0.453, 1.10, 43.8, 414, 12,300; ∞ and – for none."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    rounded = float(f"{value:.3g}")
    digits = max(0, 2 - math.floor(math.log10(abs(rounded))))
    text = f"{rounded:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if float(value).is_integer() and "." in text else text


_READ_AS = {"share": ("%", 100.0), "s/answer": ("ms", 1000.0)}


def as_read(found: Estimate, unit: str) -> tuple[Estimate, str]:
    """A number in the unit in which people read it: shares as percentages, an answer's waiting in ms."""
    read, factor = _READ_AS.get(unit, (unit, 1.0))
    return found.times(factor), read


def count(value: int) -> str:
    """A count, exact: 12,345."""
    return f"{value:,}"


def counted(value: int, noun: str, plural: str = "") -> str:
    """A count of things, as "1 valid block" and "1,200 messages"; `plural` where it is not the noun with an s."""
    return f"{count(value)} {noun if value == 1 else plural or noun + 's'}"


def with_unit(value: float, unit: str) -> str:
    """A number and its unit; units that are words ("tokens") and symbols ("ms") alike."""
    return f"{number(value)} {unit}".strip()


def interval(estimate: Estimate) -> str:
    """The interval alone, "0.43–0.49"; empty if there is none."""
    return f"{number(estimate.lo)}–{number(estimate.hi)}" if estimate.has_interval else ""


def value_with_interval(estimate: Estimate) -> str:
    """A number with its interval, if that says more: "1.10 (1.02–1.16)"."""
    sure = interval(estimate) if estimate.lo != estimate.hi else ""
    return number(estimate.value) + (f" ({sure})" if sure else "")


def times(ratio: Estimate) -> str:
    """A ratio with its interval: "1.09× (1.02–1.16)"."""
    found = interval(ratio)
    return f"{number(ratio.value)}×" + (f" ({found})" if found else "")


def percent(log_ratio: float) -> str:
    """A difference on the logarithmic scale as a percentage: 0.0488 is "5 %"."""
    return "∞" if math.isinf(log_ratio) else f"{number(100 * math.expm1(log_ratio))} %"


def whole_percent(part: int, whole: int) -> str:
    """A share of a count that says 100 % only of all, and 0 % only of none: "99 %" of 999 in 1,000."""
    floor = 100 * part // whole
    return f"{floor} %" if floor or not part else "<1 %"


def in_sentence(title: str) -> str:
    """A title as a word of a sentence: "first token", "CPU"."""
    return title if title.isupper() else title.lower()


def listed(parts: Sequence[str], last: str = "and") -> str:
    """Parts joined as in a sentence: "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}" if parts else ""

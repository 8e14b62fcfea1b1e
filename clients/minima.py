"""How many values a percentile takes before it may be given: the one definition (pure).

Below them a two-sided 95 % interval of order statistics does not exist: the chance that all of n values lie below the p
quantile, p^n, is above 2.5 %.
"""

from __future__ import annotations

import math

_TAIL = 0.025


def values_needed(p: float) -> int:
    """The smallest n with p^n <= 2.5 %: 72 for 0.95, 368 for 0.99."""
    return math.ceil(math.log(_TAIL) / math.log(p))


MESSAGES_NEEDED = {0.5: 1, 0.95: values_needed(0.95), 0.99: values_needed(0.99)}
"""By percentile. A median is given of any sample: its interval says how little that may be."""

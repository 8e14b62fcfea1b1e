"""Where a token's delay comes from, stage by stage (pure)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from bench.analysis.statistics.estimators import Floats

STAGES = ("due to sent", "sent to proxy in", "proxy in to out", "proxy out to read", "read to decoded")
"""Server, the way to the proxy, the proxy, the way to the client, the client. A stamp comes before what follows it."""


class Waterfall(msgspec.Struct, kw_only=True, frozen=True):
    """The mean and the median of each of STAGES over a transport's tokens, and of the whole, in ms.

    Means add up to the whole's; medians need not. `surplus_ms` is by how much a token's stages are longer than its
    whole at most (p99): stamps that are not in order, or not of one clock, show there.
    """

    transport: str
    tokens: int
    mean_ms: tuple[float, ...]
    median_ms: tuple[float, ...]
    whole_mean_ms: float
    whole_median_ms: float
    surplus_ms: float


def waterfall(transport: str, stamps_ns: Sequence[Sequence[int]]) -> Waterfall:
    """From each token's six stamps: due, sent, proxy in, proxy out, read, decoded."""
    stamps = np.array(stamps_ns, np.int64)
    stages_ms: Floats = np.diff(stamps, axis=1) / 1e6
    whole_ms = (stamps[:, -1] - stamps[:, 0]) / 1e6
    surplus_ms = np.maximum(stages_ms, 0).sum(axis=1) - whole_ms
    return Waterfall(
        transport=transport,
        tokens=len(stamps),
        mean_ms=tuple(stages_ms.mean(axis=0).tolist()),
        median_ms=tuple(np.median(stages_ms, axis=0).tolist()),
        whole_mean_ms=float(whole_ms.mean()),
        whole_median_ms=float(np.median(whole_ms)),
        surplus_ms=float(np.quantile(surplus_ms, 0.99)),
    )

"""Numbers that can be recomputed from any resample of the blocks (pure).

An estimator holds what each block adds to a number, so that `at(weights)` gives the number of 10,000 resamples in one
go: row r of `weights` says how often resample r drew each block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from clients.minima import MESSAGES_NEEDED

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Estimator(Protocol):
    """A number that depends on which blocks were drawn. `blocks` are those it has data of."""

    @property
    def blocks(self) -> tuple[int, ...]:
        """The blocks it has data of, ascending: the columns of the weights."""

    def at(self, weights: Ints) -> Floats:
        """The number in each resample: shape (resamples, blocks) to (resamples,); NaN where it cannot be given."""

    def on(self, blocks: Sequence[int]) -> Self:
        """The same number from some of its blocks only."""


@dataclass(frozen=True)
class Ratio:
    """`scale` × a sum over blocks divided by another, e.g. requests by messages; infinite as soon as one is drawn."""

    blocks: tuple[int, ...]
    numerator: Floats
    denominator: Floats
    scale: float = 1.0

    def at(self, weights: Ints) -> Floats:
        """See Estimator."""
        endless = np.isinf(self.numerator)
        with np.errstate(divide="ignore", invalid="ignore"):
            total = weights @ np.where(endless, 0.0, self.numerator) / (weights @ self.denominator)
        return self.scale * np.where(weights @ endless > 0, np.inf, total)

    def on(self, blocks: Sequence[int]) -> Ratio:
        """See Estimator."""
        keep = _columns(self.blocks, blocks)
        return Ratio(tuple(blocks), self.numerator[keep], self.denominator[keep], self.scale)


@dataclass(frozen=True)
class Quantile:
    """The `p` quantile of the blocks' pooled values: the smallest value that at least a share `p` does not exceed.

    `support` holds the values, ascending, infinity allowed; `cumulative[k, b]` how many values of block b are at most
    `support[k]`; `messages` how many messages each block has. Below MESSAGES_NEEDED the number is NaN.
    """

    blocks: tuple[int, ...]
    p: float
    support: Floats
    cumulative: Ints
    messages: Ints

    def at(self, weights: Ints) -> Floats:
        """See Estimator. A bisection over the support, all resamples at once."""
        if not len(self.support) or self.messages.sum() < MESSAGES_NEEDED[self.p]:
            return np.full(len(weights), np.nan)
        totals = weights @ self.cumulative[-1]
        rank = np.maximum(np.ceil(totals * self.p - 1e-9), 1)
        low = np.zeros(len(weights), np.int64)
        high = np.full(len(weights), len(self.support) - 1)
        while (low < high).any():
            middle = (low + high) // 2
            reached = np.einsum("rb,rb->r", weights, self.cumulative[middle]) >= rank
            high = np.where(reached, middle, high)
            low = np.where(reached, low, np.minimum(middle + 1, high))
        return np.where(totals > 0, self.support[low], np.nan)

    def on(self, blocks: Sequence[int]) -> Quantile:
        """See Estimator."""
        keep = _columns(self.blocks, blocks)
        return Quantile(tuple(blocks), self.p, self.support, self.cumulative[:, keep], self.messages[keep])


def quantile_of_values(p: float, values: Mapping[int, Floats], messages: Mapping[int, int] | None = None) -> Quantile:
    """A quantile of single values per block (exact). Without `messages` every value is a message."""
    blocks = tuple(sorted(values))
    support = np.unique(np.concatenate([values[b] for b in blocks])) if blocks else np.empty(0)
    cumulative = np.empty((len(support), len(blocks)), np.int64)
    for column, block in enumerate(blocks):
        cumulative[:, column] = np.searchsorted(np.sort(values[block]), support, side="right")
    counts = np.array([messages[b] if messages else len(values[b]) for b in blocks], np.int64)
    return Quantile(blocks, p, support, cumulative, counts)


def quantile_of_counts(
    p: float, support: Floats, counts: Mapping[int, NDArray[np.integer]], messages: Mapping[int, int]
) -> Quantile:
    """A quantile of values that were counted: `counts[block][k]` values equal `support[k]`."""
    blocks = tuple(sorted(counts))
    table = np.stack([counts[b] for b in blocks], axis=1) if blocks else np.empty((len(support), 0), np.int64)
    used = table.any(axis=1)
    cumulative = np.ascontiguousarray(np.cumsum(table[used], axis=0, dtype=np.int64))
    return Quantile(blocks, p, support[used], cumulative, np.array([messages[b] for b in blocks], np.int64))


def _columns(have: tuple[int, ...], want: Sequence[int]) -> list[int]:
    return [have.index(b) for b in want]

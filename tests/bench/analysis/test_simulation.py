"""A small, seeded part of `python -m bench.analysis.simulation`; docs/statistics.md has the large trial."""

from __future__ import annotations

import numpy as np
import pytest

from bench.analysis import simulation
from bench.analysis.simulation import CELLS, CHANGES, COLUMNS, CPU, KINDS, NULLS, PAIRS, QUIET, MakeSamples, Spreads
from bench.analysis.statistics.claims import Scale, judged
from bench.analysis.statistics.contrasts import contrast, fit

RUNS = 300
SPREADS = Spreads(
    np.full((len(COLUMNS), len(CELLS)), 0.08), np.full(len(COLUMNS), 0.09), np.zeros((len(COLUMNS), len(CELLS)))
)


@pytest.mark.parametrize("blocks", [5, 9])
@pytest.mark.parametrize("errors", NULLS.values(), ids=NULLS.keys())
def test_equal_cells_hardly_ever_differ(errors: MakeSamples, blocks: int) -> None:
    """At most 5 % of runs; of 300, chance allows 8 % once in a hundred such tests."""
    assert simulation.false_runs(np.random.default_rng(1), RUNS, blocks, SPREADS, errors) <= 0.08


def test_nor_do_quantiles_of_messages() -> None:
    assert simulation.false_runs_of_messages(np.random.default_rng(2), 150, 5) <= 0.09


@pytest.mark.parametrize(("blocks", "least"), [(5, 0.55), (9, 0.95)])
def test_a_difference_of_1_3_is_found(blocks: int, least: float) -> None:
    """With about the spread that CPU time has in real runs, and all other cells equal, which is the harder case."""
    assert simulation.found(np.random.default_rng(3), RUNS, blocks, SPREADS, 1.3) >= least


def test_ten_percent_more_cpu_are_found_between_quiet_runs() -> None:
    equal, *_, everywhere = CHANGES
    hit, false = simulation.compared(np.random.default_rng(4), RUNS, 9, QUIET, everywhere)
    assert hit >= 0.8
    assert false <= 0.08
    assert simulation.compared(np.random.default_rng(5), RUNS, 9, QUIET, equal)[1] <= 0.08


def test_cells_that_share_their_block_s_mood_are_no_more_witnesses_than_blocks() -> None:
    """All cells of a block are as slow as it is: of what they share there are nine values, not fifty-four."""
    assert simulation.compared(np.random.default_rng(7), RUNS, 9, (0.01, 0.1), CHANGES[0])[1] <= 0.08


def test_the_simulation_judges_as_the_report_does() -> None:
    """Pair by pair, in runs with real differences: the vectorised rule is `judged`'s."""
    logs = simulation.made(np.random.default_rng(6), 20, 5, SPREADS)
    logs[CPU][..., 2] += 0.35
    found = simulation.claimed(logs)
    assert 0 < found.mean() < 0.5
    first, second = zip(*PAIRS, strict=True)
    for run in range(20):
        family = []
        for column in logs:
            by_pair = zip(*fit(column[run], KINDS).compared(first, second), strict=True)
            family += [(contrast(float(np.exp(d)), 1.0, float(e), float(df), 5), Scale()) for d, e, df in by_pair]
        assert [finding.claimed for finding in judged(family)] == found[run].ravel().tolist()

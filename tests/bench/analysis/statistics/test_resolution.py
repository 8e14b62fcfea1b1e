"""What a run can find: more with more blocks, as much as the simulation finds, and none below the blocks needed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.analysis import simulation
from bench.analysis.simulation import CELLS, COLUMNS, Spreads
from bench.analysis.statistics.contrasts import contrast
from bench.analysis.statistics.resolution import blocks_needed, blocks_of_two_runs, of_pairs, smallest_ratio


def test_more_blocks_find_less_and_too_few_nothing() -> None:
    ratios = [smallest_ratio(0.08, blocks) for blocks in (5, 9, 20, 100)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] > 1.2
    assert smallest_ratio(0.08, 4) == math.inf
    assert smallest_ratio(0.0, 5) == pytest.approx(1.01), "smaller ones are never claimed"


@pytest.mark.parametrize("blocks", [5, 9])
def test_it_is_what_the_simulation_finds_in_four_of_five_runs(blocks: int) -> None:
    """A second opinion: the ratio that the formula names, put into made-up runs of 70 comparisons."""
    even = np.full((len(COLUMNS), len(CELLS)), 0.08)
    spreads = Spreads(even, np.full(len(COLUMNS), 0.08), np.zeros_like(even))
    ratio = smallest_ratio(0.08, blocks, tests=70)
    assert 0.72 < simulation.found(np.random.default_rng(1), 600, blocks, spreads, ratio) < 0.97


def test_the_blocks_that_a_wanted_ratio_takes() -> None:
    needed = blocks_needed(0.08, 1.1)
    assert needed is not None
    assert smallest_ratio(0.08, needed) <= 1.1 < smallest_ratio(0.08, needed - 1)
    assert blocks_needed(0.08, 10) == 5
    assert blocks_needed(3.0, 1.01) is None


@pytest.mark.parametrize("spread", [simulation.QUIET, (0.07, 0.05)])
def test_the_blocks_that_two_runs_take_are_what_the_simulation_takes(spread: tuple[float, float]) -> None:
    """A second opinion: +10 % of CPU in one cell, in made-up runs of as many blocks as the formula names."""
    blocks = simulation.blocks_for(math.hypot(*spread))
    _, alone, *_ = simulation.CHANGES
    hit, false = simulation.compared(np.random.default_rng(7), 300, blocks, spread, alone)
    assert 0.72 < hit < 0.95, blocks
    assert false <= 0.08


def test_two_runs_of_nothing_known_take_nobody_knows_how_many_blocks() -> None:
    assert blocks_of_two_runs([], 10, 1.1) is None
    assert blocks_of_two_runs([contrast(1.0, 1.0, 3.0, 19, 9)], 10, 1.01) is None


def test_what_a_run_could_have_found_follows_from_its_own_error() -> None:
    pairs = [contrast(1.05, 1.0, 0.05, 12, 5)] * 3
    assert 1.15 < of_pairs(pairs, 3) < of_pairs(pairs, 100) < 1.5, "among more comparisons less is found"
    assert of_pairs([], 0) == of_pairs([contrast(2.0, 1.0, 0.05, 12, 4)], 1) == math.inf

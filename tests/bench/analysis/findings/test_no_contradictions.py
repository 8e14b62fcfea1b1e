"""Made-up runs with void cells wherever chance puts them: no sentence, order or standing denies a number beside it."""

from __future__ import annotations

import math
import re
import tempfile
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bench.analysis.findings.headline import headline
from bench.analysis.findings.run_warnings import run_warnings
from bench.analysis.findings.scoreboard import Answer, Square, group_answers, scoreboard
from bench.analysis.findings.topics import COMPLETED
from bench.analysis.findings.verdicts import verdicts
from bench.analysis.measures.groups import Measurements, measure
from bench.analysis.synthetic import Caricature, synthetic_run

pytestmark = pytest.mark.slow

TRANSPORTS = ("websocket", "chunked", "sse", "polling", "blocking")

voids = st.one_of(
    st.just(frozenset[tuple[int, int]]()),
    st.frozensets(st.tuples(st.integers(0, 5), st.integers(1, 7)), min_size=1, max_size=5),
    st.builds(
        lambda cell: frozenset((cell, block) for block in range(1, 8)), st.integers(0, 5)
    ),  # a cell in all blocks
    st.builds(lambda cell, left: frozenset((cell, b) for b in range(1, 8) if b != left), *[st.integers(1, 5)] * 2),
    st.builds(lambda block: frozenset((cell, block) for cell in range(6)), st.integers(1, 7)),  # a whole block
)


class Made(NamedTuple):
    """What differs from run to run."""

    delays_ms: list[float]
    failing: float
    blocks: int
    seed: int
    void: frozenset[tuple[int, int]]

    def measured(self) -> Measurements:
        pushed = [
            Caricature(name, "", "push", delay_ms, self.failing if name == "websocket" else 0.0, 20 * delay_ms**0.3)
            for name, delay_ms in zip(TRANSPORTS, self.delays_ms, strict=False)
        ]
        slow = (Caricature("polling", "", "pull", 1000, cpu_us=50), Caricature("blocking", "", "whole"))
        field = (*pushed, replace(pushed[2], variant="copy=aa"), *slow)
        made = partial(synthetic_run, blocks=self.blocks, messages=8, tokens=8, field=field, seed=self.seed)
        with tempfile.TemporaryDirectory() as folder:
            return measure(made(Path(folder), void=self.void))


runs = st.builds(
    Made,
    delays_ms=st.lists(st.sampled_from([0.5, 0.52, 0.6, 1.0, 8.0]), min_size=3, max_size=3),
    failing=st.sampled_from([0.0, 0.0, 0.02, 0.5, 1.0]),
    blocks=st.sampled_from([4, 5, 7]),
    seed=st.integers(0, 1000),
    void=voids,
)


@settings(max_examples=8, derandomize=True, deadline=None, phases=[Phase.generate])  # shrinking would take minutes
@given(runs)
def test_nothing_contradicts_a_number(made: Made) -> None:
    measured = made.measured()
    rows_rest_on_the_same_blocks(measured)
    for answer in group_answers(measured):
        order_and_standings_agree_with_the_numbers(answer)
        the_sentence_agrees_with_the_squares(answer)
    the_headline_agrees_with_the_squares(measured)
    for sentence in (headline(measured), *(verdict.sentence for verdict in verdicts(measured))):
        assert not re.search(r"nan|None|–\s|∞×|-inf| 0 messages", sentence), sentence


def rows_rest_on_the_same_blocks(measured: Measurements) -> None:
    """And on no void cell's."""
    taking_part = [cell for cell in measured.cells if cell.blocks and not cell.apart]
    assert len({cell.blocks for cell in taking_part}) <= 1
    for cell in measured.cells:
        assert set(cell.blocks) <= {record.block for record in cell.records if record.status == "ok"}
        assert set(cell.messages["block"]) == set(cell.blocks)


def order_and_standings_agree_with_the_numbers(answer: Answer) -> None:
    squares, column = answer.question.squares, answer.question.column
    sign = -1 if column == COMPLETED else 1
    judged = [square for square in squares if square.ratio is not None or square.standing == "best"]
    for better, worse in pairwise(judged):
        assert sign * better.estimate.value <= sign * worse.estimate.value
    assert [square.standing for square in squares].count("best") <= 1
    for square in squares:
        standing_agrees(square, squares[0], column)
    for pair in answer.pairs:
        contrast = pair.finding.contrast
        assert not pair.claimed or 1 < contrast.ratio.lo <= contrast.ratio.value
        assert pair.claimed or pair.finding.reason or contrast.a == contrast.b
        far_off = math.isfinite(contrast.ratio.value) and contrast.ratio.value > 50 and contrast.blocks >= 5
        assert pair.claimed or not far_off, (pair.worse.title, pair.finding.reason)


def standing_agrees(square: Square, best: Square, column: str) -> None:
    differs = square.estimate.value != best.estimate.value
    if square.standing in ("best", "behind"):
        assert not square.reason
    elif differs or square.standing == "not judged":
        assert square.reason, square
    if square.ratio is not None and best.standing == "best":
        assert math.isclose(square.ratio.value, square.estimate.value / best.estimate.value)
        assert square.standing != "behind" or (square.ratio.value < 1 if column == COMPLETED else square.ratio.lo > 1)
        assert square.standing != "level" or square.ratio.hi <= 2 or "harness" in square.reason or column == COMPLETED


def the_sentence_agrees_with_the_squares(answer: Answer) -> None:
    sentence = answer.question.sentence
    _, _, behind = sentence.partition("Behind: ")
    ratios = [float(found.replace(",", "")) for found in re.findall(r"([\d.,]+)×", behind.partition(" Not judged")[0])]
    assert all(ratio <= 1 if answer.question.column == COMPLETED else ratio >= 1 for ratio in ratios), sentence
    if " are equal, " in sentence:
        assert len({square.estimate.value for square in answer.question.squares}) == 1
    for square in answer.question.squares:
        assert square.key.title in sentence


def the_headline_agrees_with_the_squares(measured: Measurements) -> None:
    """Who is to be taken is behind nowhere where it is felt, or by what nobody feels; who is late is behind."""
    said = headline(measured)
    rows = {row.id: row for row in scoreboard(measured)}
    taken = re.match(r"Take (.*?): ", said)
    for name in re.split(", | or ", taken[1]) if taken else ():
        for id, scale in (("first_token", 1), ("smoothness", 1000)):
            best = rows[id].squares[0]
            (square,) = [square for square in rows[id].squares if square.key.title == name]
            assert square.standing != "not judged", said
            assert square.standing != "behind" or scale * (square.estimate.value - best.estimate.value) <= 10, said
        assert {s.key.title: s for s in rows["survival"].squares}[name].standing != "behind", said
    for names, at in re.findall(r"(?:^|[;:] )([\w, ]+?) (?:is|are) not judged(?: at ([a-z ]+))?", said):
        for name in (name for name in re.split(", | and ", names) if not name[0].isdigit()):  # "2 others"
            felt = [rows[id] for id in ("first_token", "smoothness") if not at or rows[id].title.lower() in at]
            assert {s.standing for row in felt for s in row.squares if s.key.title == name} == {"not judged"}, said
    for name in re.findall(r"(\w+) (?:is late )?by \d", said):
        assert name in {s.key.title for row in rows.values() for s in row.squares if s.standing == "behind"}, said


def test_a_cell_void_in_all_blocks_but_one_takes_nobody_s_blocks(tmp_path: Path) -> None:
    """The other rows keep theirs, and of this one is said how many it has."""
    field = tuple(Caricature(name) for name in TRANSPORTS[:3])
    frozen = {(0, block) for block in range(1, 6)}
    measured = measure(synthetic_run(tmp_path, blocks=6, messages=8, tokens=8, field=field, void=frozen))
    assert [len(measured.cell(name).blocks) for name in TRANSPORTS[:3]] == [1, 6, 6]
    for row in scoreboard(measured):
        (square,) = [square for square in row.squares if square.key.transport == "websocket"]
        assert (square.standing, square.reason) == ("not judged", "1 valid block, 5 needed")
        assert "WebSocket" in row.sentence
    (apart,) = [warning.text for warning in run_warnings(measured) if warning.code == "takes no part"]
    assert "WebSocket (1 valid block, 5 needed)" in apart


def test_a_void_cell_takes_its_block_from_its_rivals(tmp_path: Path) -> None:
    field = tuple(Caricature(name) for name in TRANSPORTS[:3])
    measured = measure(synthetic_run(tmp_path, blocks=6, messages=8, tokens=8, field=field, void={(0, 2)}))
    assert {cell.blocks for cell in measured.cells} == {(1, 3, 4, 5, 6)}
    (common,) = [warning.text for warning in run_warnings(measured) if warning.code == "common blocks"]
    assert common.endswith("valid: 1, 3, 4, 5 and 6.")
    assert "In the 2 valid cells of blocks in which a rival was void" in verdicts(measured)[-1].sentence

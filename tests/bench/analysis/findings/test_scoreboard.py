"""The scoreboard: every contestant stands somewhere, and nobody stands unresolved without a reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.analysis.findings.comparison import compare
from bench.analysis.findings.headline import headline
from bench.analysis.findings.scoreboard import ScoredQuestion, findable_ratios, group_answers, scoreboard, standing_of
from bench.analysis.findings.topics import TOPICS
from bench.analysis.measures.groups import Measurements, measure
from bench.analysis.measures.quantities import quantity
from bench.analysis.report.number_tables import number_tables
from bench.analysis.report.questions import against
from bench.analysis.statistics.claims import Scale, judged, scale
from bench.analysis.statistics.contrasts import contrast
from bench.analysis.synthetic import Caricature, synthetic_run

FIELD = (
    Caricature("polling", "", "pull", 1000, cpu_us=25),
    Caricature("websocket", "", "push", 0.5, cpu_us=10),
    Caricature("sse", "", "push", 0.5, cpu_us=20),
    Caricature("sse", "copy=aa", "push", 0.5, cpu_us=20),
)


def made(folder: Path, blocks: int = 6) -> Measurements:
    return measure(synthetic_run(folder, blocks=blocks, messages=20, tokens=20, field=FIELD))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measurements:
    return made(tmp_path_factory.mktemp("run"))


def row(measured: Measurements, id: str) -> ScoredQuestion:
    return next(question for question in scoreboard(measured) if question.id == id)


def test_a_row_for_each_question_and_a_square_for_each_contestant(measured: Measurements) -> None:
    rows = scoreboard(measured)
    assert [question.id for question in rows] == [topic.id for topic in TOPICS if topic.on_board]
    for question in rows:
        assert sorted(square.key.title for square in question.squares) == ["Polling", "SSE", "WebSocket"]
        assert [square.standing for square in question.squares].count("best") == 1


def test_who_is_behind_is_so_by_a_ratio_with_its_interval(measured: Measurements) -> None:
    standing = {square.key.title: square for square in row(measured, "cpu").squares}
    assert standing["WebSocket"].standing == "best"
    behind = standing["SSE"]
    assert behind.standing == "behind"
    assert behind.ratio is not None
    assert 1.8 < behind.ratio.lo < behind.ratio.hi < 2.2
    assert row(measured, "cpu").sentence.startswith("CPU (of client, server and Redis): WebSocket takes the least")


def test_equal_ones_are_level(measured: Measurements) -> None:
    assert [s.standing for s in row(measured, "survival").squares] == ["best", "level", "level"]
    assert row(measured, "survival").sentence.endswith("are equal, 100 %.")
    first = {square.key.title: square for square in row(measured, "first_token").squares}
    assert {first["SSE"].standing, first["WebSocket"].standing} == {"best", "level"}
    assert first["Polling"].standing == "behind"


def test_too_few_blocks_are_a_reason(tmp_path: Path) -> None:
    squares = row(made(tmp_path, blocks=3), "cpu").squares
    assert {(s.standing, s.reason) for s in squares} == {("not judged", "3 valid blocks, 5 needed")}


def test_who_lost_messages_is_judged_by_that_alone(tmp_path: Path) -> None:
    field = (*FIELD[1:], Caricature("chunked", failing=0.5))
    measured = measure(synthetic_run(tmp_path, blocks=6, messages=20, tokens=20, field=field))
    survival = {square.key.title: square for square in row(measured, "survival").squares}
    assert survival["Chunked"].standing == "behind"
    for id in ("first_token", "traffic", "cpu"):
        (lost,) = [square for square in row(measured, id).squares if square.key.title == "Chunked"]
        assert lost.standing == "not judged"
        assert lost.reason.startswith("not complete: ")
        assert lost.reason.endswith(" of 120 messages truncated")


def test_a_difference_that_a_stamp_can_make_is_no_difference(tmp_path: Path) -> None:
    """0.10 against 0.13 ms, in every block: surely other numbers, but the clients' clocks are not that good."""
    field = (Caricature("sse", delay_ms=0.10), Caricature("chunked", delay_ms=0.13))
    measured = measure(synthetic_run(tmp_path, blocks=9, messages=80, tokens=10, field=field))
    behind = row(measured, "first_token").squares[1]
    assert behind.standing == "level"
    assert behind.reason.startswith("within the harness's error (0.07 ms): 1.")


@pytest.mark.parametrize("changes", [{"plan": {"randomised": False}}, {"name": "locust"}])
def test_slices_of_one_test_are_no_blocks_to_claim_from(tmp_path: Path, changes: dict[str, object]) -> None:
    """Locust's transports run at once, and one slice is like the next: their intervals are far too narrow."""
    folder = synthetic_run(tmp_path, blocks=6, messages=20, tokens=20, field=FIELD)
    run = folder.load()
    for name, value in changes.items():
        setattr(run, name, value)
    folder.save(run)
    measured = measure(folder)
    why = "its blocks are slices of one test, not rounds in random order"
    assert {(s.standing, s.reason) for s in row(measured, "cpu").squares} == {("not judged", why)}
    assert row(measured, "survival").status == "resolved"
    assert not any(pair.claimed for answer in group_answers(measured) for pair in answer.pairs)
    assert {change.judgement for change in compare(folder, folder).changes} <= {"no difference", "not resolved"}
    assert f"No claim: {why}." in against(measured, "Polling", "SSE")


def test_a_wide_interval_is_not_as_good_as_the_best() -> None:
    """1.5 times as much, and perhaps four times: neither behind nor level."""
    unsure, close = (judged([(contrast(1.5, 1.0, error, 12, 5), Scale())])[0] for error in (0.45, 0.11))
    assert (standing_of(unsure), unsure.reason[:33]) == ("not judged", "the difference could be chance: 1")
    assert standing_of(close) == "behind"
    assert standing_of(judged([(contrast(1.1, 1.0, 0.1, 12, 5), Scale())])[0]) == "level"


def test_waiting_is_read_in_ms_wherever_people_read_it(measured: Measurements) -> None:
    """Its column stays in seconds; "0.00273 s/answer" is no number for a reader, nor for a phone's narrow column."""
    smoothness = row(measured, "smoothness")
    assert smoothness.column == "wait_s_per_answer"
    assert re.search(r"WebSocket \S+ (\(\S+\) )?ms", smoothness.sentence)
    assert "s/answer" not in smoothness.sentence
    assert quantity(0.00273, "wait_s_per_answer") == "2.73 ms"
    assert ("waiting per answer", "ms") in [heading for table in number_tables(measured) for heading in table.headings]
    within = judged([(contrast(0.0031, 0.0027, 0.01, 12, 5), scale("wait_s_per_answer", "s/answer"))])[0]
    assert within.reason.startswith("within the harness's error (0.5 ms)")


def test_the_resolution_is_a_ratio_above_one_for_each_column(measured: Measurements) -> None:
    found = findable_ratios(measured)
    assert 1 < found["cpu_us_per_token"] < 1.3
    assert "completed_ratio" not in found


def test_numbers_that_nobody_differs_in_are_no_failure_to_find_anything(measured: Measurements, tmp_path: Path) -> None:
    """To say that none could be found in requests, beside "equal, 1 request per message", would be nonsense."""
    assert "requests_per_message" in findable_ratios(measured), "polling has more"
    alike = synthetic_run(tmp_path, blocks=5, messages=6, tokens=6, field=FIELD[1:])
    found = findable_ratios(measure(alike))
    assert "requests_per_message" not in found
    assert "cpu_us_per_token" in found


def test_nobody_is_the_best_of_all_while_others_are_not_judged(tmp_path: Path) -> None:
    """One cell void throughout: it might be better, so its rival is the best of those judged, and no more."""
    void = {(1, block) for block in range(1, 7)}
    cells = (FIELD[0], FIELD[2], FIELD[3], FIELD[1])
    measured = measure(synthetic_run(tmp_path, blocks=6, messages=20, tokens=20, field=cells, void=void))
    said = row(measured, "first_token").sentence
    assert "Best of those judged: WebSocket" in said
    assert "brings it soonest" not in said
    assert "Not judged: SSE (0 valid blocks, 5 needed)" in said
    assert "it leads" not in headline(measured)
    assert "Take WebSocket: " in headline(measured)
